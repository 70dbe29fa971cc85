//! Which answer belongs to which message. The server answers in order, so what it owes stands in one queue;
//! an answer that does not fit its front is a protocol error and ends the session: better no session than one
//! whose rows are taken for those of another statement.
//!
//! Names of statements and portals follow the *server's* state: what a Parse or Bind makes counts once the
//! server has said so. A message that refers to a name sees what its own pipeline segment (up to Sync) made;
//! when an earlier, unanswered segment touches the name, [`Lookup::Wait`] says so, because an error there would
//! leave the older object in place. Errors drop what is owed up to the next Sync, as the server does.
use std::collections::{HashMap, VecDeque};

use super::back::{TransactionStatus, kind};
use super::frame::InvalidMessage;

/// How many prepared statements and portals one session may have.
pub const MAX_NAMES: usize = 10_000;

/// What the server owes for one message. `S` is what is kept for a statement, `P` for a portal, `O` for an
/// execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owed<S, P, O> {
    /// Results, then ReadyForQuery.
    Query(O),
    /// FunctionCallResponse, then ReadyForQuery.
    Function(O),
    /// ParseComplete.
    Parse {
        /// Name at the server; empty: unnamed.
        name: Box<str>,
        /// What becomes known under it.
        statement: S,
    },
    /// BindComplete.
    Bind {
        /// Name at the server; empty: unnamed.
        name: Box<str>,
        /// What becomes known under it.
        portal: P,
    },
    /// ParameterDescription, then RowDescription or NoData.
    DescribeStatement(S),
    /// RowDescription or NoData.
    DescribePortal(P),
    /// CloseComplete.
    CloseStatement(Box<str>),
    /// CloseComplete.
    ClosePortal(Box<str>),
    /// Rows or COPY, then CommandComplete, PortalSuspended or EmptyQueryResponse.
    Execute(O),
    /// Nothing of its own: marks where CopyDone or CopyFail went.
    CopyEnd,
    /// ReadyForQuery.
    Sync,
}

/// One message that was sent to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<S, P, O> {
    /// What for.
    pub owed: Owed<S, P, O>,
    /// Sluice sent it on its own account: the client does not see the answer.
    pub own: bool,
    /// An ErrorResponse that the client gets in the place of the server's. The message that was sent is one
    /// that is bound to fail, so that the state of the transaction is what it is after any error.
    pub instead: Option<Box<[u8]>>,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    /// This.
    Known(T),
    /// Nothing that we have seen made.
    Unknown,
    /// It can't be said before the server has answered more.
    Wait,
}

/// Queue, names and transaction status of one session.
#[derive(Debug)]
pub struct Session<S, P, O> {
    queue: VecDeque<Entry<S, P, O>>,
    statements: HashMap<Box<str>, S>,
    portals: HashMap<Box<str>, P>,
    status: TransactionStatus,
    /// After an error: the server ignores everything up to a Sync that has not been sent yet.
    skipping: bool,
    /// The server waits for CopyData, and the client has not ended it: Sync and Flush are ignored there.
    copy_open: bool,
    /// Messages of the extended protocol were sent since the last Sync or Query: an implicit transaction may be open.
    segment_open: bool,
}

impl<S: Clone, P: Clone, O> Default for Session<S, P, O> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            status: TransactionStatus::Idle,
            skipping: false,
            copy_open: false,
            segment_open: false,
        }
    }
}

impl<S: Clone, P: Clone, O> Session<S, P, O> {
    /// As after the first ReadyForQuery.
    pub fn new() -> Self {
        Self::default()
    }

    /// As the last ReadyForQuery told.
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// How many answers are owed.
    pub fn owed(&self) -> usize {
        self.queue.len()
    }

    /// Nothing is owed: what is known of the server is all there is to know.
    pub fn settled(&self) -> bool {
        self.queue.is_empty()
    }

    /// Messages were sent whose answers the server may keep back until a Sync or Flush.
    pub fn unsynced(&self) -> bool {
        self.queue.back().is_some_and(|e| {
            !matches!(e.owed, Owed::Sync | Owed::Query(_) | Owed::Function(_) | Owed::CopyEnd)
        })
    }

    /// A pipeline has begun that no Sync has ended, whether its answers have come or not: what it did is not
    /// committed, and a Sync or Query of our own would commit it.
    pub fn segment_open(&self) -> bool {
        self.segment_open
    }

    /// What is owed, the next answer's first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<S, P, O>> {
        self.queue.iter()
    }

    /// The server ignores what comes, up to a Sync.
    pub fn skipping(&self) -> bool {
        self.skipping
    }

    // --- the client's side ------------------------------------------------------------------------------

    /// Notes a message that was sent to the server. Not for Sync, CopyDone and CopyFail.
    pub fn sent(&mut self, entry: Entry<S, P, O>) {
        self.segment_open = !matches!(entry.owed, Owed::Query(_) | Owed::Function(_));
        self.queue.push_back(entry);
    }

    /// Notes a Sync that was sent to the server; without effect while the server reads CopyData.
    pub fn sent_sync(&mut self, own: bool) {
        if !self.copy_open {
            self.skipping = false;
            self.segment_open = false;
            self.queue.push_back(Entry { owed: Owed::Sync, own, instead: None });
        }
    }

    /// Notes a CopyDone or CopyFail that was sent to the server.
    pub fn sent_copy_end(&mut self) {
        self.copy_open = false;
        self.queue.push_back(Entry { owed: Owed::CopyEnd, own: true, instead: None });
    }

    /// What a statement's name stands for, for the next message.
    pub fn statement(&self, name: &str) -> Lookup<S> {
        self.look(
            |owed| match owed {
                Owed::Parse { name: n, statement } if **n == *name => Some(Some(statement.clone())),
                Owed::CloseStatement(n) if **n == *name => Some(None),
                _ => None,
            },
            self.statements.get(name),
        )
    }

    /// What a portal's name stands for, for the next message.
    pub fn portal(&self, name: &str) -> Lookup<P> {
        self.look(
            |owed| match owed {
                Owed::Bind { name: n, portal } if **n == *name => Some(Some(portal.clone())),
                Owed::ClosePortal(n) if **n == *name => Some(None),
                _ => None,
            },
            self.portals.get(name),
        )
    }

    fn look<T: Clone>(
        &self,
        change: impl Fn(&Owed<S, P, O>) -> Option<Option<T>>,
        confirmed: Option<&T>,
    ) -> Lookup<T> {
        let mut same_segment = true;
        for entry in self.queue.iter().rev() {
            if matches!(entry.owed, Owed::Sync | Owed::Query(_) | Owed::Function(_)) {
                same_segment = false;
            }
            match change(&entry.owed) {
                None => {}
                Some(_) if !same_segment => return Lookup::Wait,
                Some(Some(found)) => return Lookup::Known(found),
                Some(None) => return Lookup::Unknown,
            }
        }
        confirmed.map_or(Lookup::Unknown, |t| Lookup::Known(t.clone()))
    }

    /// Whether no further name may be made.
    pub fn full(&self) -> bool {
        self.statements.len() + self.portals.len() + self.queue.len() >= MAX_NAMES
    }

    // --- the server's side ------------------------------------------------------------------------------

    /// What the next answer is for.
    pub fn front(&self) -> Option<&Entry<S, P, O>> {
        self.queue.front()
    }

    /// What the next answer is for.
    pub fn front_mut(&mut self) -> Option<&mut Entry<S, P, O>> {
        self.queue.front_mut()
    }

    /// Whether a message of this type can be the next answer. Those that may come at any time (notices,
    /// notifications, parameters, errors) are not asked about.
    ///
    /// # Errors
    /// [`InvalidMessage::Unexpected`].
    pub fn expect(&self, kind: u8) -> Result<(), InvalidMessage> {
        let fits = self.front().is_some_and(|entry| match &entry.owed {
            Owed::Query(_) => matches!(
                kind,
                kind::ROW_DESCRIPTION
                    | kind::DATA_ROW
                    | kind::COMMAND_COMPLETE
                    | kind::EMPTY_QUERY
                    | kind::COPY_IN
                    | kind::COPY_OUT
                    | kind::COPY_DATA
                    | kind::COPY_DONE
                    | kind::READY
            ),
            Owed::Function(_) => matches!(kind, kind::FUNCTION_RESULT | kind::READY),
            Owed::Parse { .. } => kind == kind::PARSE_COMPLETE,
            Owed::Bind { .. } => kind == kind::BIND_COMPLETE,
            Owed::DescribeStatement(_) => {
                matches!(kind, kind::PARAMETER_DESCRIPTION | kind::ROW_DESCRIPTION | kind::NO_DATA)
            }
            Owed::DescribePortal(_) => matches!(kind, kind::ROW_DESCRIPTION | kind::NO_DATA),
            Owed::CloseStatement(_) | Owed::ClosePortal(_) => kind == kind::CLOSE_COMPLETE,
            Owed::Execute(_) => matches!(
                kind,
                kind::DATA_ROW
                    | kind::COMMAND_COMPLETE
                    | kind::EMPTY_QUERY
                    | kind::PORTAL_SUSPENDED
                    | kind::COPY_IN
                    | kind::COPY_OUT
                    | kind::COPY_DATA
                    | kind::COPY_DONE
            ),
            Owed::CopyEnd => false,
            Owed::Sync => kind == kind::READY,
        });
        if fits { Ok(()) } else { Err(InvalidMessage::Unexpected(kind)) }
    }

    /// The front has been answered in full and well: takes it off and lets its names count.
    pub fn done(&mut self) -> Option<Entry<S, P, O>> {
        let entry = self.queue.pop_front()?;
        match &entry.owed {
            Owed::Parse { name, statement } => {
                self.statements.insert(name.clone(), statement.clone());
            }
            Owed::Bind { name, portal } => {
                self.portals.insert(name.clone(), portal.clone());
            }
            Owed::CloseStatement(name) => {
                self.statements.remove(name);
            }
            Owed::ClosePortal(name) => {
                self.portals.remove(name);
            }
            _ => {}
        }
        self.drop_copy_ends();
        Some(entry)
    }

    /// The server reports an error. What is owed up to the next Sync falls away and is returned, the message
    /// that failed first; a simple Query, a FunctionCall or a Sync that fails still owes its ReadyForQuery and
    /// stays, and nothing is returned.
    pub fn failed(&mut self) -> Vec<Entry<S, P, O>> {
        self.copy_open = false;
        let mut fallen = Vec::new();
        if matches!(
            self.front().map(|e| &e.owed),
            None | Some(Owed::Query(_) | Owed::Function(_) | Owed::Sync)
        ) {
            return fallen;
        }
        while let Some(entry) = self.queue.pop_front() {
            if matches!(entry.owed, Owed::Sync) {
                self.queue.push_front(entry);
                return fallen;
            }
            if let Owed::Parse { name, .. } = &entry.owed
                && name.is_empty()
                && fallen.is_empty()
            {
                // exec_parse_message drops the unnamed statement before it looks at the new text
                self.statements.remove(name);
            }
            fallen.push(entry);
        }
        self.skipping = true;
        fallen
    }

    /// ReadyForQuery: takes off what it ends. Portals end with their transaction, but for those that `keep`
    /// holds (cursors WITH HOLD).
    ///
    /// # Errors
    /// [`InvalidMessage::Unexpected`] if none is owed.
    pub fn ready(
        &mut self,
        status: TransactionStatus,
        keep: impl Fn(&P) -> bool,
    ) -> Result<Entry<S, P, O>, InvalidMessage> {
        self.expect(kind::READY)?;
        let entry = self.queue.pop_front().ok_or(InvalidMessage::Unexpected(kind::READY))?;
        self.copy_open = false;
        self.drop_copy_ends();
        self.status = status;
        if status == TransactionStatus::Idle {
            self.portals.retain(|_, p| keep(p));
        }
        if matches!(entry.owed, Owed::Query(_)) {
            // exec_simple_query drops the unnamed statement and makes its own unnamed portal
            self.statements.remove("");
            self.portals.remove("");
        }
        Ok(entry)
    }

    /// CopyInResponse: Syncs that were sent ahead of CopyDone are read, and ignored, by the COPY.
    pub fn copy_in(&mut self) {
        let end = self.queue.iter().position(|e| matches!(e.owed, Owed::CopyEnd));
        let mut index = 0;
        self.queue.retain(|e| {
            let before_end = end.is_none_or(|end| index < end);
            index += 1;
            !(before_end && matches!(e.owed, Owed::Sync))
        });
        self.copy_open = end.is_none();
    }

    fn drop_copy_ends(&mut self) {
        while self.front().is_some_and(|e| matches!(e.owed, Owed::CopyEnd)) {
            self.queue.pop_front();
        }
    }

    // --- statements that make and drop names ------------------------------------------------------------

    /// PREPARE has run.
    pub fn prepared(&mut self, name: &str, statement: S) {
        self.statements.insert(name.into(), statement);
    }

    /// DEALLOCATE has run; `None`: all.
    pub fn deallocated(&mut self, name: Option<&str>) {
        match name {
            Some(name) => drop(self.statements.remove(name)),
            None => self.statements.clear(),
        }
    }

    /// DECLARE has run.
    pub fn declared(&mut self, name: &str, portal: P) {
        self.portals.insert(name.into(), portal);
    }

    /// CLOSE has run; `None`: all.
    pub fn closed(&mut self, name: Option<&str>) {
        match name {
            Some(name) => drop(self.portals.remove(name)),
            None => self.portals.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Plain = Session<u8, u8, u8>;

    fn entry(owed: Owed<u8, u8, u8>) -> Entry<u8, u8, u8> {
        Entry { owed, own: false, instead: None }
    }

    fn parse(name: &str, statement: u8) -> Entry<u8, u8, u8> {
        entry(Owed::Parse { name: name.into(), statement })
    }

    #[test]
    fn s19_a_name_from_an_unanswered_segment_is_waited_for() {
        let mut s = Plain::new();
        s.sent(parse("", 1));
        assert_eq!(s.statement(""), Lookup::Known(1));
        s.sent_sync(false);
        assert_eq!(s.statement(""), Lookup::Wait);
        s.sent(parse("", 2));
        assert_eq!(s.statement(""), Lookup::Known(2));
        s.done();
        assert!(s.ready(TransactionStatus::Idle, |_| false).is_ok());
        s.done();
        assert_eq!(s.statement(""), Lookup::Known(2));
    }

    #[test]
    fn s19_what_an_error_skips_never_counts() {
        let mut s = Plain::new();
        s.sent(parse("a", 1));
        s.done();
        s.sent(entry(Owed::Execute(9)));
        s.sent(entry(Owed::CloseStatement("a".into())));
        s.sent(parse("b", 2));
        s.sent_sync(false);
        assert_eq!(s.failed().len(), 3);
        assert!(!s.skipping());
        assert!(s.ready(TransactionStatus::Failed, |_| false).is_ok());
        assert_eq!((s.statement("a"), s.statement("b")), (Lookup::Known(1), Lookup::Unknown));
        s.sent(entry(Owed::Execute(9)));
        s.failed();
        assert!(s.skipping());
        s.sent_sync(false);
        assert!(!s.skipping());
    }

    #[test]
    fn syncs_within_a_copy_owe_nothing() {
        // libpq: Parse Bind Execute Sync | CopyData CopyDone Sync
        let mut s = Plain::new();
        s.sent(entry(Owed::Execute(1)));
        s.sent_sync(false);
        s.copy_in();
        s.sent_sync(false);
        s.sent_copy_end();
        s.sent_sync(false);
        assert!(s.expect(kind::COMMAND_COMPLETE).is_ok());
        s.done();
        assert!(s.ready(TransactionStatus::Idle, |_| false).is_ok());
        assert!(s.settled());
        // all at once, before the server has said CopyInResponse
        s.sent(entry(Owed::Execute(1)));
        s.sent_sync(false);
        s.sent_copy_end();
        s.sent_sync(false);
        s.copy_in();
        s.done();
        assert!(s.ready(TransactionStatus::Idle, |_| false).is_ok());
        assert!(s.settled());
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_an_error() {
        let mut s = Plain::new();
        for k in 0..=255u8 {
            assert_eq!(s.expect(k), Err(InvalidMessage::Unexpected(k)));
        }
        assert!(s.ready(TransactionStatus::Idle, |_| false).is_err());
        s.sent(parse("", 1));
        assert!(s.expect(kind::DATA_ROW).is_err());
        assert!(s.ready(TransactionStatus::Idle, |_| false).is_err());
    }
}
