//! From text to [`Analysis`]: the walk over PostgreSQL's raw parse tree.
//!
//! [`Judge`] walks one statement and writes down what it does. Rules that hold in every file here:
//! a node that is not matched ends in [`Judge::unknown`]; a name that can't be resolved ends in
//! [`Judge::missing`]; names are resolved as PostgreSQL does, and where that depends on types,
//! which are not known here, every candidate counts.

mod body;
mod call;
mod consequences;
mod copy;
mod ddl;
mod defined;
mod dml;
mod expr;
mod from;
mod names;
mod scope;
mod select;
mod settings;
mod utility;
mod view;

use std::panic::{AssertUnwindSafe, catch_unwind};

use pg_query::protobuf::{Node, RawStmt};
use pg_query::{NodeEnum, ParserOptions};

use self::scope::Value;
use super::statement::UNRESOLVED;
use super::{
    Access, Analysis, Catalogue, Effects, Kind, Output, Outputs, Relation, RelationUse, SearchPath,
    Statement, limits,
};

/// How deep the walk may go, views included. A level costs up to some 5 KB of stack in a debug
/// build, and a worker of the proxy has 2 MB.
const MAX_DEPTH: usize = 160;

/// What each statement of `text` does. Never fails: what can't be judged says so.
pub fn analyse(text: &str, catalogue: &Catalogue, path: &SearchPath) -> Analysis {
    let whole = 0..text.len();
    if let Some(why) = limits::refusal(text) {
        return Analysis { statements: vec![Statement::not_understood(whole, why)] };
    }
    let parsed = match parse(text) {
        Ok(parsed) => parsed,
        Err(why) => return Analysis { statements: vec![Statement::not_understood(whole, why)] },
    };
    let mut tainted = false;
    let mut path = path.clone();
    let single = parsed.len() == 1;
    let mut statements = Vec::with_capacity(parsed.len());
    for raw in &parsed {
        let span = if single { whole.clone() } else { span(raw, text.len()) };
        let mut statement = match raw.stmt.as_ref().and_then(|n| n.node.as_ref()) {
            Some(node) => Judge::new(catalogue, &path, span).statement(node),
            None => Statement::not_understood(span, "an empty statement"),
        };
        if tainted {
            statement.unknown = Some("it follows a change of definitions in the same message".to_owned());
            statement.outputs = Outputs::Unknown;
        }
        tainted |= statement.taints;
        // what follows in this message resolves its names by the new path
        for set in statement.sets.iter().filter(|s| s.name == "search_path" || s.name == "all") {
            match set.value.as_deref().and_then(|v| SearchPath::parse(v, "")) {
                Some(new) => path = new,
                None if single => {}
                None => tainted = true,
            }
        }
        statement.normalise();
        statements.push(statement);
    }
    Analysis { statements }
}

/// The statements of `text`, or why there are none.
fn parse(text: &str) -> Result<Vec<RawStmt>, String> {
    parse_as(text, ParserOptions::DEFAULT)
}

/// The same for a text that is an expression of PL/pgSQL.
fn parse_as(text: &str, mode: ParserOptions) -> Result<Vec<RawStmt>, String> {
    // pg_query gathers tables and the like after the parse, by code that panics on trees that it
    // does not expect; that must cost the statement and not the session
    match catch_unwind(AssertUnwindSafe(|| pg_query::parse(text, mode))) {
        Ok(Ok(result)) => Ok(result.protobuf.stmts),
        Ok(Err(pg_query::Error::Decode(_))) => Err("it nests too deeply".to_owned()),
        Ok(Err(pg_query::Error::Parse(why))) => Err(format!("does not parse: {why}")),
        Ok(Err(why)) => Err(format!("does not parse: {why}")),
        Err(_) => Err("does not parse".to_owned()),
    }
}

fn span(raw: &RawStmt, len: usize) -> std::ops::Range<usize> {
    let start = usize::try_from(raw.stmt_location).unwrap_or(0).min(len);
    // a length of 0 means: to the end
    let end = match usize::try_from(raw.stmt_len) {
        Ok(n) if n > 0 => start.saturating_add(n).min(len),
        _ => len,
    };
    start..end
}

/// The walk over one statement.
pub(super) struct Judge<'a> {
    catalogue: &'a Catalogue,
    path: &'a SearchPath,
    /// The path under which bodies of functions run: that of the session, also where a definition's own names need none.
    runtime: &'a SearchPath,
    out: Statement,
    depth: usize,
    /// Where in the tree we are when inside another statement's text (a view's definition).
    views: Vec<u32>,
    /// Functions whose bodies we are in.
    bodies: Vec<u32>,
    /// Relations and events whose consequences we are in.
    firing: Vec<(u32, u8)>,
    /// Something was left out because we are in it already: what was found holds here alone.
    cut: bool,
    /// What `$1` stands for in a body.
    argument: Option<Value>,
}

impl<'a> Judge<'a> {
    fn new(catalogue: &'a Catalogue, path: &'a SearchPath, span: std::ops::Range<usize>) -> Judge<'a> {
        Judge {
            catalogue,
            path,
            runtime: path,
            out: Statement::new(span, Kind::Unknown),
            depth: 0,
            views: Vec::new(),
            bodies: Vec::new(),
            firing: Vec::new(),
            cut: false,
            argument: None,
        }
    }

    /// One for a part that is judged by itself, inside of this one.
    fn within<'b>(&self, path: &'b SearchPath, runtime: &'b SearchPath) -> Judge<'b>
    where
        'a: 'b,
    {
        Judge {
            runtime,
            depth: self.depth,
            views: self.views.clone(),
            bodies: self.bodies.clone(),
            firing: self.firing.clone(),
            ..Judge::new(self.catalogue, path, 0..0)
        }
    }

    fn statement(mut self, node: &NodeEnum) -> Statement {
        self.top(node);
        self.out
    }

    /// The statement is not understood. The first reason is kept.
    fn unknown(&mut self, why: impl Into<String>) -> Value {
        if self.out.unknown.is_none() {
            self.out.unknown = Some(why.into());
        }
        self.out.effects.insert(Effects::UNKNOWN);
        self.out.literal_free = false;
        self.doubt()
    }

    /// As `unknown`, because the catalogue does not have a name that may exist by now.
    fn missing(&mut self, why: impl Into<String>) -> Value {
        self.out.stale = true;
        self.unknown(why)
    }

    /// A value of which nobody knows where it comes from. Without classed columns that matters not.
    fn doubt(&self) -> Value {
        Value { sources: Vec::new(), derived: true, doubt: self.catalogue.has_classes() }
    }

    /// One level deeper; `false` when that is too deep. Each `true` needs a `rise`.
    fn sink(&mut self) -> bool {
        if self.depth >= MAX_DEPTH {
            self.unknown("it nests too deeply");
            return false;
        }
        self.depth += 1;
        true
    }

    fn rise(&mut self) {
        self.depth -= 1;
    }

    /// `value` decides what happens or what is shown elsewhere.
    fn decide(&mut self, value: &Value) {
        self.out.probes.extend(&value.sources);
        self.out.probes_doubt |= value.doubt;
    }

    /// An operation on `value` may fail or act depending on it. What is merely in doubt passes:
    /// else every cast of a function's result would be refused.
    fn may_tell(&mut self, value: &Value) {
        self.out.probes.extend(&value.sources);
    }

    /// `value` flows to where nothing masks it later.
    fn copy_out(&mut self, value: &Value) {
        self.out.copies.extend(&value.sources);
        self.out.copies_doubt |= value.doubt;
    }

    fn does(&mut self, effect: Effects) {
        self.out.effects.insert(effect);
    }

    fn uses(&mut self, relation: &Relation, access: Access) {
        self.uses_where(relation, access, true);
    }

    fn uses_where(&mut self, relation: &Relation, access: Access, has_where: bool) {
        let access = if super::builtins::is_restricted(&relation.schema, &relation.name) {
            self.does(Effects::ADMIN);
            Access::Admin
        } else {
            access
        };
        self.does(match access {
            Access::Select => Effects::READ,
            Access::Insert | Access::Update | Access::Delete | Access::Truncate => Effects::WRITE,
            Access::Ddl => Effects::DDL,
            Access::Grant => Effects::GRANT,
            Access::Lock => Effects::READ,
            Access::Admin => Effects::ADMIN,
        });
        self.out.relations.push(RelationUse {
            oid: Some(relation.oid),
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            access,
            has_where,
        });
    }

    fn returns(&mut self, columns: Option<Vec<(String, Value)>>) {
        self.out.outputs = match columns {
            None => Outputs::Unknown,
            Some(columns) => Outputs::Known(
                columns
                    .into_iter()
                    .map(|(name, v)| Output { name, sources: v.sources, derived: v.derived, doubt: v.doubt })
                    .collect(),
            ),
        };
    }
}

/// The node inside, for fields that the grammar never leaves empty.
fn inner(node: &Node) -> Option<&NodeEnum> {
    node.node.as_ref()
}

fn boxed(node: &Option<Box<Node>>) -> Option<&NodeEnum> {
    node.as_ref().and_then(|n| n.node.as_ref())
}
