//! The state of one session between its two legs, without IO: [`front`](super::front) takes what the client says,
//! [`back`](super::back) what the target says; both append to the same two outputs.
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use sluice_api::record;
use sluice_protocol::postgres::sql::{CacheKey, Catalogue, ColumnId, SearchPath, VerdictCache};
use sluice_protocol::postgres::wire::{InvalidMessage, Report, report::code, session, write};

use super::Tape;
use super::execution::{Entry, Execution, Prepared, Session};
use super::known::Memory;
use crate::gate::{GatedSession, Held, Permit};
use crate::masking::{self, InvalidRow, MaskKey};
use crate::services::postgres::preview::Questions;

/// A message that has to be judged or masked as a whole may be as long as this; longer ones are refused.
pub(super) const MAX_WHOLE: usize = 64 << 20;
/// Answers that may be owed before the client has to wait.
pub(super) const MAX_OWED: usize = 512;
/// Fails in every state of a session and leaves nothing behind. It reaches the target in the place of what was
/// refused, so that the transaction, the pipeline and the order of answers are what they are after any error; and
/// the target's own log shows that something was refused.
const POISON: &str = "sluice refused this statement";

/// What makes names mean what they mean.
const PATH: [&str; 3] = ["SHOW search_path", "SHOW role", "SHOW session_authorization"];

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The client said goodbye or closed.
    #[error("the client left")]
    Client,
    /// The target closed.
    #[error("the target closed the connection")]
    Server,
    /// Bytes that are not the protocol.
    #[error("the client broke the protocol: {0}")]
    ClientProtocol(InvalidMessage),
    /// Bytes that are not the protocol, or answers that nobody asked for.
    #[error("the target broke the protocol: {0}")]
    ServerProtocol(InvalidMessage),
    /// A row that can't be read can't be masked.
    #[error("the target sent a row that can't be read: {0}")]
    Row(InvalidRow),
    /// A row that needs a mask is longer than may be held.
    #[error("a row of {0} bytes is too long to be masked")]
    RowTooLong(usize),
    /// A setting that every verdict depends on was changed.
    #[error("{0} was changed to {1}")]
    Setting(&'static str, String),
    /// Login, policy, administrator.
    #[error("{0}")]
    Ended(crate::gate::EndReason),
    /// Nobody runs unrecorded.
    #[error("the session can't be recorded: {0}")]
    Recorder(String),
    /// Without a catalogue nothing can be judged.
    #[error("{0}")]
    Catalogue(String),
}

/// What the client's side waits for.
pub(super) enum Pause {
    /// The target has to answer what it owes.
    Answers,
    /// The target has to answer something of it.
    Room,
    /// Somebody has to approve; the message waits at the front of the input.
    Held(Vec<Holding>),
    /// The catalogue has to be read again; one that was read before this moment will not do.
    Catalogue(Option<Instant>),
}

/// One statement of a message that waits for somebody else.
pub(super) struct Holding {
    /// Which statement of the message.
    pub(super) index: usize,
    /// Its number in the recording.
    pub(super) operation: u64,
    /// What to ask the server for whoever decides, where that can be asked.
    pub(super) questions: Option<Questions>,
    pub(super) held: Held,
}

/// One that was granted.
pub(super) struct Granted {
    pub(super) index: usize,
    pub(super) operation: u64,
    pub(super) permit: Permit,
}

/// A message that goes through, or away, in pieces.
pub(super) struct Passing {
    pub(super) left: usize,
    pub(super) forward: bool,
    /// Recorded as a stream of this operation.
    pub(super) operation: Option<u64>,
}

/// One session.
pub(super) struct Machine<R> {
    pub(super) session: Session,
    pub(super) gated: Arc<GatedSession>,
    pub(super) tape: R,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) catalogue_read: Instant,
    /// The catalogue was read again for the message at the front: it will not become newer.
    pub(super) catalogue_fresh: bool,
    /// DDL has run since the catalogue was read.
    pub(super) catalogue_old: bool,
    /// Definitions were changed in the open transaction.
    pub(super) tainted: bool,
    pub(super) verdicts: Arc<VerdictCache>,
    pub(super) key: CacheKey,
    pub(super) path: SearchPath,
    /// The path has to be asked for before anything is judged.
    pub(super) path_old: bool,
    /// It was changed in a transaction that has not ended: every end and every error may change it back.
    pub(super) path_in_transaction: bool,
    /// What the target has answered to our own questions about the path so far.
    pub(super) asked: Vec<Option<String>>,
    /// Whether the detectors look at what nobody has classed.
    pub(super) detects: bool,
    /// Nothing is judged before the target has answered everything.
    pub(super) barrier: bool,
    pub(super) pause: Option<Pause>,
    /// Permits for the message at the front of the input, which was held.
    pub(super) granted: Option<Result<Vec<Granted>, Report<'static>>>,
    pub(super) passing_up: Option<Passing>,
    pub(super) passing_down: Option<Passing>,
    /// The operation whose CopyData may go to the target.
    pub(super) copying: Option<u64>,
    pub(super) next_operation: u64,
    pub(super) mask_key: MaskKey,
    pub(super) unmasked: HashMap<ColumnId, bool>,
    pub(super) unmasked_generation: u64,
    pub(super) memory: Memory,
    pub(super) to_client: Vec<u8>,
    pub(super) to_server: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    /// Something in the present batch is under `@record("strict")`.
    pub(super) strict: bool,
    /// The answers to what is skipped after a cut are thrown away up to ReadyForQuery.
    pub(super) hushed: bool,
    /// The target has announced the end of the session by a FATAL error.
    pub(super) fatal: bool,
    pub(super) operations: u64,
}

/// What a machine begins with.
pub(super) struct Start<R> {
    pub(super) gated: Arc<GatedSession>,
    pub(super) tape: R,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) verdicts: Arc<VerdictCache>,
    pub(super) search_path: String,
    pub(super) mask_key: MaskKey,
}

impl<R: Tape> Machine<R> {
    pub(super) fn new(start: Start<R>) -> Self {
        let role = start.gated.facts().target.user().to_owned();
        let path = SearchPath::parse(&start.search_path, &role);
        let detects = start.gated.facts().target.postgres().is_none_or(|postgres| postgres.detect);
        Self {
            session: Session::new(),
            catalogue: start.catalogue,
            catalogue_read: Instant::now(),
            catalogue_fresh: false,
            catalogue_old: false,
            tainted: false,
            verdicts: start.verdicts,
            key: CacheKey::default(),
            path_old: path.is_none(),
            path: path.unwrap_or_default(),
            path_in_transaction: false,
            asked: Vec::new(),
            detects,
            barrier: false,
            pause: None,
            granted: None,
            passing_up: None,
            passing_down: None,
            copying: None,
            next_operation: 1,
            mask_key: start.mask_key,
            unmasked: HashMap::new(),
            unmasked_generation: start.gated.generation(),
            memory: Memory::default(),
            to_client: Vec::new(),
            to_server: Vec::new(),
            scratch: Vec::new(),
            strict: false,
            hushed: false,
            fatal: false,
            operations: 0,
            gated: start.gated,
            tape: start.tape,
        }
    }

    /// The number of the next operation of the recording.
    pub(super) fn operation(&mut self) -> u64 {
        let number = self.next_operation;
        self.next_operation += 1;
        self.operations += 1;
        number
    }

    /// Says something to the client between two answers of the target.
    pub(super) fn notice(&mut self, report: &Report<'_>) {
        let text =
            [report.message(), report.get(b'D').unwrap_or_default(), report.get(b'H').unwrap_or_default()];
        let text = text.into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("\n");
        self.tape.entry(record::entry::Entry::Message(record::Message {
            severity: report.severity().to_owned(),
            text,
            from_sluice: true,
            operation: 0,
        }));
        report.write_notice(&mut self.to_client);
    }

    /// The client gets `report` for the message at hand, in its turn.
    pub(super) fn refuse(&mut self, simple: bool, report: &Report<'_>) {
        let mut instead = Vec::new();
        report.write_error(&mut instead);
        let instead = Some(instead.into_boxed_slice());
        let owed = if simple {
            write::query(POISON, &mut self.to_server);
            session::Owed::Query(Box::<Execution>::default())
        } else {
            // A name of its own: the unnamed statement stays what it is.
            write::parse("sluice_refused", POISON, &mut self.to_server);
            session::Owed::Parse { name: "sluice_refused".into(), statement: Arc::<Prepared>::default() }
        };
        self.session.sent(Entry { owed, own: false, instead });
    }

    /// The client's side waits; what it waits for must not sit in the target's output buffer.
    pub(super) fn wait_for(&mut self, pause: Pause) {
        if self.session.unsynced() {
            write::flush(&mut self.to_server);
        }
        self.pause = Some(pause);
    }

    /// Asks the target for its search_path and role, without a trace in the client's transaction: SHOW takes no
    /// snapshot, so that SET TRANSACTION may still follow, and a transaction sees what it would see without us.
    pub(super) fn probe(&mut self) {
        const NAME: &str = "sluice_path";
        let within = self.session.segment_open();
        self.asked.clear();
        for question in PATH {
            write::parse(NAME, question, &mut self.to_server);
            write::bind(NAME, NAME, &[], &mut self.to_server);
            write::execute(NAME, 0, &mut self.to_server);
            write::close(b'P', NAME, &mut self.to_server);
            write::close(b'S', NAME, &mut self.to_server);
            let portal = super::execution::Portal {
                prepared: Arc::default(),
                understood: None,
                parameters: Vec::new(),
                results: Default::default(),
                shape: Default::default(),
                started: Default::default(),
                hold: false,
                cursor: false,
            };
            let owed = [
                session::Owed::Parse { name: NAME.into(), statement: Arc::default() },
                session::Owed::Bind { name: NAME.into(), portal: Arc::new(portal) },
                session::Owed::Execute(Box::default()),
                session::Owed::ClosePortal(NAME.into()),
                session::Owed::CloseStatement(NAME.into()),
            ];
            for owed in owed {
                self.session.sent(Entry { owed, own: true, instead: None });
            }
        }
        if within {
            write::flush(&mut self.to_server);
        } else {
            write::sync(&mut self.to_server);
            self.session.sent_sync(true);
        }
        self.pause = Some(Pause::Answers);
    }

    /// The answer to one question of [`Machine::probe`].
    pub(super) fn probed(&mut self, rows: &[Vec<Option<String>>]) {
        let answer = match rows {
            [row] => row.first().cloned().flatten(),
            _ => None,
        };
        self.asked.push(answer);
        let [setting, role, login] = self.asked.as_slice() else { return };
        let found = match (setting, role, login) {
            (Some(setting), Some(role), Some(login)) => {
                // without SET ROLE one acts as whoever the session is
                SearchPath::parse(setting, if role == "none" { login } else { role })
            }
            _ => None,
        };
        // what can't be read stays unknown, and is asked for again
        if let Some(path) = found {
            self.path = path;
            self.path_old = false;
        }
    }

    /// What the detectors leave of words.
    pub(super) fn scrub<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.detects { masking::scrub(text) } else { Cow::Borrowed(text) }
    }

    /// A catalogue that was read again.
    pub(super) fn renewed(&mut self, catalogue: Arc<Catalogue>) {
        self.catalogue = catalogue;
        self.catalogue_read = Instant::now();
        self.catalogue_fresh = true;
        self.catalogue_old = false;
        self.unmasked.clear();
    }
}

impl End {
    /// The last words to the client; `None` where there is nobody to hear them.
    pub(super) fn report(&self) -> Option<Report<'static>> {
        let fatal = |code: &'static str, message: String| Some(Report::new("FATAL", code, message));
        match self {
            Self::Client => None,
            Self::Server => fatal(code::UPSTREAM, "the database closed the connection".to_owned())
                .map(|r| r.hint("Connect again; if it stays so, ask the owner of the database.")),
            Self::ClientProtocol(_) => fatal(code::PROTOCOL, self.to_string()),
            Self::ServerProtocol(_) | Self::Row(_) => fatal(code::UPSTREAM, self.to_string()).map(|r| {
                r.hint("What can't be read can't be masked or recorded. Tell the administrator of this host.")
            }),
            Self::RowTooLong(_) => {
                fatal(code::LIMIT, self.to_string()).map(|r| r.hint("Select fewer or shorter columns."))
            }
            Self::Setting(..) => fatal(code::REFUSED, format!("session ended: {self}")).map(|r| {
                r.hint("Statements are judged under UTF8 and standard_conforming_strings = on alone.")
            }),
            Self::Ended(_) => fatal(code::ENDED, format!("session ended: {self}")),
            Self::Recorder(_) => fatal(code::RECORDER, self.to_string())
                .map(|r| r.hint("Nothing passes unrecorded. Ask the administrator of this host.")),
            Self::Catalogue(_) => fatal(code::UPSTREAM, self.to_string()).map(|r| {
                r.hint("Without its definitions no statement can be judged. Ask the owner of the database.")
            }),
        }
    }
}
