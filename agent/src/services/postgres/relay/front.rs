//! What the client says.
use std::sync::Arc;

use sluice_api::record;
use sluice_policy::{Ask, Operation, Resource, ResourceKind};
use sluice_protocol::postgres::sql::{Kind, Outputs};
use sluice_protocol::postgres::wire::frame::{HEAD, Head, Message};
use sluice_protocol::postgres::wire::front::{self, Bind, Execute, Named, Parse, kind};
use sluice_protocol::postgres::wire::{
    InvalidMessage, Report, report::code, session, session::Lookup, write,
};

use super::Tape;
use super::execution::{Entry, Execution, Portal, Prepared, Run, Started, Understood};
use super::machine::{End, MAX_OWED, MAX_WHOLE, Machine, Passing, Pause};
use super::understand::{Judged, Wish, refused};
use crate::gate::Outcome;
use crate::services::postgres::parameter::shown;

/// Messages of fixed content are no longer than this.
const MAX_SMALL: usize = 64 << 10;

/// What became of a message.
#[derive(PartialEq, Eq)]
enum Taken {
    /// It has been dealt with.
    Yes,
    /// It stays at the front of the input.
    Later,
}

impl<R: Tape> Machine<R> {
    /// Takes whole messages off the input, as many as can be dealt with now. Returns how many bytes.
    ///
    /// # Errors
    /// [`End`]: the session is over; what stands in the outputs may still go.
    pub(super) fn client_said(&mut self, input: &[u8]) -> Result<usize, End> {
        let mut at = 0;
        while self.pause.is_none() {
            let rest = input.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if self.passing_up.is_some() {
                at += self.pass_up(rest);
                continue;
            }
            let Some(head) = Head::read(rest).map_err(End::ClientProtocol)? else { break };
            let Some(message) = Message::first(rest).map_err(End::ClientProtocol)? else {
                match self.begin_long(head, rest)? {
                    0 => break,
                    n => at += n,
                }
                continue;
            };
            if self.message(message)? == Taken::Later {
                break;
            }
            at += head.total;
            self.catalogue_fresh = false;
            if self.session.owed() >= MAX_OWED && self.pause.is_none() {
                self.wait_for(Pause::Room);
            }
        }
        Ok(at)
    }

    /// A message that is not whole yet: 0 where it has to be waited for.
    fn begin_long(&mut self, head: Head, rest: &[u8]) -> Result<usize, End> {
        match head.kind {
            kind::COPY_DATA => {
                let forward = self.copying.is_some();
                if forward {
                    self.to_server.extend_from_slice(rest.get(..HEAD).unwrap_or_default());
                }
                self.passing_up = Some(Passing { left: head.body(), forward, operation: self.copying });
                Ok(HEAD)
            }
            kind::QUERY | kind::PARSE | kind::BIND | kind::FUNCTION_CALL if head.total > MAX_WHOLE => {
                if !self.session.skipping() {
                    let simple = matches!(head.kind, kind::QUERY | kind::FUNCTION_CALL);
                    let message =
                        format!("refused: a message of {} bytes is too long to be judged", head.total);
                    let report = Report::new("ERROR", code::LIMIT, message)
                        .detail(format!("Statements and parameters may have {MAX_WHOLE} bytes together."))
                        .hint("Use COPY for bulk data.");
                    self.refuse(simple, &report);
                }
                self.passing_up = Some(Passing { left: head.body(), forward: false, operation: None });
                Ok(HEAD)
            }
            kind::QUERY | kind::PARSE | kind::BIND | kind::FUNCTION_CALL => Ok(0),
            _ if head.total > MAX_SMALL => {
                let length = i64::try_from(head.total).unwrap_or(i64::MAX);
                Err(End::ClientProtocol(InvalidMessage::Length { kind: head.kind, length }))
            }
            _ => Ok(0),
        }
    }

    fn pass_up(&mut self, rest: &[u8]) -> usize {
        let Some(mut passing) = self.passing_up.take() else { return 0 };
        let n = passing.left.min(rest.len());
        let piece = rest.get(..n).unwrap_or_default();
        if passing.forward {
            self.to_server.extend_from_slice(piece);
            if let Some(operation) = passing.operation {
                self.tape.stream(operation, piece, true);
            }
        }
        passing.left -= n;
        self.passing_up = (passing.left > 0).then_some(passing);
        n
    }

    fn message(&mut self, message: Message<'_>) -> Result<Taken, End> {
        match message.kind {
            kind::COPY_DATA => {
                if let Some(operation) = self.copying {
                    self.tape.stream(operation, message.body, true);
                    self.to_server.extend_from_slice(message.whole);
                }
            }
            kind::COPY_DONE | kind::COPY_FAIL => {
                if self.copying.take().is_some() {
                    self.to_server.extend_from_slice(message.whole);
                    self.session.sent_copy_end();
                }
            }
            kind::SYNC => {
                self.to_server.extend_from_slice(message.whole);
                self.session.sent_sync(false);
            }
            kind::FLUSH => self.to_server.extend_from_slice(message.whole),
            kind::TERMINATE => {
                // as the server does it: what was asked before is answered before, and is on record with its end
                if !self.session.settled() && self.copying.is_none() {
                    return Ok(self.later());
                }
                self.to_server.extend_from_slice(message.whole);
                return Err(End::Client);
            }
            kind::QUERY
            | kind::PARSE
            | kind::BIND
            | kind::DESCRIBE
            | kind::EXECUTE
            | kind::CLOSE
            | kind::FUNCTION_CALL => {
                if self.session.skipping() {
                    // the target ignores it, up to a Sync; it need not even see it
                    return Ok(Taken::Yes);
                }
                return self.request(message).map_err(End::ClientProtocol);
            }
            other => return Err(End::ClientProtocol(InvalidMessage::Unexpected(other))),
        }
        Ok(Taken::Yes)
    }

    fn request(&mut self, message: Message<'_>) -> Result<Taken, InvalidMessage> {
        match message.kind {
            kind::QUERY => self.query(message),
            kind::PARSE => self.parse(message),
            kind::BIND => self.bind(message),
            kind::DESCRIBE => self.describe(message),
            kind::EXECUTE => self.execute(message),
            kind::CLOSE => self.close(message),
            _ => self.function_call(message),
        }
    }

    fn forward(
        &mut self,
        message: Message<'_>,
        owed: session::Owed<Arc<Prepared>, Arc<Portal>, Box<Execution>>,
    ) {
        self.to_server.extend_from_slice(message.whole);
        self.session.sent(Entry { owed, own: false, instead: None });
    }

    fn query(&mut self, message: Message<'_>) -> Result<Taken, InvalidMessage> {
        let text = front::query(message.body)?;
        let Ok(text) = std::str::from_utf8(text) else {
            self.refuse(true, &not_utf8());
            return Ok(Taken::Yes);
        };
        if !self.ready() {
            return Ok(Taken::Later);
        }
        let Some(analysis) = self.analyse(text) else { return Ok(Taken::Later) };
        let single = analysis.statements.len() == 1;
        let wishes: Vec<Wish> = (0..analysis.statements.len())
            .map(|index| {
                let understood = Understood { analysis: Arc::clone(&analysis), index };
                let span = understood.statement().map(|s| s.span.clone()).filter(|_| !single);
                let own = span.and_then(|span| text.get(span)).unwrap_or(text);
                Wish { understood, text: own.into(), parameters: Vec::new(), portal: None }
            })
            .collect();
        match self.judge(&wishes) {
            Judged::Wait => return Ok(Taken::Later),
            Judged::Refused(report) => self.refuse(true, &report),
            Judged::Permitted(runs) => {
                self.copying = copy_in(&wishes, &runs);
                let execution = Execution { runs: runs.into(), ..Execution::default() };
                self.forward(message, session::Owed::Query(Box::new(execution)));
            }
        }
        Ok(Taken::Yes)
    }

    fn parse(&mut self, message: Message<'_>) -> Result<Taken, InvalidMessage> {
        let parse = Parse::read(message.body)?;
        let Ok(text) = std::str::from_utf8(parse.text) else {
            self.refuse(false, &not_utf8());
            return Ok(Taken::Yes);
        };
        if self.session.full() && !parse.name.is_empty() {
            let report = Report::new("ERROR", code::LIMIT, "too many prepared statements in one session")
                .hint("Close those that are not needed any more.");
            self.refuse(false, &report);
            return Ok(Taken::Yes);
        }
        if !self.ready() {
            return Ok(Taken::Later);
        }
        let Some(analysis) = self.analyse(text) else { return Ok(Taken::Later) };
        if analysis.statements.len() > 1 {
            let text = "cannot insert multiple commands into a prepared statement";
            self.refuse(false, &Report::new("ERROR", "42601", text));
            return Ok(Taken::Yes);
        }
        let wish = Wish {
            understood: Understood { analysis, index: 0 },
            text: text.into(),
            parameters: Vec::new(),
            portal: None,
        };
        if let Some(report) = self.refused_early(&wish) {
            self.refuse(false, &report);
            return Ok(Taken::Yes);
        }
        let prepared = Prepared { text: text.into(), types: parse.types.into(), ..Prepared::default() };
        let owed = session::Owed::Parse { name: parse.name.into(), statement: Arc::new(prepared) };
        self.forward(message, owed);
        Ok(Taken::Yes)
    }

    fn bind(&mut self, message: Message<'_>) -> Result<Taken, InvalidMessage> {
        let bind = Bind::read(message.body)?;
        if !self.ready() {
            return Ok(Taken::Later);
        }
        let prepared = match self.session.statement(bind.statement) {
            Lookup::Known(prepared) => prepared,
            Lookup::Wait => return Ok(self.later()),
            Lookup::Unknown => {
                self.refuse(false, &missing("26000", "prepared statement", bind.statement));
                return Ok(Taken::Yes);
            }
        };
        let text = Arc::clone(&prepared);
        let Some(analysis) = self.analyse(&text.text) else { return Ok(Taken::Later) };
        if analysis.statements.len() > 1 {
            // it had one when it was prepared; never seen, and not to be run
            self.refuse(false, &missing("26000", "prepared statement", bind.statement));
            return Ok(Taken::Yes);
        }
        let parameters =
            bind.parameters.iter().enumerate().map(|(i, p)| shown(bind.formats.binary(i), *p)).collect();
        let portal = Portal {
            prepared,
            understood: (!analysis.statements.is_empty()).then_some(Understood { analysis, index: 0 }),
            parameters,
            results: bind.results,
            shape: Default::default(),
            started: Default::default(),
            hold: false,
            cursor: false,
        };
        self.forward(message, session::Owed::Bind { name: bind.portal.into(), portal: Arc::new(portal) });
        Ok(Taken::Yes)
    }

    fn describe(&mut self, message: Message<'_>) -> Result<Taken, InvalidMessage> {
        let owed = match Named::read(message.body)? {
            Named::Statement(name) => match self.session.statement(name) {
                Lookup::Known(prepared) => session::Owed::DescribeStatement(prepared),
                Lookup::Wait => return Ok(self.later()),
                Lookup::Unknown => {
                    self.refuse(false, &missing("26000", "prepared statement", name));
                    return Ok(Taken::Yes);
                }
            },
            Named::Portal(name) => match self.session.portal(name) {
                Lookup::Known(portal) => session::Owed::DescribePortal(portal),
                Lookup::Wait => return Ok(self.later()),
                Lookup::Unknown => {
                    self.refuse(false, &missing("34000", "portal", name));
                    return Ok(Taken::Yes);
                }
            },
        };
        self.forward(message, owed);
        Ok(Taken::Yes)
    }

    fn execute(&mut self, message: Message<'_>) -> Result<Taken, InvalidMessage> {
        let execute = Execute::read(message.body)?;
        if !self.ready() {
            return Ok(Taken::Later);
        }
        let portal = match self.session.portal(execute.portal) {
            Lookup::Known(portal) => portal,
            Lookup::Wait => return Ok(self.later()),
            Lookup::Unknown => {
                self.refuse(false, &missing("34000", "portal", execute.portal));
                return Ok(Taken::Yes);
            }
        };
        let wishes: Vec<Wish> = portal
            .understood
            .iter()
            .map(|understood| Wish {
                understood: understood.clone(),
                text: portal.prepared.text.as_ref().into(),
                parameters: portal.parameters.clone(),
                portal: Some(Arc::clone(&portal)),
            })
            .collect();
        let generation = self.gated.generation();
        // A portal that stopped at its row limit goes on: the same statement, permitted once.
        let started = portal.started.lock().clone();
        let going_on = started.filter(|started| started.generation == generation && !portal.cursor);
        let runs = match going_on {
            Some(started) => vec![self.resumed(started, &portal)],
            None => match self.judge(&wishes) {
                Judged::Wait => return Ok(Taken::Later),
                Judged::Refused(report) => {
                    self.refuse(false, &report);
                    return Ok(Taken::Yes);
                }
                Judged::Permitted(runs) => runs,
            },
        };
        if let Some(run) = runs.first() {
            let (operation, budget) = (run.operation, run.budget.clone());
            *portal.started.lock() = Some(Started { operation, generation, budget });
        }
        self.copying = copy_in(&wishes, &runs);
        self.describe_ourselves(execute.portal, &portal);
        let execution = Execution { runs: runs.into(), ..Execution::default() };
        self.forward(message, session::Owed::Execute(Box::new(execution)));
        Ok(Taken::Yes)
    }

    fn resumed(&self, started: Started, portal: &Arc<Portal>) -> Run {
        Run {
            operation: started.operation,
            outputs: portal.understood.clone(),
            started: std::time::Instant::now(),
            rows: 0,
            budget: started.budget,
            strict: false,
            sensitive: self.catalogue.has_classes(),
            copy_to: None,
            after: Vec::new(),
            portal: Some(Arc::clone(portal)),
            described: false,
            known: None,
        }
    }

    /// Rows can only be masked by their columns: where nobody has asked for them, we do.
    fn describe_ourselves(&mut self, name: &str, portal: &Arc<Portal>) {
        let returns_rows = portal.understood.as_ref().and_then(Understood::statement).is_some_and(|s| {
            !matches!(&s.outputs, Outputs::Known(outputs) if outputs.is_empty())
                || matches!(s.kind, Kind::Execute { .. } | Kind::Fetch { .. } | Kind::Unknown)
        });
        if !returns_rows || portal.shape.lock().is_some() || portal.prepared.shape.lock().is_some() {
            return;
        }
        let asked = self.session.entries().any(|entry| match &entry.owed {
            session::Owed::DescribePortal(p) => Arc::ptr_eq(p, portal),
            session::Owed::DescribeStatement(s) => Arc::ptr_eq(s, &portal.prepared),
            _ => false,
        });
        if asked {
            return;
        }
        write::describe(b'P', name, &mut self.to_server);
        let owed = session::Owed::DescribePortal(Arc::clone(portal));
        self.session.sent(Entry { owed, own: true, instead: None });
    }

    fn close(&mut self, message: Message<'_>) -> Result<Taken, InvalidMessage> {
        let owed = match Named::read(message.body)? {
            Named::Statement(name) => session::Owed::CloseStatement(name.into()),
            Named::Portal(name) => session::Owed::ClosePortal(name.into()),
        };
        self.forward(message, owed);
        Ok(Taken::Yes)
    }

    /// The fast path names a function by its oid and runs it without a statement: not understood.
    fn function_call(&mut self, message: Message<'_>) -> Result<Taken, InvalidMessage> {
        if !self.ready() {
            return Ok(Taken::Later);
        }
        let facts = self.gated.facts();
        let place = Resource::new(ResourceKind::Database, [&facts.target.name, &facts.database]);
        let operation = Operation {
            kind: "statement",
            text: "FunctionCall".to_owned(),
            parameters: Vec::new(),
            asks: vec![Ask::new("unknown", place)],
            features: Default::default(),
            understood: "calls a function by the fast path: not understood".to_owned(),
        };
        let number = self.operation();
        let (verdict, rules, refusal) = match self.gated.judge(&operation) {
            Outcome::Permit(permit) => ("permit", permit.rules().to_vec(), None),
            Outcome::Refuse(refusal) => {
                ("refuse", refusal.rules.clone(), Some(refused(&refusal, &operation)))
            }
            Outcome::Hold(held) => {
                let text = "refused: a FunctionCall can't wait for approval";
                ("refuse", held.rules().to_vec(), Some(Report::new("ERROR", code::REFUSED, text)))
            }
        };
        self.tape.entry(record::entry::Entry::Operation(record::Operation {
            id: number,
            kind: "function-call".to_owned(),
            text: operation.text,
            verdict: verdict.to_owned(),
            rules,
            effects: vec!["unknown".to_owned()],
            ..record::Operation::default()
        }));
        match refusal {
            Some(report) => self.refuse(true, &report),
            None => self.forward(message, session::Owed::Function(Box::default())),
        }
        Ok(Taken::Yes)
    }

    fn later(&mut self) -> Taken {
        self.wait_for(Pause::Answers);
        Taken::Later
    }
}

/// The operation whose data the client is going to send.
fn copy_in(wishes: &[Wish], runs: &[Run]) -> Option<u64> {
    let mut pairs = wishes.iter().zip(runs);
    let reads =
        |wish: &Wish| wish.understood.statement().is_some_and(|s| matches!(s.kind, Kind::CopyFrom(_)));
    pairs.find(|(wish, _)| reads(wish)).map(|(_, run)| run.operation)
}

fn not_utf8() -> Report<'static> {
    Report::new("ERROR", code::ENCODING, "refused: the statement is not UTF-8, so it can't be judged")
}

fn missing(code: &'static str, what: &str, name: &str) -> Report<'static> {
    Report::new("ERROR", code, format!("{what} \"{name}\" does not exist"))
}
