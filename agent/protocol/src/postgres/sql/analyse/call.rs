//! Calls: of functions, of operators that users made, of casts.

use pg_query::NodeEnum;
use pg_query::protobuf::{FuncCall, Node, WindowDef};

use super::super::builtins::{self, Builtin};
use super::super::catalogue::{Function, Volatility};
use super::super::{Access, Effects};
use super::expr::is_string;
use super::names::{qualified, setting_of, text_of};
use super::scope::{Env, Value};
use super::{Judge, boxed, inner};

/// What a call amounts to, over every function that it may mean.
#[derive(Default)]
struct Meant {
    aggregate: bool,
    returns_set: bool,
    /// What bodies of functions bring into the result.
    result: Value,
    /// What a body is called with decides something in it.
    decides: bool,
    /// What a body is called with flows to where nothing masks it.
    copies: bool,
    total: bool,
    total_in_all: bool,
}

impl<'a> Judge<'a> {
    pub(super) fn call(&mut self, call: &FuncCall, env: &Env<'_>) -> Value {
        let Some((schema, name)) = qualified(&call.funcname) else {
            return self.unknown("a function's name");
        };
        let values: Vec<Value> = call.args.iter().map(|a| self.node(a, env)).collect();
        for sort in &call.agg_order {
            match inner(sort) {
                Some(NodeEnum::SortBy(sort)) => self.sort_by(sort, env, None),
                _ => drop(self.unknown("an ORDER BY in a call")),
            }
        }
        if let Some(filter) = boxed(&call.agg_filter) {
            let value = self.expr(filter, env);
            self.decide(&value);
        }
        if let Some(over) = &call.over {
            self.window(over, env);
        }
        if call.agg_distinct || call.agg_within_group || call.over.is_some() {
            values.iter().for_each(|v| self.decide(v));
        }
        self.special(schema, name, call, &values);
        // the second argument of substring is a position or a pattern, and a pattern may not match
        if name == "substring" && (call.args.len() < 2 || is_string(call.args.get(1).and_then(inner))) {
            values.iter().for_each(|v| self.may_tell(v));
        }
        self.call_named(schema, name, &values, env)
    }

    /// Functions of which the arguments matter.
    fn special(&mut self, schema: Option<&str>, name: &str, call: &FuncCall, values: &[Value]) {
        if !matches!(name, "nextval" | "setval" | "set_config" | "pg_notify")
            || schema.is_some_and(|s| s != "pg_catalog")
        {
            return;
        }
        match name {
            "set_config" => {
                self.out.literal_free = false;
                let arg = |i: usize| call.args.get(i).and_then(inner);
                match (text_of(arg(0)), setting_of(arg(1)), setting_of(arg(2)).as_deref()) {
                    (Some(setting), Some(value), Some(local @ ("on" | "off"))) => {
                        self.set(&setting.to_ascii_lowercase(), Some(value), local == "on");
                    }
                    _ => drop(self.unknown("set_config with what is no constant")),
                }
            }
            "pg_notify" => values.iter().for_each(|v| self.copy_out(v)),
            _ => {
                // the sequence, when it is named by a constant
                self.out.literal_free = false;
                let first = call.args.first().and_then(inner);
                let first = match first {
                    Some(NodeEnum::TypeCast(cast)) => boxed(&cast.arg),
                    other => other,
                };
                let named = text_of(first).and_then(|t| {
                    let (schema, name) = t.split_once('.').unwrap_or(("", t));
                    let plain = |s: &str| s.trim_matches('"').to_owned();
                    self.find_relation(&plain(schema), &plain(name))
                });
                if let Some(sequence) = named {
                    self.uses(sequence, Access::Update);
                }
            }
        }
    }

    /// A call by name with as many arguments as `values`; also `row.f` for `f(row)`.
    pub(super) fn call_named(
        &mut self,
        schema: Option<&str>,
        name: &str,
        values: &[Value],
        _env: &Env<'_>,
    ) -> Value {
        // unnest(a, b) in FROM is the grammar's own: unnest(a) beside unnest(b)
        let arguments = if is_unnest(schema, name) { values.len().min(1) } else { values.len() };
        let candidates = self.candidates(schema, name, arguments);
        if candidates.is_empty() {
            return self.no_function(schema, name, values);
        }
        let mut meant = Meant { total: true, total_in_all: true, ..Meant::default() };
        for function in candidates {
            self.judge_function(function, &mut meant);
        }
        let mut result = Value::derived();
        for (i, value) in values.iter().enumerate() {
            result.mix(value);
            if meant.copies {
                self.copy_out(value);
            }
            if meant.aggregate || meant.decides {
                self.decide(value);
            } else if meant.returns_set || !(meant.total_in_all || meant.total && i == 0) {
                self.may_tell(value);
            }
        }
        result.mix(&meant.result);
        result
    }

    /// `f(x)` may also be a cast to type f, or the field f of a row x.
    fn no_function(&mut self, schema: Option<&str>, name: &str, values: &[Value]) -> Value {
        let is_type = self
            .path
            .schemas()
            .filter(|s| schema.is_none_or(|wanted| wanted == *s))
            .any(|s| self.catalogue.types.get(s).is_some_and(|t| t.contains_key(name)));
        match values {
            [value] if is_type => {
                self.may_tell(value);
                Value { derived: true, ..value.clone() }
            }
            // only a row has fields, and then all of them are in the value
            [value] if schema.is_none() && !value.is_clean() => {
                self.out.stale = true;
                self.unknown(format!("function {name} is not in the catalogue"))
            }
            _ => self.missing(format!("function {name} is not in the catalogue")),
        }
    }

    /// Every function that the call may mean. Types are not known here, so all of the name count
    /// that take so many arguments, in whatever schema of the path.
    fn candidates(&self, schema: Option<&str>, name: &str, arguments: usize) -> Vec<&'a Function> {
        let catalogue = self.catalogue;
        let Some(functions) = catalogue.functions.get(name) else { return Vec::new() };
        let seen = |f: &&Function| match schema {
            Some(schema) => f.schema == schema,
            None => self.path.schemas().any(|s| s == f.schema),
        };
        functions
            .iter()
            .filter(seen)
            // an aggregate WITHIN GROUP takes its ORDER BY as further arguments
            .filter(|f| f.kind == 'a' || (f.min_args..=f.max_args).contains(&arguments))
            .collect()
    }

    fn judge_function(&mut self, function: &'a Function, meant: &mut Meant) {
        meant.aggregate |= matches!(function.kind, 'a' | 'w');
        meant.returns_set |= function.returns_set;
        if function.builtin {
            meant.total &= builtins::is_total(&function.name);
            meant.total_in_all &= builtins::is_total_in_all(&function.name);
            self.builtin(function);
            return;
        }
        meant.total = false;
        meant.total_in_all = false;
        self.out.functions.push((function.schema.clone(), function.name.clone()));
        let named = || format!("function {}.{}", function.schema, function.name);
        if function.vouched {
            self.does(Effects::READ);
            return;
        }
        // whoever installed an extension answers for what it declares
        if function.extension {
            if builtins::runs_sql(&function.name) {
                self.unknown(format!("{} runs SQL of its own", named()));
            } else if function.volatility == Volatility::Volatile
                && !builtins::is_harmless_elsewhere(&function.name)
            {
                self.unknown(format!("{} is volatile and nobody vouches for it", named()));
            }
            return;
        }
        if function.kind == 'a' && !function.supports.is_empty() {
            for support in &function.supports {
                match self.catalogue.function(*support) {
                    Some(support) => self.judge_function(support, meant),
                    None => {
                        drop(self.missing(format!("{} has a part that is not in the catalogue", named())))
                    }
                }
            }
            return;
        }
        let made = self.body(function, None);
        let hint = if function.vouched_otherwise { " (it is vouched for, but not as it is now)" } else { "" };
        self.does(Effects::READ);
        self.take_over(&made, &format!("{}{hint}", named()));
        let (decides, copies) = made.uses_argument();
        meant.decides |= decides;
        meant.copies |= copies;
        let result = made.returned().unwrap_or_else(|| self.doubt());
        meant.result.mix(&result);
    }

    fn builtin(&mut self, function: &Function) {
        let name = function.name.as_str();
        match builtins::judge(name, function.volatility) {
            Builtin::Pure => self.does(Effects::READ),
            Builtin::Session | Builtin::Notify => self.does(Effects::SESSION),
            Builtin::Sequence => self.does(Effects::WRITE),
            // judged with its arguments, in `special`; with any others it must not pass
            Builtin::SetConfig => {
                self.does(Effects::SESSION);
                if !self.out.sets.iter().any(|_| true) {
                    self.unknown("set_config with what is no constant");
                }
            }
            Builtin::Admin => self.does(Effects::ADMIN),
            Builtin::File => self.does(Effects::FILE),
            Builtin::Unknown => drop(self.unknown(format!("function pg_catalog.{name} is not judged"))),
        }
    }

    /// A function behind a cast or an operator that users made.
    pub(super) fn call_by_oid(&mut self, oid: u32, value: &mut Value) {
        let catalogue = self.catalogue;
        let function = catalogue.function(oid);
        let mut meant = Meant::default();
        match function {
            Some(function) => {
                let before = self.out.functions.len();
                self.judge_function(function, &mut meant);
                // an extension's operator of the same name may be meant or not: nobody asked to call its function
                if function.extension {
                    self.out.functions.truncate(before);
                }
            }
            None => drop(self.missing("a function behind a cast or an operator is not in the catalogue")),
        }
        if meant.decides {
            self.may_tell(value);
        }
        if meant.copies {
            self.copy_out(value);
        }
        value.mix(&meant.result);
    }

    /// An operator: those of pg_catalog are fine; one that users made calls its function. `true`
    /// when its result is in doubt.
    pub(super) fn operator(&mut self, name: &[Node]) -> bool {
        let Some((schema, name)) = qualified(name) else {
            self.unknown("an operator");
            return false;
        };
        if schema == Some("pg_catalog") {
            return false;
        }
        let functions = self.catalogue.operators.get(name).cloned().unwrap_or_default();
        if schema.is_some() && functions.is_empty() {
            self.missing(format!("operator {name} is not in the catalogue"));
        }
        let mut value = Value::derived();
        for function in functions {
            self.call_by_oid(function, &mut value);
        }
        value.doubt
    }

    /// A window: what it sorts and parts by decides.
    pub(super) fn window(&mut self, window: &WindowDef, env: &Env<'_>) {
        for part in &window.partition_clause {
            let value = self.node(part, env);
            self.decide(&value);
        }
        for sort in &window.order_clause {
            match inner(sort) {
                Some(NodeEnum::SortBy(sort)) => self.sort_by(sort, env, None),
                _ => drop(self.unknown("a window")),
            }
        }
        for offset in [&window.start_offset, &window.end_offset].into_iter().filter_map(boxed) {
            let value = self.expr(offset, env);
            self.decide(&value);
        }
    }

    /// The name and the columns that a call in FROM gives; no columns when they are not known.
    pub(super) fn result_columns(&self, call: &NodeEnum) -> (Option<String>, Option<Vec<String>>) {
        let NodeEnum::FuncCall(call) = call else {
            // CURRENT_DATE and its kin may stand there too
            return (None, None);
        };
        let Some((schema, name)) = qualified(&call.funcname) else { return (None, None) };
        let own = Some(name.to_owned());
        let mut found: Option<Vec<String>> = None;
        if is_unnest(schema, name) && call.args.len() > 1 {
            return (own, Some(vec![name.to_owned(); call.args.len()]));
        }
        for function in self.candidates(schema, name, call.args.len()) {
            let columns = self.columns_of(function, name);
            match (&found, columns) {
                (_, None) => return (own, None),
                (None, columns) => found = columns,
                (Some(have), Some(columns)) if *have == columns => {}
                _ => return (own, None),
            }
        }
        (own, found)
    }

    fn columns_of(&self, function: &Function, name: &str) -> Option<Vec<String>> {
        const RECORD: u32 = 2249;
        if function.out_names.len() > 1 {
            return function.out_names.iter().all(|n| !n.is_empty()).then(|| function.out_names.clone());
        }
        if let [out] = function.out_names.as_slice() {
            return Some(vec![if out.is_empty() { name.to_owned() } else { out.clone() }]);
        }
        // pseudo types (record, anyelement …) stand for a type that only the call decides
        if function.returns == RECORD || (2276..=2283).contains(&function.returns) {
            let scalar = matches!(name, "unnest" | "generate_series" | "jsonb_array_elements");
            return (scalar && name != "unnest").then(|| vec![name.to_owned()]);
        }
        let composite = self
            .catalogue
            .types
            .values()
            .flat_map(|t| t.values())
            .any(|t| t.oid == function.returns && t.relation != 0);
        (!composite).then(|| vec![name.to_owned()])
    }
}

fn is_unnest(schema: Option<&str>, name: &str) -> bool {
    name == "unnest" && schema.is_none_or(|s| s == "pg_catalog")
}
