//! From a message to permits: what its statements do, what the gate says to each.
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use sluice_api::record;
use sluice_policy::{Ask, Operation, Refusal, Resource, ResourceKind};
use sluice_protocol::postgres::sql::{
    self, Access, Analysis, Effects, Kind, Outputs, Statement, TransactionAct,
};
use sluice_protocol::postgres::wire::back::TransactionStatus;
use sluice_protocol::postgres::wire::{Report, report::code, session::Lookup};

use super::Tape;
use super::budget::Budget;
use super::execution::{After, Portal, Prepared, Run, Started, Understood};
use super::machine::{Granted, Holding, Machine, Pause};
use crate::gate::{Means, Outcome, Permit};
use crate::services::postgres::catalogue::MAX_AGE;
use crate::services::postgres::preview::{Given, Questions};

/// A recorded text or parameter is cut at this many bytes.
const MAX_RECORDED: usize = 1 << 20;
/// All parameters of a statement together: with what is said of those that are cut, less than a frame may hold.
const MAX_PARAMETERS: usize = 4 << 20;

/// Why what follows can't be judged as if nothing had happened: it is `unknown` as well, whatever else it is.
const REDEFINED: &str = "; definitions were changed in this transaction";
const MOVED: &str = "; names may mean something else behind a statement of the same message that changes search_path or \
                     role: send them one by one";

/// One statement that wants to run.
pub(super) struct Wish {
    pub(super) understood: Understood,
    pub(super) text: Arc<str>,
    pub(super) parameters: Vec<String>,
    /// Run as a portal: PREPARE and DECLARE have made their names before.
    pub(super) portal: Option<Arc<Portal>>,
}

impl Wish {
    /// Parameters, with the types that the client has said.
    fn given(&self) -> Given<'_> {
        let types = self.portal.as_ref().map_or(&[][..], |portal| &portal.prepared.types);
        Given { parameters: &self.parameters, types }
    }
}

/// What came of judging a message.
pub(super) enum Judged {
    /// All of it may run, now.
    Permitted(Vec<Run>),
    /// The machine has paused; the message is to be looked at again.
    Wait,
    /// Nothing of it may run.
    Refused(Report<'static>),
}

/// What a statement refers to by name.
enum Inner {
    None,
    /// Judged with it.
    Prepared(Understood),
    /// Judged when it was declared, and again when the policy has changed.
    Cursor(Understood, bool, Option<Arc<Budget>>),
    Unknown,
    Wait,
}

impl<R: Tape> Machine<R> {
    /// Whether statements can be judged now: the path, the names and the definitions are known. Otherwise the
    /// machine has paused.
    pub(super) fn ready(&mut self) -> bool {
        if self.granted.is_some() {
            // it was, when the message was held; nothing has moved since
            return true;
        }
        if self.barrier {
            if !self.session.settled() {
                self.wait_for(Pause::Answers);
                return false;
            }
            self.barrier = false;
        }
        if self.path_old && self.session.status() != TransactionStatus::Failed {
            if self.session.settled() {
                self.probe();
            } else {
                self.wait_for(Pause::Answers);
            }
            return false;
        }
        let committed = self.session.status() == TransactionStatus::Idle && !self.session.segment_open();
        if self.catalogue_old && committed && !self.catalogue_fresh {
            self.wait_for(Pause::Catalogue(Some(Instant::now())));
            return false;
        }
        if self.catalogue_read.elapsed() > MAX_AGE {
            self.wait_for(Pause::Catalogue(None));
            return false;
        }
        true
    }

    /// Looks at a text. `None`: the machine has paused to read the catalogue again.
    pub(super) fn analyse(&mut self, text: &str) -> Option<Arc<Analysis>> {
        let analysis = self.verdicts.analyse(text, &self.catalogue, &self.path, &mut self.key);
        let stale = analysis.statements.iter().any(|s| s.stale);
        if stale && !self.catalogue_fresh && self.granted.is_none() {
            self.wait_for(Pause::Catalogue(Some(Instant::now())));
            return None;
        }
        Some(analysis)
    }

    /// Judges all statements of a message, and all of them or none may run.
    pub(super) fn judge(&mut self, wishes: &[Wish]) -> Judged {
        let mut granted = match self.granted.take() {
            Some(Err(report)) => return Judged::Refused(report),
            Some(Ok(granted)) => granted,
            None => Vec::new(),
        };
        let mut runs = Vec::with_capacity(wishes.len());
        let mut held = Vec::new();
        let mut doubt = self.tainted.then_some(REDEFINED);
        for (index, wish) in wishes.iter().enumerate() {
            let Some(statement) = wish.understood.statement() else { continue };
            if granted.is_empty()
                && doubt.is_none()
                // one that casts a doubt on those behind it has to be looked at
                && (index + 1 == wishes.len() || !self.moves_path(statement))
                && let Some(run) = self.run_again(wish)
            {
                runs.push(run);
                continue;
            }
            let inner = self.inner(wish, wishes.get(..index).unwrap_or_default());
            if matches!(inner, Inner::Wait) {
                self.wait_for(Pause::Answers);
                return Judged::Wait;
            }
            let statement = &*resolve(statement, &inner);
            let operation = self.asked(wish, statement, &inner, doubt);
            let moved = doubt == Some(MOVED);
            if self.moves_path(statement) {
                doubt = Some(MOVED);
            } else if statement.taints {
                doubt = doubt.or(Some(REDEFINED));
            }
            let never = self.unmaskable_copy(wish, statement).or_else(|| self.unsettling(wish, statement));
            if let Some(report) = never {
                return Judged::Refused(report);
            }
            let plain = matches!(inner, Inner::None) && doubt.is_none();
            let (number, permit) = match take(&mut granted, index) {
                Some(Granted { operation, permit, .. }) => (operation, permit),
                None => match self.gated.judge_with(&operation, &means(&|| sql::reason(&wish.text))) {
                    Outcome::Permit(permit) => {
                        let number = self.operation();
                        self.record(
                            number,
                            wish,
                            statement,
                            Verdict::Permit(permit.rules(), permit.reason()),
                        );
                        self.granted_before(number, &permit);
                        (number, permit)
                    }
                    Outcome::Hold(waiting) => {
                        let number = self.operation();
                        self.record(
                            number,
                            wish,
                            statement,
                            Verdict::Hold(waiting.rules(), waiting.reason()),
                        );
                        self.announce(number, &operation, &waiting);
                        let questions = plain
                            .then(|| Questions::of(&wish.text, statement, wish.given(), &self.path))
                            .flatten();
                        held.push(Holding { index, operation: number, questions, held: waiting });
                        continue;
                    }
                    Outcome::Refuse(refusal) => {
                        let number = self.operation();
                        self.record(
                            number,
                            wish,
                            statement,
                            Verdict::Refuse(&refusal.rules, &refusal.message),
                        );
                        return Judged::Refused(refused(&refusal, &operation));
                    }
                },
            };
            let mut run = self.run(number, wish, statement, inner, &permit);
            if plain {
                self.remember(wish, statement, &permit, &mut run);
            }
            if moved {
                // its names were looked up where they may not be any more
                run.outputs = None;
                run.sensitive = self.catalogue.has_classes();
            }
            runs.push(run);
        }
        if held.is_empty() {
            return Judged::Permitted(runs);
        }
        // What has been permitted beside it is judged again when the message runs.
        self.wait_for(Pause::Held(held));
        Judged::Wait
    }

    /// Refuses a Parse whose statement would be refused when it runs: the target need not even plan it.
    pub(super) fn refused_early(&mut self, wish: &Wish) -> Option<Report<'static>> {
        let statement = wish.understood.statement()?;
        if matches!(statement.kind, Kind::Execute { .. } | Kind::Fetch { .. } | Kind::ExplainExecute { .. }) {
            return None;
        }
        let doubt = self.tainted.then_some(REDEFINED);
        let operation = self.asked(wish, statement, &Inner::None, doubt);
        if !self.gated.would_refuse(&operation) {
            return self.unmaskable_copy(wish, statement);
        }
        match self.gated.judge_with(&operation, &means(&|| sql::reason(&wish.text))) {
            Outcome::Refuse(refusal) => {
                let number = self.operation();
                self.record(number, wish, statement, Verdict::Refuse(&refusal.rules, &refusal.message));
                Some(refused(&refusal, &operation))
            }
            // the policy has changed in between
            Outcome::Permit(_) | Outcome::Hold(_) => None,
        }
    }

    fn asked(&self, wish: &Wish, statement: &Statement, inner: &Inner, doubt: Option<&str>) -> Operation {
        let facts = self.gated.facts();
        let place = (facts.target.name.as_str(), facts.database.as_str());
        let mut operation = statement.operation(&self.catalogue, place, &wish.text, wish.parameters.clone());
        let unknown = || Ask::new("unknown", Resource::new(ResourceKind::Database, [place.0, place.1]));
        match inner {
            Inner::Prepared(understood) | Inner::Cursor(understood, true, _) => {
                if let Some(inner) = understood.statement() {
                    operation.asks.extend(inner.asks(&self.catalogue, place.0, place.1));
                    operation.features = inner.features();
                    operation.understood.push_str("; ");
                    operation.understood.push_str(&inner.understood(&self.catalogue));
                }
            }
            Inner::Unknown => operation.asks.push(unknown()),
            Inner::None | Inner::Cursor(_, false, _) | Inner::Wait => {}
        }
        if matches!(statement.kind, Kind::CreateAsExecute { .. }) {
            operation.asks.push(unknown());
        }
        if let Some(doubt) = doubt.filter(|_| !matches!(statement.kind, Kind::Transaction(_))) {
            operation.asks.push(unknown());
            operation.understood.push_str(doubt);
        }
        operation.asks.sort();
        operation.asks.dedup();
        operation
    }

    /// What EXECUTE and FETCH refer to; names that an earlier statement of the same text makes come first.
    fn inner(&mut self, wish: &Wish, before: &[Wish]) -> Inner {
        let Some(statement) = wish.understood.statement() else { return Inner::None };
        match &statement.kind {
            Kind::Execute { name } | Kind::ExplainExecute { name, .. } | Kind::CreateAsExecute { name } => {
                let name = name.clone();
                self.inner_statement(&name, before)
            }
            Kind::Fetch { name, .. } => {
                let name = name.clone();
                self.inner_cursor(&name, before)
            }
            _ => Inner::None,
        }
    }

    fn inner_statement(&mut self, name: &str, before: &[Wish]) -> Inner {
        for earlier in before.iter().rev() {
            match earlier.understood.statement().map(|s| &s.kind) {
                Some(Kind::Prepare { name: n }) if n == name => {
                    return Inner::Prepared(earlier.understood.clone());
                }
                Some(Kind::Deallocate { name: n }) if n.as_ref().is_none_or(|n| n == name) => {
                    return Inner::Unknown;
                }
                Some(Kind::Discard { .. }) => return Inner::Unknown,
                _ => {}
            }
        }
        match self.session.statement(name) {
            Lookup::Wait => Inner::Wait,
            Lookup::Unknown => Inner::Unknown,
            Lookup::Known(prepared) => {
                let analysis =
                    self.verdicts.analyse(&prepared.text, &self.catalogue, &self.path, &mut self.key);
                if analysis.statements.len() == 1 {
                    Inner::Prepared(Understood { analysis, index: 0 })
                } else {
                    Inner::Unknown
                }
            }
        }
    }

    fn inner_cursor(&mut self, name: &str, before: &[Wish]) -> Inner {
        for earlier in before.iter().rev() {
            match earlier.understood.statement().map(|s| &s.kind) {
                Some(Kind::Declare { name: n, .. }) if n == name => {
                    return Inner::Cursor(earlier.understood.clone(), false, None);
                }
                Some(Kind::Close { name: n }) if n.as_ref().is_none_or(|n| n == name) => {
                    return Inner::Unknown;
                }
                Some(Kind::Discard { .. }) => return Inner::Unknown,
                _ => {}
            }
        }
        match self.session.portal(name) {
            Lookup::Wait => Inner::Wait,
            Lookup::Unknown => Inner::Unknown,
            Lookup::Known(portal) => match portal.understood.clone() {
                None => Inner::Unknown,
                Some(understood) => {
                    let started = portal.started.lock().clone();
                    let generation = started.as_ref().map(|started| started.generation);
                    let anew = generation != Some(self.gated.generation());
                    Inner::Cursor(understood, anew, started.and_then(|started| started.budget))
                }
            },
        }
    }

    fn run(&mut self, number: u64, wish: &Wish, statement: &Statement, inner: Inner, permit: &Permit) -> Run {
        let obligations = permit.obligations();
        self.strict |= obligations.record_strict;
        self.hear_why(statement);
        let own = Budget::of(permit);
        let after = self.after(wish, statement, number, own.as_ref());
        self.barrier |= !after.is_empty() || statement.effects.contains(Effects::SESSION);
        let sensitive = self.sensitive(statement)
            || matches!(&inner, Inner::Prepared(u) | Inner::Cursor(u, ..) if u.statement().is_none_or(|s| self.sensitive(s)))
            || matches!(inner, Inner::Unknown);
        // what a cursor gives is one result, in however many pieces
        let budget = match &inner {
            Inner::Cursor(_, _, Some(budget)) => Some(Arc::clone(budget)),
            _ => own,
        };
        let outputs = match inner {
            Inner::None => Some(wish.understood.clone()),
            Inner::Prepared(understood) if matches!(statement.kind, Kind::Execute { .. }) => Some(understood),
            Inner::Cursor(understood, ..) => Some(understood),
            Inner::Prepared(_) => Some(wish.understood.clone()),
            Inner::Unknown | Inner::Wait => None,
        };
        Run {
            operation: number,
            outputs,
            started: Instant::now(),
            rows: 0,
            budget,
            strict: obligations.record_strict,
            sensitive,
            copy_to: match &statement.kind {
                Kind::CopyTo(format) => Some(format.clone()),
                _ => None,
            },
            after,
            portal: wish.portal.clone(),
            described: false,
            known: None,
        }
    }

    /// `SET sluice.reason = '…'`: why all that follows is done. The target takes it as a setting of an extension that it
    /// does not have.
    fn hear_why(&self, statement: &Statement) {
        for set in &statement.sets {
            match set.name.as_str() {
                "sluice.reason" => self.gated.say_why(set.value.as_deref()),
                "all" => self.gated.say_why(None),
                _ => {}
            }
        }
        if matches!(statement.kind, Kind::Discard { all: true }) {
            self.gated.say_why(None);
        }
    }

    fn after(
        &self,
        wish: &Wish,
        statement: &Statement,
        number: u64,
        budget: Option<&Arc<Budget>>,
    ) -> Vec<After> {
        let mut after = Vec::new();
        if wish.portal.as_ref().is_none_or(|p| !p.prepared.by_sql && !p.cursor) {
            match &statement.kind {
                Kind::Prepare { name } => {
                    let prepared =
                        Prepared { text: wish.text.as_ref().into(), by_sql: true, ..Prepared::default() };
                    after.push(After::Prepared(name.clone(), Arc::new(prepared)));
                }
                Kind::Declare { name, hold, .. } => {
                    let portal = Portal {
                        prepared: Arc::default(),
                        understood: Some(wish.understood.clone()),
                        parameters: wish.parameters.clone(),
                        results: Default::default(),
                        shape: Default::default(),
                        started: parking_lot::Mutex::new(Some(Started {
                            operation: number,
                            generation: self.gated.generation(),
                            budget: budget.cloned(),
                        })),
                        hold: *hold,
                        cursor: true,
                    };
                    after.push(After::Declared(name.clone(), Arc::new(portal)));
                }
                Kind::Deallocate { name } => after.push(After::Deallocated(name.clone())),
                Kind::Close { name } => after.push(After::Closed(name.clone())),
                Kind::Discard { all: true } => after.extend([After::Deallocated(None), After::Closed(None)]),
                _ => {}
            }
        }
        if self.moves_path(statement) {
            after.push(After::Path);
        }
        if statement.changes_catalogue || statement.effects.contains(Effects::UNKNOWN) {
            after.push(After::Catalogue);
        }
        if statement.taints || statement.effects.contains(Effects::UNKNOWN) {
            after.push(After::Taint);
        }
        after
    }

    /// Whether names may mean something else after it.
    fn moves_path(&self, statement: &Statement) -> bool {
        let by_setting =
            |name: &str| matches!(name, "search_path" | "role" | "session_authorization" | "all");
        match &statement.kind {
            Kind::Discard { all: true } => true,
            Kind::Transaction(
                TransactionAct::Commit { .. }
                | TransactionAct::Rollback { .. }
                | TransactionAct::RollbackTo(_)
                | TransactionAct::TwoPhase,
            ) => self.path_in_transaction,
            _ => {
                statement.effects.contains(Effects::UNKNOWN)
                    || statement.sets.iter().any(|s| by_setting(&s.name))
            }
        }
    }

    /// Whether errors and notices of it may quote values of classed columns.
    fn sensitive(&self, statement: &Statement) -> bool {
        if !self.catalogue.has_classes() {
            return false;
        }
        let classed = |oid: Option<u32>| {
            oid.and_then(|oid| self.catalogue.relation_by_oid(oid))
                .is_none_or(|r| r.definition.is_some() || r.columns.iter().any(|c| c.class.is_some()))
        };
        statement.effects.contains(Effects::UNKNOWN)
            || !statement.functions.is_empty()
            || match &statement.outputs {
                Outputs::Unknown => true,
                Outputs::Known(outputs) => outputs.iter().any(|o| o.doubt || !o.sources.is_empty()),
            }
            // a write may set off triggers that touch anything
            || statement.relations.iter().any(|r| {
                r.access != Access::Select || (r.schema != "pg_catalog" && classed(r.oid))
            })
    }

    /// COPY in a form in which classed columns can't be masked.
    fn unmaskable_copy(&mut self, wish: &Wish, statement: &Statement) -> Option<Report<'static>> {
        let Kind::CopyTo(format) = &statement.kind else { return None };
        if self.copy_reading(&statement.outputs, format).is_some() {
            return None;
        }
        let message = "refused: protected columns can't be masked in this form of COPY";
        let number = self.operation();
        self.record(number, wish, statement, Verdict::Refuse(&["copy-form".to_owned()], message));
        Some(
            Report::new("ERROR", code::REFUSED, message)
                .hint("Name the columns, and use FORMAT csv or FORMAT text."),
        )
    }

    /// A setting without which nothing that follows could be judged. The session would have to end.
    fn unsettling(&mut self, wish: &Wish, statement: &Statement) -> Option<Report<'static>> {
        let setting = statement.sets.iter().find(|setting| setting.unsettles())?;
        let message = format!("refused: {} stays as it is, since statements are judged by it", setting.name);
        let number = self.operation();
        self.record(number, wish, statement, Verdict::Refuse(&["pinned-setting".to_owned()], &message));
        Some(Report::new("ERROR", code::REFUSED, message).hint(
            "client_encoding is UTF8, standard_conforming_strings is on. E'…' strings have backslashes.",
        ))
    }

    fn record(&mut self, number: u64, wish: &Wish, statement: &Statement, verdict: Verdict<'_>) {
        let operation = recorded(number, wish, statement, verdict);
        self.tape.entry(record::entry::Entry::Operation(operation));
    }

    /// An approval that was given beforehand covers it.
    fn granted_before(&mut self, operation: u64, permit: &Permit) {
        let Some(id) = permit.approval() else { return };
        self.tape.entry(record::entry::Entry::Approval(record::Approval {
            operation,
            id: id.to_owned(),
            state: "granted".to_owned(),
            ..record::Approval::default()
        }));
    }

    /// Tells the user that his statement waits, why, and for whom.
    fn announce(&mut self, number: u64, operation: &Operation, held: &crate::gate::Held) {
        let id = held.id().to_owned();
        let rules = held.rules().join("\", \"");
        let report = Report::new(
            "NOTICE",
            "00000",
            format!("waiting for approval: rule \"{rules}\" wants {} to agree (request {id})", held.wanted()),
        )
        .detail(format!("Understood as: {}", operation.understood))
        .hint(format!("Another person runs: sluice approve {id}   Ctrl-C withdraws the request."));
        self.tape.entry(record::entry::Entry::Approval(record::Approval {
            operation: number,
            id,
            state: "requested".to_owned(),
            by: None,
            reason: String::new(),
        }));
        self.notice(&report);
    }
}

/// What this service can do, and how one says why in SQL.
fn means(stated: &dyn Fn() -> Option<String>) -> Means<'_> {
    Means {
        limits: true,
        stated,
        how: "Say why, in a comment of the statement: -- reason: OPS-12, as agreed   or for all that follows: \
              SET sluice.reason = 'OPS-12, as agreed'",
    }
}

/// What the gate has said, with the names of the rules.
pub(super) enum Verdict<'a> {
    /// And why the person does it.
    Permit(&'a [String], Option<&'a str>),
    /// Likewise.
    Hold(&'a [String], Option<&'a str>),
    /// In words.
    Refuse(&'a [String], &'a str),
}

/// The operation as it stands in the recording.
pub(super) fn recorded(
    number: u64,
    wish: &Wish,
    statement: &Statement,
    verdict: Verdict<'_>,
) -> record::Operation {
    let (text, text_sha256) = cut(&wish.text);
    let relations = statement.relations.iter();
    let (verdict, rules, message, reason) = match verdict {
        Verdict::Permit(rules, reason) => ("permit", rules, "", reason),
        Verdict::Hold(rules, reason) => ("hold", rules, "", reason),
        Verdict::Refuse(rules, message) => ("refuse", rules, message, None),
    };
    record::Operation {
        id: number,
        kind: "statement".to_owned(),
        text,
        parameters: cut_parameters(&wish.parameters).into_owned(),
        verdict: verdict.to_owned(),
        rules: rules.to_vec(),
        effects: statement.effects.names().map(str::to_owned).collect(),
        relations: relations.map(|r| format!("{} {}.{}", r.access.action(), r.schema, r.name)).collect(),
        message: message.to_owned(),
        text_sha256,
        reason: reason.unwrap_or_default().to_owned(),
    }
}

fn take(granted: &mut Vec<Granted>, index: usize) -> Option<Granted> {
    let at = granted.iter().position(|g| g.index == index)?;
    Some(granted.swap_remove(at))
}

/// Parameters as they are recorded: all of a statement have to fit into one entry of the recording.
pub(super) fn cut_parameters(parameters: &[String]) -> Cow<'_, [String]> {
    if parameters.iter().map(String::len).sum::<usize>() <= MAX_RECORDED {
        return Cow::Borrowed(parameters);
    }
    let mut left = MAX_PARAMETERS;
    let cut = parameters.iter().map(|parameter| {
        let (mut kept, digest) = cut_at(parameter, MAX_RECORDED.min(left));
        left -= kept.len();
        if !digest.is_empty() {
            kept.push_str(&format!("… ({} bytes, SHA-256 {digest})", parameter.len()));
        }
        kept
    });
    Cow::Owned(cut.collect())
}

/// The text as it is recorded, and the digest of the whole where it was cut.
fn cut(text: &str) -> (String, String) {
    cut_at(text, MAX_RECORDED)
}

fn cut_at(text: &str, most: usize) -> (String, String) {
    if text.len() <= most {
        return (text.to_owned(), String::new());
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    (text.get(..end).unwrap_or_default().to_owned(), hex::encode(digest))
}

/// As the user sees it.
pub(super) fn refused(refusal: &Refusal, operation: &Operation) -> Report<'static> {
    let rules = refusal.rules.join("\", \"");
    let why = if refusal.message.is_empty() {
        format!("{} on {} is not permitted", refusal.action, refusal.resource)
    } else {
        refusal.message.clone()
    };
    Report::new("ERROR", code::REFUSED, format!("refused by rule \"{rules}\": {why}"))
        .detail(format!("Understood as: {}", operation.understood))
        .hint(refusal.hint.clone())
}

/// The statement with what stands behind the name in it, as far as that is known.
fn resolve<'a>(statement: &'a Statement, inner: &Inner) -> Cow<'a, Statement> {
    match inner {
        Inner::Prepared(understood) => Cow::Owned(statement.with_prepared(understood.statement())),
        Inner::Cursor(understood, true, _) => Cow::Owned(statement.with_cursor(understood.statement())),
        // the cursor was judged when it was declared
        Inner::Cursor(_, false, _) => Cow::Owned(statement.resolved()),
        Inner::None | Inner::Unknown | Inner::Wait => Cow::Borrowed(statement),
    }
}
