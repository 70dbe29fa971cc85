//! Bodies of functions: what a call does, and what its result may hold.
//!
//! Enters: a function of the catalogue with its definition, for a trigger also the event. Leaves: a [`Statement`] of what
//! any call of it may do; [`ARGUMENT`] stands in it for whatever it is called with. Must hold: a body that is not read
//! to its last token is not understood, and neither is one that makes its SQL while it runs, that runs with another's
//! rights, or that comes back to itself.
//!
//! Order and branches do not count: each step is taken for possible, and a variable holds all that any step puts there.

use std::collections::HashMap;
use std::sync::Arc;

use pg_query::protobuf::{
    CreateFunctionStmt, FunctionParameter, FunctionParameterMode as Mode, Node, TypeName,
};
use pg_query::{NodeEnum, ParserOptions};

use super::super::catalogue::{BodyKey, Function};
use super::super::plpgsql::{self, Step};
use super::super::{ColumnId, Output, Outputs, SearchPath, Statement};
use super::names::{options, setting_of, strings};
use super::scope::{Cte, Env, Item, Value, Visible};
use super::{Judge, boxed, inner, parse, parse_as};

/// What a body is called with: no column, since no relation has this oid.
pub(super) const ARGUMENT: ColumnId = ColumnId { relation: 0, attnum: 1 };
/// How many bodies deep the walk may go.
const MAX_BODIES: usize = 8;
/// How often the steps are walked until the variables hold no more than before.
const MAX_ROUNDS: usize = 12;

/// What a trigger's function sees.
pub(super) struct Fired<'a> {
    pub(super) relation: &'a super::Relation,
    /// Of `tgtype`.
    pub(super) event: u8,
    /// NEW and OLD.
    pub(super) rows: Vec<Item>,
    /// Transition tables.
    pub(super) tables: Vec<Cte>,
}

/// The variables of a body and what they may hold.
#[derive(Clone, Default, PartialEq, Eq)]
struct Variables(HashMap<String, Value>);

impl Variables {
    fn item(&self, alias: &str) -> Item {
        let mut names: Vec<&String> = self.0.keys().collect();
        names.sort();
        let hidden = names
            .into_iter()
            .filter_map(|name| Some((name, self.0.get(name)?)))
            .map(|(name, value)| Visible { name: name.clone(), value: value.clone(), id: None })
            .collect();
        Item { alias: alias.to_owned(), hidden, ..Item::default() }
    }

    fn put(&mut self, name: &str, value: &Value) {
        self.0.entry(name.to_owned()).or_insert_with(Value::derived).mix(value);
    }
}

impl<'a> Judge<'a> {
    /// What a call of `function` may do; found again where it has been judged before.
    pub(super) fn body(&mut self, function: &'a Function, fired: Option<&Fired<'a>>) -> Arc<Statement> {
        let refused = |why: &str| Arc::new(Statement::not_understood(0..0, why));
        let Some(definition) = function.definition.as_deref() else {
            return refused(&format!("it is written in {}, which is not read", function.language));
        };
        if function.security_definer {
            return refused("it runs with its owner's rights");
        }
        if self.bodies.contains(&function.oid) {
            return refused("it calls itself");
        }
        let (relation, event) = fired.map_or((0, 0), |f| (f.relation.oid, f.event));
        let key: BodyKey = (function.oid, relation, event, self.runtime.id());
        let known = self.catalogue.bodies.lock().ok().and_then(|known| known.get(&key).cloned());
        if let Some(known) = known {
            return known;
        }
        if self.bodies.len() >= MAX_BODIES || !self.sink() {
            return refused("its calls nest too deeply");
        }
        let (made, cut) = self.judge_body(function, definition, fired);
        self.rise();
        self.cut |= cut;
        let made = Arc::new(made);
        // an answer that depends on where we came from is not kept
        if !cut
            && made.unknown.is_none()
            && let Ok(mut known) = self.catalogue.bodies.lock()
        {
            known.insert(key, Arc::clone(&made));
        }
        made
    }

    fn judge_body(
        &self,
        function: &Function,
        definition: &str,
        fired: Option<&Fired<'a>>,
    ) -> (Statement, bool) {
        let refused = |why: &str| (Statement::not_understood(0..0, why), true);
        let parsed = parse(definition);
        let Ok([raw]) = parsed.as_deref() else { return refused("its definition does not parse") };
        let Some(NodeEnum::CreateFunctionStmt(create)) = boxed(&raw.stmt) else {
            return refused("its definition is none");
        };
        let Some(path) = own_path(create, self.runtime) else {
            return refused("it changes settings while it runs");
        };
        let mut judge = self.within(&path, &path);
        judge.bodies.push(function.oid);
        judge.argument = Some(argument());
        let result = judge.run(function, create, fired);
        if !judge.out.sets.is_empty() {
            judge.unknown("it changes settings");
        }
        let mut out = judge.out;
        // its own literals are no other ones at the next call, and the catalogue that has it has what it names
        out.stale = false;
        out.literal_free = true;
        out.outputs = Outputs::Known(vec![Output {
            name: String::new(),
            sources: result.sources,
            derived: true,
            doubt: result.doubt,
        }]);
        out.normalise();
        (out, judge.cut)
    }

    /// Walks over the body; the value is what a call may return.
    fn run(&mut self, function: &Function, create: &CreateFunctionStmt, fired: Option<&Fired<'a>>) -> Value {
        let mut variables = Variables::default();
        let mut results = Vec::new();
        let mut result = Value::derived();
        for parameter in create.parameters.iter().filter_map(parameter) {
            if let Some(default) = boxed(&parameter.defexpr) {
                let value = self.expr(default, &Env::new());
                result.mix(&value);
            }
            self.typed(parameter.arg_type.as_ref());
            let mode = Mode::try_from(parameter.mode).unwrap_or(Mode::Undefined);
            let comes_in = !matches!(mode, Mode::FuncParamOut | Mode::FuncParamTable);
            let value = if comes_in { argument() } else { Value::derived() };
            if !parameter.name.is_empty() {
                variables.put(&parameter.name, &value);
            }
            if matches!(mode, Mode::FuncParamOut | Mode::FuncParamTable | Mode::FuncParamInout) {
                results.push(parameter.name.clone());
            }
        }
        self.typed(create.return_type.as_ref());
        match function.language.as_str() {
            "sql" => result.mix(&self.sql_body(function, create, &variables)),
            "plpgsql" => {
                let value = self.plpgsql_body(function, create, &mut variables, fired);
                result.mix(&value);
                for name in &results {
                    variables.0.get(name).into_iter().for_each(|value| result.mix(value));
                }
            }
            other => drop(self.unknown(format!("it is written in {other}"))),
        }
        result
    }

    /// A value becomes one of this type: a domain's check may call anything.
    fn typed(&mut self, name: Option<&TypeName>) {
        let Some(name) = name else { return };
        if self.catalogue.checks.is_empty() {
            return;
        }
        self.checked_as(name);
    }

    fn sql_body(&mut self, function: &Function, create: &CreateFunctionStmt, variables: &Variables) -> Value {
        let mut env = Env::new();
        env.add_aside(variables.item(&function.name));
        if let Some(body) = boxed(&create.sql_body) {
            return self.atomic(body, &env);
        }
        let parsed = source(create).ok_or_else(|| "no body".to_owned()).and_then(|text| parse(&text));
        let statements = match parsed {
            Ok(statements) => statements,
            Err(why) => return self.unknown(format!("its body {why}")),
        };
        let mut result = Value::derived();
        for statement in &statements {
            match boxed(&statement.stmt) {
                Some(node) => result.mix(&self.inside(node, &env)),
                None => drop(self.unknown("an empty statement")),
            }
        }
        result
    }

    /// BEGIN ATOMIC … END, or RETURN expression.
    fn atomic(&mut self, node: &NodeEnum, env: &Env<'_>) -> Value {
        match node {
            NodeEnum::List(list) => {
                let mut result = Value::derived();
                for node in list.items.iter().filter_map(inner) {
                    result.mix(&self.atomic(node, env));
                }
                result
            }
            NodeEnum::ReturnStmt(statement) => match boxed(&statement.returnval) {
                Some(node) => self.expr(node, env),
                None => Value::derived(),
            },
            node => self.inside(node, env),
        }
    }

    /// A statement of the body; the value is all that its rows hold.
    fn inside(&mut self, node: &NodeEnum, env: &Env<'_>) -> Value {
        self.out.outputs = Outputs::Known(Vec::new());
        self.top_in(node, env);
        if let NodeEnum::TransactionStmt(_) = node {
            self.unknown("it ends transactions");
        }
        match std::mem::replace(&mut self.out.outputs, Outputs::Known(Vec::new())) {
            Outputs::Unknown => self.doubt(),
            Outputs::Known(outputs) => outputs.into_iter().fold(Value::derived(), |mut all, output| {
                all.mix(&Value { sources: output.sources, derived: true, doubt: output.doubt });
                all
            }),
        }
    }

    fn plpgsql_body(
        &mut self,
        function: &Function,
        create: &CreateFunctionStmt,
        variables: &mut Variables,
        fired: Option<&Fired<'a>>,
    ) -> Value {
        let read =
            source(create).ok_or_else(|| "it has no body".to_owned()).and_then(|text| plpgsql::read(&text));
        let body = match read {
            Ok(body) => body,
            Err(why) => return self.unknown(why),
        };
        for name in &body.variables {
            variables.put(name, &Value::derived());
        }
        for name in ["found", "sqlstate", "sqlerrm"] {
            let value = if name == "sqlerrm" { self.doubt() } else { Value::derived() };
            variables.put(name, &value);
        }
        if fired.is_some() {
            const TRIGGER: [&str; 10] = [
                "tg_name",
                "tg_when",
                "tg_level",
                "tg_op",
                "tg_relid",
                "tg_relname",
                "tg_table_name",
                "tg_table_schema",
                "tg_nargs",
                "tg_argv",
            ];
            TRIGGER.iter().for_each(|name| variables.put(name, &Value::derived()));
        }
        let mut result = Value::derived();
        for _ in 0..MAX_ROUNDS {
            let before = (variables.clone(), result.clone());
            for step in &body.steps {
                self.step(step, function, variables, fired, &mut result);
            }
            if self.out.unknown.is_some() || before == (variables.clone(), result.clone()) {
                return result;
            }
        }
        self.unknown("its variables depend on each other too much")
    }

    fn step(
        &mut self,
        step: &Step,
        function: &Function,
        variables: &mut Variables,
        fired: Option<&Fired<'a>>,
        result: &mut Value,
    ) {
        let mut env = Env::new();
        for row in fired.iter().flat_map(|f| &f.rows) {
            env.add_aside(row.clone());
        }
        env.ctes = fired.map(|f| f.tables.clone()).unwrap_or_default();
        env.add_aside(variables.item(&function.name));
        match step {
            Step::Sql { text, into } => {
                let value = self.text(text, ParserOptions::DEFAULT, &env);
                for name in into {
                    self.put(variables, name, &value, fired);
                }
            }
            Step::ReturnQuery(text) => result.mix(&self.text(text, ParserOptions::DEFAULT, &env)),
            Step::Let { target, value } => {
                let value = self.text(value, ParserOptions::PLPGSQL_EXPR, &env);
                self.let_be(target, &value, variables, fired, &env);
            }
            Step::Decide(text) => {
                let value = self.text(text, ParserOptions::PLPGSQL_EXPR, &env);
                self.decide(&value);
            }
            Step::Tell(text) => {
                let value = self.text(text, ParserOptions::PLPGSQL_EXPR, &env);
                self.copy_out(&value);
            }
            Step::Return(text) => result.mix(&self.text(text, ParserOptions::PLPGSQL_EXPR, &env)),
            Step::Fetch { from, into } => {
                let value = variables.0.get(from).cloned().unwrap_or_else(|| self.doubt());
                for name in into {
                    self.put(variables, name, &value, fired);
                }
            }
            Step::Caught(target) => {
                let value = self.doubt();
                self.let_be(target, &value, variables, fired, &env);
            }
            Step::Typed(text) => self.typed_as(text),
        }
    }

    fn typed_as(&mut self, text: &str) {
        if self.catalogue.checks.is_empty() {
            return;
        }
        let parsed = parse_as(&format!("NULL::{text}"), ParserOptions::PLPGSQL_EXPR);
        let name = match parsed.as_deref() {
            Ok([raw]) => boxed(&raw.stmt).and_then(only_value),
            _ => None,
        };
        match name {
            Some(NodeEnum::TypeCast(cast)) if cast.type_name.is_some() => {
                cast.type_name.iter().for_each(|name| self.checked_as(name));
            }
            _ => drop(self.unknown("a variable of a column's type")),
        }
    }

    /// A piece of SQL with these names; the value is all that its rows hold.
    fn text(&mut self, text: &str, mode: ParserOptions, env: &Env<'_>) -> Value {
        let parsed = parse_as(text, mode);
        let Ok([raw]) = parsed.as_deref() else { return self.unknown("a part of its body does not parse") };
        match boxed(&raw.stmt) {
            Some(node) => self.inside(node, env),
            None => self.unknown("an empty part of its body"),
        }
    }

    /// `target := value`: a variable, a field or an element of one, or a column of NEW.
    fn let_be(
        &mut self,
        target: &str,
        value: &Value,
        variables: &mut Variables,
        fired: Option<&Fired<'a>>,
        env: &Env<'_>,
    ) {
        let parsed = parse_as(target, ParserOptions::PLPGSQL_EXPR);
        let target = match parsed.as_deref() {
            Ok([raw]) => boxed(&raw.stmt).and_then(only_value),
            _ => None,
        };
        let (column, subscripts) = match target {
            Some(NodeEnum::ColumnRef(column)) => (column, false),
            Some(NodeEnum::AIndirection(indirection)) => match boxed(&indirection.arg) {
                Some(NodeEnum::ColumnRef(column)) => (column, true),
                _ => return drop(self.unknown("an assignment")),
            },
            _ => return drop(self.unknown("an assignment")),
        };
        if subscripts && let Some(node) = target {
            // its indexes may call something
            self.expr(node, env);
        }
        let names: Vec<&str> = strings(&column.fields).collect();
        if let (["new", field, ..], Some(fired)) = (names.as_slice(), fired) {
            self.assign(Some(fired.relation), Some(field), None, value);
            return;
        }
        for name in &names {
            self.put(variables, name, value, fired);
        }
    }

    fn put(&mut self, variables: &mut Variables, name: &str, value: &Value, fired: Option<&Fired<'a>>) {
        if fired.is_some() && (name == "new" || name == "old") {
            // the whole row, in some order
            self.copy_unclean(value);
        }
        variables.put(name, value);
    }
}

/// Whatever a body is called with.
pub(super) fn argument() -> Value {
    Value { sources: vec![ARGUMENT], derived: true, doubt: false }
}

/// The one expression of a SELECT.
fn only_value(node: &NodeEnum) -> Option<&NodeEnum> {
    let NodeEnum::SelectStmt(select) = node else { return None };
    match select.target_list.as_slice() {
        [one] => match inner(one)? {
            NodeEnum::ResTarget(target) => boxed(&target.val),
            _ => None,
        },
        _ => None,
    }
}

fn parameter(node: &Node) -> Option<&FunctionParameter> {
    match inner(node) {
        Some(NodeEnum::FunctionParameter(parameter)) => Some(parameter),
        _ => None,
    }
}

/// The text behind AS.
fn source(create: &CreateFunctionStmt) -> Option<String> {
    let option = options(&create.options).find(|o| o.defname == "as")?;
    match boxed(&option.arg)? {
        NodeEnum::List(list) => match strings(&list.items).collect::<Vec<_>>().as_slice() {
            [text] => Some((*text).to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// The search_path that a body runs under. `None`: it sets more than that and a few settings that change nothing here.
fn own_path(create: &CreateFunctionStmt, outer: &SearchPath) -> Option<SearchPath> {
    let mut path = outer.clone();
    for option in options(&create.options).filter(|o| o.defname == "set") {
        let Some(NodeEnum::VariableSetStmt(set)) = boxed(&option.arg) else { return None };
        let values: Option<Vec<String>> = set.args.iter().map(|n| setting_of(inner(n))).collect();
        match (set.name.as_str(), values) {
            ("search_path", Some(values)) => {
                let quoted: Vec<String> =
                    values.iter().map(|v| format!("\"{}\"", v.replace('"', "\"\""))).collect();
                path = SearchPath::parse(&quoted.join(", "), "")?;
            }
            (
                "work_mem"
                | "statement_timeout"
                | "lock_timeout"
                | "enable_seqscan"
                | "enable_nestloop"
                | "jit"
                | "timezone"
                | "datestyle"
                | "maintenance_work_mem"
                | "row_security",
                Some(_),
            ) => {}
            _ => return None,
        }
    }
    Some(path)
}

impl Statement {
    /// What its rows may hold, for the statement of a body.
    pub(super) fn returned(&self) -> Option<Value> {
        match &self.outputs {
            Outputs::Known(outputs) => outputs.first().map(|output| Value {
                sources: output.sources.iter().copied().filter(|id| *id != ARGUMENT).collect(),
                derived: true,
                doubt: output.doubt,
            }),
            Outputs::Unknown => None,
        }
    }

    /// Whether what it is called with decides something, or flows to where nothing masks it.
    pub(super) fn uses_argument(&self) -> (bool, bool) {
        (self.probes.contains(&ARGUMENT), self.copies.contains(&ARGUMENT))
    }
}
