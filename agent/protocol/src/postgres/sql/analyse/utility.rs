//! The top of a statement, and everything that is no query.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    CallStmt, DeclareCursorStmt, DiscardMode, DropBehavior, ExplainStmt, LockStmt, Node, TransactionStmt,
    TransactionStmtKind, TruncateStmt,
};

use super::super::statement::UNRESOLVED;
use super::super::{Access, Effects, Kind, Output, Outputs, TransactionAct};
use super::names::{option_on, options};
use super::scope::{Env, Value};
use super::{Judge, boxed, inner};

/// Bits of `DeclareCursorStmt.options` (nodes/parsenodes.h).
const CURSOR_BINARY: i32 = 0x0001;
const CURSOR_HOLD: i32 = 0x0020;

impl Judge<'_> {
    /// The statement as a whole.
    pub(super) fn top(&mut self, node: &NodeEnum) {
        self.top_in(node, &Env::new());
    }

    /// The same where names are known before: in the body of a function.
    pub(super) fn top_in(&mut self, node: &NodeEnum, env: &Env<'_>) {
        match node {
            NodeEnum::SelectStmt(s) => {
                self.out.kind = if s.into_clause.is_some() { Kind::Ddl } else { Kind::Select };
                self.results(node, env);
            }
            NodeEnum::InsertStmt(_) => self.results_as(Kind::Insert, node, env),
            NodeEnum::UpdateStmt(_) => self.results_as(Kind::Update, node, env),
            NodeEnum::DeleteStmt(_) => self.results_as(Kind::Delete, node, env),
            NodeEnum::MergeStmt(_) => self.results_as(Kind::Merge, node, env),
            NodeEnum::CopyStmt(s) => self.copy(s),
            NodeEnum::TransactionStmt(s) => self.transaction(s),
            NodeEnum::VariableSetStmt(s) => self.set_statement(s),
            NodeEnum::VariableShowStmt(s) => self.show_statement(s),
            NodeEnum::ExplainStmt(s) => self.explain(s),
            NodeEnum::DeclareCursorStmt(s) => self.declare(s, env),
            NodeEnum::TruncateStmt(s) => self.truncate(s),
            NodeEnum::LockStmt(s) => self.lock(s),
            NodeEnum::DoStmt(_) => drop(self.unknown("a DO block can do anything")),
            NodeEnum::CallStmt(s) => self.call_statement(s, env),
            _ => self.named(node, env),
        }
    }

    /// Statements about prepared statements, cursors, channels and the session.
    fn named(&mut self, node: &NodeEnum, env: &Env<'_>) {
        match node {
            NodeEnum::PrepareStmt(s) => {
                self.out.kind = Kind::Prepare { name: s.name.clone() };
                match boxed(&s.query) {
                    Some(query) => self.results(query, env),
                    None => drop(self.unknown("a PREPARE of nothing")),
                }
            }
            NodeEnum::ExecuteStmt(s) => {
                self.out.kind = Kind::Execute { name: s.name.clone() };
                self.arguments(&s.params, env);
            }
            NodeEnum::DeallocateStmt(s) => {
                self.out.kind = Kind::Deallocate { name: (!s.name.is_empty()).then(|| s.name.clone()) };
                self.does(Effects::SESSION);
            }
            NodeEnum::FetchStmt(s) => {
                self.out.kind = Kind::Fetch { name: s.portalname.clone(), moves: s.ismove };
                self.unresolved();
            }
            NodeEnum::ClosePortalStmt(s) => {
                self.out.kind =
                    Kind::Close { name: (!s.portalname.is_empty()).then(|| s.portalname.clone()) };
                self.does(Effects::SESSION);
            }
            NodeEnum::ListenStmt(s) => {
                self.out.kind = Kind::Listen { channel: s.conditionname.clone() };
                self.does(Effects::SESSION);
            }
            NodeEnum::UnlistenStmt(_) => self.session(Kind::Unlisten),
            NodeEnum::NotifyStmt(_) => self.session(Kind::Notify),
            NodeEnum::ConstraintsSetStmt(_) => self.session(Kind::Set),
            NodeEnum::DiscardStmt(s) => {
                let all = s.target == DiscardMode::DiscardAll as i32;
                self.session(Kind::Discard { all });
            }
            _ => self.definition(node, env),
        }
    }

    fn session(&mut self, kind: Kind) {
        self.out.kind = kind;
        self.does(Effects::SESSION);
    }

    /// EXECUTE's arguments; what is executed is told by the service.
    fn arguments(&mut self, arguments: &[Node], env: &Env<'_>) {
        let value = self.all(arguments, env);
        self.decide(&value);
        self.unresolved();
    }

    fn unresolved(&mut self) {
        self.unknown(UNRESOLVED);
        self.out.outputs = Outputs::Unknown;
    }

    /// CALL: judged like a function; what it gives back by its INOUT arguments may be any of it.
    fn call_statement(&mut self, call: &CallStmt, env: &Env<'_>) {
        self.out.kind = Kind::Call;
        match call.funccall.as_deref() {
            Some(function) => {
                let value = self.call(function, env);
                let output = |value: Value| Output {
                    name: String::new(),
                    sources: value.sources,
                    derived: true,
                    doubt: value.doubt,
                };
                self.out.outputs = if value.is_clean() && !self.catalogue.has_classes() {
                    Outputs::Known(vec![output(value)])
                } else {
                    Outputs::Unknown
                };
            }
            None => drop(self.unknown("a CALL of nothing")),
        }
    }

    fn results_as(&mut self, kind: Kind, node: &NodeEnum, env: &Env<'_>) {
        self.out.kind = kind;
        self.results(node, env);
    }

    fn results(&mut self, node: &NodeEnum, env: &Env<'_>) {
        let columns = self.query(node, env);
        self.returns(columns);
    }

    fn transaction(&mut self, statement: &TransactionStmt) {
        use TransactionStmtKind as K;
        let name = || statement.savepoint_name.clone();
        let act = match K::try_from(statement.kind) {
            Ok(K::TransStmtBegin | K::TransStmtStart) => TransactionAct::Begin,
            Ok(K::TransStmtCommit) => TransactionAct::Commit { chain: statement.chain },
            Ok(K::TransStmtRollback) => TransactionAct::Rollback { chain: statement.chain },
            Ok(K::TransStmtSavepoint) => TransactionAct::Savepoint(name()),
            Ok(K::TransStmtRelease) => TransactionAct::Release(name()),
            Ok(K::TransStmtRollbackTo) => TransactionAct::RollbackTo(name()),
            Ok(K::TransStmtPrepare | K::TransStmtCommitPrepared | K::TransStmtRollbackPrepared) => {
                // it would outlive the session, and with it the record of who did it
                self.does(Effects::ADMIN);
                TransactionAct::TwoPhase
            }
            _ => {
                self.unknown("transaction control");
                return;
            }
        };
        self.out.kind = Kind::Transaction(act);
        self.does(Effects::TRANSACTION);
    }

    fn explain(&mut self, explain: &ExplainStmt) {
        let mut runs = false;
        // (ANALYZE 0) and (ANALYZE 1) differ by a literal
        self.out.literal_free &= explain.options.is_empty();
        for option in options(&explain.options) {
            match (option.defname.as_str(), option_on(option)) {
                ("analyze", Some(on)) => runs = on,
                // its output is text, JSON, XML or YAML: all of it text to a client
                ("analyze", None) => runs = true,
                _ => {}
            }
        }
        match boxed(&explain.query) {
            Some(NodeEnum::ExecuteStmt(s)) => {
                self.arguments(&s.params, &Env::new());
                self.out.kind = Kind::ExplainExecute { name: s.name.clone(), runs };
                return self.plan();
            }
            Some(node) if self.sink() => {
                self.top(node);
                self.rise();
            }
            _ => drop(self.unknown("an EXPLAIN of nothing")),
        }
        if !runs {
            self.out.only_planned();
        }
        self.out.kind = Kind::Explain { runs };
        self.plan();
    }

    /// The rows of an EXPLAIN.
    fn plan(&mut self) {
        self.out.outputs = Outputs::Known(vec![Output {
            name: "QUERY PLAN".to_owned(),
            sources: Vec::new(),
            derived: true,
            doubt: false,
        }]);
    }

    fn declare(&mut self, declare: &DeclareCursorStmt, env: &Env<'_>) {
        self.out.kind = Kind::Declare {
            name: declare.portalname.clone(),
            binary: declare.options & CURSOR_BINARY != 0,
            hold: declare.options & CURSOR_HOLD != 0,
        };
        match boxed(&declare.query) {
            Some(node @ NodeEnum::SelectStmt(_)) => self.results(node, env),
            _ => drop(self.unknown("a cursor over what is no query")),
        }
    }

    fn truncate(&mut self, truncate: &TruncateStmt) {
        self.out.kind = Kind::Truncate;
        self.out.has_where = false;
        self.each(&truncate.relations, Access::Truncate);
        self.does(Effects::WRITE);
        let names = truncate.relations.iter().filter_map(|node| match inner(node) {
            Some(NodeEnum::RangeVar(name)) => Some(name),
            _ => None,
        });
        let mut seen = Vec::new();
        for relation in names.filter_map(|name| self.relation(name)).collect::<Vec<_>>() {
            self.consequences(relation, Access::Truncate, None);
            if truncate.behavior == DropBehavior::DropCascade as i32 {
                self.truncate_cascade(relation, &mut seen);
            }
        }
    }

    fn lock(&mut self, lock: &LockStmt) {
        self.out.kind = Kind::Lock;
        self.out.locks = true;
        self.each(&lock.relations, Access::Lock);
    }

    fn each(&mut self, relations: &[Node], access: Access) {
        for node in relations {
            let Some(NodeEnum::RangeVar(name)) = inner(node) else {
                self.unknown("a list of relations");
                continue;
            };
            match self.relation(name) {
                Some(relation) => self.uses_where(relation, access, access != Access::Truncate),
                None => drop(self.missing_relation(name)),
            }
        }
    }
}
