//! Expressions: what they call, and where their value comes from.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExpr, AExprKind, AIndirection, ColumnRef, JsonBehavior, JsonFuncExpr, JsonOutput, JsonValueExpr, Node,
    SubLink, SubLinkType, TypeCast, TypeName, a_const,
};

use super::names::{qualified, strings};
use super::scope::{Env, Item, Value};
use super::{Judge, boxed, inner};

impl Judge<'_> {
    pub(super) fn node(&mut self, node: &Node, env: &Env<'_>) -> Value {
        match inner(node) {
            Some(node) => self.expr(node, env),
            None => self.unknown("an empty expression"),
        }
    }

    /// An expression; what it calls is judged on the way.
    pub(super) fn expr(&mut self, node: &NodeEnum, env: &Env<'_>) -> Value {
        if !self.sink() {
            return self.doubt();
        }
        let value = self.expr_here(node, env);
        self.rise();
        value
    }

    fn expr_here(&mut self, node: &NodeEnum, env: &Env<'_>) -> Value {
        match node {
            NodeEnum::ColumnRef(column) => self.column_ref(column, env),
            NodeEnum::ParamRef(_) => self.argument.clone().unwrap_or_else(Value::derived),
            NodeEnum::AConst(_) | NodeEnum::SetToDefault(_) => Value::derived(),
            NodeEnum::SqlvalueFunction(_) | NodeEnum::CurrentOfExpr(_) => Value::derived(),
            NodeEnum::AExpr(e) => self.operation(e, env),
            NodeEnum::FuncCall(call) => self.call(call, env),
            NodeEnum::TypeCast(cast) => self.cast(cast, env),
            NodeEnum::SubLink(link) => self.sublink(link, env),
            NodeEnum::AIndirection(indirection) => self.indirection(indirection, env),
            NodeEnum::BoolExpr(e) => {
                let value = self.all(&e.args, env);
                // the arms are tried in turn: one may tell, by failing or by its time, what the other was
                if e.args.len() > 1 {
                    self.may_tell(&value);
                }
                value
            }
            NodeEnum::CaseExpr(case) => {
                let mut value = Value::derived();
                if let Some(argument) = boxed(&case.arg) {
                    let argument = self.expr(argument, env);
                    self.decide(&argument);
                }
                for arm in &case.args {
                    let Some(NodeEnum::CaseWhen(arm)) = inner(arm) else {
                        return self.unknown("a CASE");
                    };
                    let condition = self.optional(&arm.expr, env);
                    self.decide(&condition);
                    value.mix(&self.optional(&arm.result, env));
                }
                value.mix(&self.optional(&case.defresult, env));
                value
            }
            NodeEnum::CoalesceExpr(e) => self.all(&e.args, env),
            NodeEnum::MinMaxExpr(e) => self.all(&e.args, env),
            NodeEnum::RowExpr(e) => self.all(&e.args, env),
            NodeEnum::AArrayExpr(e) => self.all(&e.elements, env),
            NodeEnum::List(list) => self.all(&list.items, env),
            NodeEnum::NullTest(e) => self.computed(&e.arg, env),
            NodeEnum::BooleanTest(e) => self.computed(&e.arg, env),
            NodeEnum::CollateClause(e) => self.computed(&e.arg, env),
            NodeEnum::NamedArgExpr(e) => self.optional(&e.arg, env),
            NodeEnum::MultiAssignRef(e) => self.computed(&e.source, env),
            NodeEnum::GroupingFunc(e) => {
                self.all(&e.args, env);
                Value::derived()
            }
            NodeEnum::MergeSupportFunc(_) => Value::derived(),
            NodeEnum::XmlExpr(e) => {
                let mut value = self.all(&e.args, env);
                for named in &e.named_args {
                    match inner(named) {
                        Some(NodeEnum::ResTarget(t)) => value.mix(&self.optional(&t.val, env)),
                        _ => return self.unknown("an XML expression"),
                    }
                }
                // what is no XML fails
                self.may_tell(&value);
                value
            }
            NodeEnum::XmlSerialize(e) => self.computed(&e.expr, env),
            _ => self.json(node, env),
        }
    }

    /// SQL/JSON: part of the grammar from PostgreSQL 16 and 17 on. An older server would call a
    /// function of that name instead, which anybody may have made.
    fn json(&mut self, node: &NodeEnum, env: &Env<'_>) -> Value {
        let since = match node {
            NodeEnum::JsonObjectConstructor(_)
            | NodeEnum::JsonArrayConstructor(_)
            | NodeEnum::JsonArrayQueryConstructor(_)
            | NodeEnum::JsonObjectAgg(_)
            | NodeEnum::JsonArrayAgg(_)
            | NodeEnum::JsonIsPredicate(_)
            | NodeEnum::JsonValueExpr(_)
            | NodeEnum::JsonKeyValue(_) => 160_000,
            _ => 170_000,
        };
        if self.catalogue.server_version() < since {
            return self.unknown("an expression that this server does not have");
        }
        match node {
            NodeEnum::JsonObjectConstructor(e) => {
                let value = self.all(&e.exprs, env);
                self.json_output(e.output.as_ref(), &value)
            }
            NodeEnum::JsonArrayConstructor(e) => {
                let value = self.all(&e.exprs, env);
                self.json_output(e.output.as_ref(), &value)
            }
            NodeEnum::JsonKeyValue(e) => {
                let mut value = self.computed(&e.key, env);
                self.may_tell(&value);
                value.mix(&self.json_value(e.value.as_deref(), env));
                value
            }
            NodeEnum::JsonValueExpr(e) => self.json_value(Some(e), env),
            NodeEnum::JsonIsPredicate(e) => {
                let value = self.computed(&e.expr, env);
                self.may_tell(&value);
                value
            }
            NodeEnum::JsonParseExpr(e) => {
                let value = self.json_value(e.expr.as_deref(), env);
                self.may_tell(&value);
                self.json_output(e.output.as_ref(), &value)
            }
            NodeEnum::JsonScalarExpr(e) => {
                let value = self.computed(&e.expr, env);
                self.json_output(e.output.as_ref(), &value)
            }
            NodeEnum::JsonSerializeExpr(e) => {
                let value = self.json_value(e.expr.as_deref(), env);
                self.json_output(e.output.as_ref(), &value)
            }
            NodeEnum::JsonFuncExpr(e) => self.json_func(e, env),
            _ => self.unknown("an expression"),
        }
    }

    fn json_func(&mut self, e: &JsonFuncExpr, env: &Env<'_>) -> Value {
        let mut value = self.json_value(e.context_item.as_deref(), env);
        value.mix(&self.optional(&e.pathspec, env));
        for argument in &e.passing {
            match inner(argument) {
                Some(NodeEnum::JsonArgument(a)) => value.mix(&self.json_value(a.val.as_deref(), env)),
                _ => return self.unknown("a PASSING clause"),
            }
        }
        for behaviour in [&e.on_empty, &e.on_error].into_iter().flatten() {
            value.mix(&self.json_behaviour(behaviour, env));
        }
        self.may_tell(&value);
        self.json_output(e.output.as_ref(), &value)
    }

    fn json_behaviour(&mut self, behaviour: &JsonBehavior, env: &Env<'_>) -> Value {
        self.optional(&behaviour.expr, env)
    }

    fn json_value(&mut self, value: Option<&JsonValueExpr>, env: &Env<'_>) -> Value {
        match value {
            Some(v) => {
                let mut value = self.computed(&v.raw_expr, env);
                value.mix(&self.optional(&v.formatted_expr, env));
                value
            }
            None => Value::derived(),
        }
    }

    fn json_output(&mut self, output: Option<&JsonOutput>, value: &Value) -> Value {
        let mut value = value.clone();
        if let Some(name) = output.and_then(|o| o.type_name.as_ref()) {
            self.cast_to(name, &mut value);
        }
        value
    }

    /// Several, mixed: computed.
    pub(super) fn all(&mut self, nodes: &[Node], env: &Env<'_>) -> Value {
        let mut value = Value::derived();
        for node in nodes {
            value.mix(&self.node(node, env));
        }
        value
    }

    fn optional(&mut self, node: &Option<Box<Node>>, env: &Env<'_>) -> Value {
        match boxed(node) {
            Some(node) => self.expr(node, env),
            None => Value::derived(),
        }
    }

    fn computed(&mut self, node: &Option<Box<Node>>, env: &Env<'_>) -> Value {
        let mut value = self.optional(node, env);
        value.derived = true;
        value
    }

    fn column_ref(&mut self, column: &ColumnRef, env: &Env<'_>) -> Value {
        // `t.*` as an expression (in count(t.*), row comparison, a function's argument) is the row
        if let Some((last, names)) = column.fields.split_last()
            && matches!(inner(last), Some(NodeEnum::AStar(_)))
        {
            let names: Vec<&str> = strings(names).collect();
            let found = if names.is_empty() { None } else { self.find_item(&names, env).map(Item::row) };
            return match (found, names.is_empty()) {
                (Some(row), _) => row,
                (None, true) => env.items.iter().fold(Value::derived(), |mut v, i| {
                    v.mix(&i.row());
                    v
                }),
                (None, false) => self.column(&names, env),
            };
        }
        let names: Vec<&str> = strings(&column.fields).collect();
        if names.len() != column.fields.len() {
            return self.unknown("a column reference");
        }
        self.column(&names, env)
    }

    pub(super) fn resolves(&self, column: &ColumnRef, env: &Env<'_>) -> bool {
        let names: Vec<&str> = strings(&column.fields).collect();
        match names.as_slice() {
            [name] => env.items.iter().any(|i| i.find(name).is_some() || i.open.is_some()),
            _ => true,
        }
    }

    /// The element of FROM that `names` (alias, or schema and table) means.
    pub(super) fn find_item<'e>(&self, names: &[&str], env: &'e Env<'_>) -> Option<&'e Item> {
        let own = env.items.iter().find(|i| match names {
            [alias] => i.alias == *alias,
            [schema, table] | [_, schema, table] => i.alias == *table && i.schema.as_deref() == Some(*schema),
            _ => false,
        });
        own.or_else(|| env.parent.and_then(|p| self.find_item(names, p)))
    }

    /// A column, a whole row, a field of a composite, or a function written like a column.
    pub(super) fn column(&mut self, names: &[&str], env: &Env<'_>) -> Value {
        match names {
            [] => self.unknown("a column reference"),
            [name] => self.plain_column(name, env),
            [first, .., last] => {
                let (front, _) = names.split_at(names.len() - 1);
                if let Some(item) = self.find_item(front, env) {
                    return self.item_column(item, last, env);
                }
                // c.field: a field of a composite column
                if names.len() == 2 && self.has_column(first, env) {
                    let mut value = self.plain_column(first, env);
                    value.derived = true;
                    return value;
                }
                self.missing(format!("column {} is not in the catalogue", names.join(".")))
            }
        }
    }

    fn has_column(&self, name: &str, env: &Env<'_>) -> bool {
        env.items.iter().any(|i| i.find(name).is_some() || i.open.is_some())
            || env.parent.is_some_and(|p| self.has_column(name, p))
    }

    fn plain_column(&mut self, name: &str, env: &Env<'_>) -> Value {
        let mut level = Some(env);
        while let Some(here) = level {
            let mut found: Option<Value> = None;
            for item in &here.items {
                let value = match item.find(name) {
                    Some(column) => {
                        self.out.columns_read.extend(column.id);
                        &column.value
                    }
                    None => match &item.open {
                        Some(open) => open,
                        None => continue,
                    },
                };
                found = Some(match found {
                    None => value.clone(),
                    Some(have) => have.either(value),
                });
            }
            if let Some(found) = found {
                return found;
            }
            level = here.parent;
        }
        match self.find_item(&[name], env) {
            Some(item) => {
                self.out.columns_read.extend(item.columns.iter().filter_map(|c| c.id));
                item.row()
            }
            None => self.missing(format!("column {name} is not in the catalogue")),
        }
    }

    fn item_column(&mut self, item: &Item, name: &str, env: &Env<'_>) -> Value {
        if let Some(column) = item.find(name) {
            self.out.columns_read.extend(column.id);
            return column.value.clone();
        }
        if let Some(open) = &item.open {
            return open.clone();
        }
        // `c.f` is `f(c)` when the row has no column f
        let row = item.row();
        self.call_named(None, name, &[row], env)
    }

    fn operation(&mut self, e: &AExpr, env: &Env<'_>) -> Value {
        let left = self.optional(&e.lexpr, env);
        let right = self.optional(&e.rexpr, env);
        let mut value = left.clone();
        value.mix(&right);
        value.derived = true;
        let user = self.operator(&e.name);
        if user {
            value.mix(&self.doubt());
        }
        let compares = [
            AExprKind::AexprOpAny,
            AExprKind::AexprOpAll,
            AExprKind::AexprDistinct,
            AExprKind::AexprNotDistinct,
            AExprKind::AexprIn,
            AExprKind::AexprBetween,
            AExprKind::AexprNotBetween,
            AExprKind::AexprBetweenSym,
            AExprKind::AexprNotBetweenSym,
        ];
        let patterns = [AExprKind::AexprLike, AExprKind::AexprIlike, AExprKind::AexprSimilar];
        if compares.iter().any(|k| *k as i32 == e.kind) {
            // with a NULL among the others the answer is NULL or not: `x = ANY (ARRAY['guess', NULL])`
            let never_null = [AExprKind::AexprDistinct, AExprKind::AexprNotDistinct];
            if !never_null.iter().any(|k| *k as i32 == e.kind) {
                self.may_tell(&value);
            }
            return value;
        }
        if patterns.iter().any(|k| *k as i32 == e.kind) {
            // a pattern that is no pattern fails
            self.may_tell(&right);
            return value;
        }
        let name = strings(&e.name).last().unwrap_or("");
        // (x, 1) = ('guess', NULL) is false or NULL
        let rows = [&e.lexpr, &e.rexpr]
            .into_iter()
            .any(|side| matches!(boxed(side), Some(NodeEnum::RowExpr(_) | NodeEnum::SubLink(_))));
        let total = e.kind == AExprKind::AexprOp as i32
            && !rows
            && match name {
                "||" | "=" | "<>" | "<" | "<=" | ">" | ">=" | "@>" | "<@" | "&&" => true,
                "->" | "->>" | "#>" | "#>>" | "~" | "!~" | "~*" | "!~*" | "~~" | "!~~" | "~~*" | "!~~*" => {
                    right.is_clean()
                }
                _ => false,
            };
        // arithmetic may overflow or divide by zero; NULLIF shows by NULL what was equal
        if !total {
            self.may_tell(&value);
        }
        value
    }

    fn cast(&mut self, cast: &TypeCast, env: &Env<'_>) -> Value {
        let mut value = self.optional(&cast.arg, env);
        let constant = matches!(boxed(&cast.arg), Some(NodeEnum::AConst(_)));
        match &cast.type_name {
            Some(name) if constant && is_boolean(name) => Value::derived(),
            Some(name) => {
                self.cast_to(name, &mut value);
                value
            }
            None => self.unknown("a cast"),
        }
    }

    /// `value` becomes one of type `name`: what the type does on the way, and whether it may fail.
    pub(super) fn cast_to(&mut self, name: &TypeName, value: &mut Value) {
        value.derived = true;
        if name.setof || name.pct_type {
            self.unknown("a type by reference");
            return;
        }
        let Some((schema, type_name)) = qualified(&name.names) else {
            self.unknown("a type");
            return;
        };
        if !is_text(schema, type_name) || !name.array_bounds.is_empty() {
            self.may_tell(value);
        }
        let types = &self.catalogue.types;
        let mut schemas: Vec<&str> = match schema {
            Some(schema) => vec![schema],
            None => self.path.schemas().collect(),
        };
        schemas.retain(|s| types.get(*s).is_some_and(|t| t.contains_key(type_name)));
        let Some(found) = schemas.first().and_then(|s| types.get(*s)).and_then(|t| t.get(type_name)) else {
            if self.catalogue.types.is_empty() && schema.is_none_or(|s| s == "pg_catalog") {
                return;
            }
            self.missing(format!("type {type_name} is not in the catalogue"));
            return;
        };
        let (oid, domain) = (found.oid, found.kind == 'd');
        if domain && oid >= 16384 {
            // its CHECK may call anything
            value.mix(&self.doubt());
        }
        for function in self.catalogue.checks.get(&oid).cloned().unwrap_or_default() {
            self.call_by_oid(function, value);
        }
        let casts = self.catalogue.casts.get(&oid).cloned().unwrap_or_default();
        for function in casts {
            self.call_by_oid(function, value);
        }
    }

    /// A variable or argument of this type gets a value: what a domain checks it by.
    pub(super) fn checked_as(&mut self, name: &TypeName) {
        let Some((schema, type_name)) = qualified(&name.names).filter(|_| !name.pct_type) else {
            self.unknown("a variable of a column's type");
            return;
        };
        let catalogue = self.catalogue;
        let named = catalogue.types.iter().filter(|(s, _)| schema.is_none_or(|schema| schema == *s));
        let oids: Vec<u32> = named.filter_map(|(_, types)| types.get(type_name)).map(|t| t.oid).collect();
        for function in oids.iter().filter_map(|oid| catalogue.checks.get(oid)).flatten() {
            self.call_by_oid(*function, &mut Value::derived());
        }
    }

    fn sublink(&mut self, link: &SubLink, env: &Env<'_>) -> Value {
        let test = self.computed(&link.testexpr, env);
        if !link.oper_name.is_empty() {
            self.operator(&link.oper_name);
        }
        let Some(NodeEnum::SelectStmt(select)) = boxed(&link.subselect) else {
            return self.unknown("a subquery");
        };
        let columns = self.select(select, env);
        if link.sub_link_type == SubLinkType::ExistsSublink as i32 {
            return Value::derived();
        }
        let Some(columns) = columns else { return self.doubt() };
        if link.sub_link_type == SubLinkType::ExprSublink as i32
            && let [(_, value)] = columns.as_slice()
        {
            return value.clone();
        }
        let mut value = test;
        columns.iter().for_each(|(_, v)| value.mix(v));
        value.derived = true;
        if link.sub_link_type != SubLinkType::ArraySublink as i32 {
            // x IN (SELECT …) with a NULL in it; more rows than one fail
            self.may_tell(&value);
        }
        value
    }

    fn indirection(&mut self, e: &AIndirection, env: &Env<'_>) -> Value {
        for step in &e.indirection {
            if let Some(NodeEnum::AIndices(indices)) = inner(step) {
                for index in [&indices.lidx, &indices.uidx].into_iter().filter_map(boxed) {
                    let value = self.expr(index, env);
                    self.decide(&value);
                }
            }
        }
        // (c).email
        if let (Some(NodeEnum::ColumnRef(column)), [step]) = (boxed(&e.arg), e.indirection.as_slice())
            && let Some(NodeEnum::String(field)) = inner(step)
        {
            let names: Vec<&str> = strings(&column.fields).collect();
            if names.len() == column.fields.len()
                && !names.last().is_some_and(|n| self.has_column(n, env))
                && let Some(item) = self.find_item(&names, env)
            {
                return self.item_column(item, &field.sval, env);
            }
        }
        let mut value = self.computed(&e.arg, env);
        // (expression).f may be a call of f
        for field in strings(&e.indirection) {
            if self.catalogue.functions.get(field).is_some_and(|f| f.iter().any(|f| !f.builtin)) {
                value = self.call_named(None, field, &[value], env);
            }
        }
        value
    }
}

fn is_boolean(name: &TypeName) -> bool {
    matches!(qualified(&name.names), Some((Some("pg_catalog"), "bool")))
}

/// A cast to these neither fails nor shows anything by itself.
fn is_text(schema: Option<&str>, name: &str) -> bool {
    schema.is_none_or(|s| s == "pg_catalog")
        && matches!(name, "text" | "varchar" | "bpchar" | "json" | "jsonb" if name != "json" && name != "jsonb")
}

/// Whether an expression speaks of a column of `item` at all: `WHERE true` does not.
pub(super) fn speaks_of_columns(node: &NodeEnum, depth: usize) -> bool {
    if depth == 0 {
        return false;
    }
    let any = |nodes: &[Node]| nodes.iter().filter_map(inner).any(|n| speaks_of_columns(n, depth - 1));
    let one = |n: &Option<Box<Node>>| boxed(n).is_some_and(|n| speaks_of_columns(n, depth - 1));
    match node {
        NodeEnum::ColumnRef(_) | NodeEnum::CurrentOfExpr(_) => true,
        NodeEnum::AExpr(e) => (one(&e.lexpr) || one(&e.rexpr)) && !is_same(e),
        // x OR true is true
        NodeEnum::BoolExpr(e) => {
            let is_or = e.boolop == pg_query::protobuf::BoolExprType::OrExpr as i32;
            let mut parts = e.args.iter().filter_map(inner).map(|n| speaks_of_columns(n, depth - 1));
            if is_or { parts.all(|p| p) } else { parts.any(|p| p) }
        }
        NodeEnum::FuncCall(e) => any(&e.args),
        NodeEnum::TypeCast(e) => one(&e.arg),
        NodeEnum::NullTest(e) => one(&e.arg),
        NodeEnum::BooleanTest(e) => one(&e.arg),
        NodeEnum::CollateClause(e) => one(&e.arg),
        NodeEnum::AIndirection(e) => one(&e.arg),
        NodeEnum::RowExpr(e) => any(&e.args),
        NodeEnum::List(e) => any(&e.items),
        NodeEnum::CoalesceExpr(e) => any(&e.args),
        NodeEnum::MinMaxExpr(e) => any(&e.args),
        NodeEnum::CaseExpr(e) => one(&e.arg) || !e.args.is_empty(),
        NodeEnum::SubLink(e) => one(&e.testexpr) || boxed(&e.subselect).is_some(),
        _ => false,
    }
}

/// `id = id`: the same column on both sides.
fn is_same(e: &AExpr) -> bool {
    match (boxed(&e.lexpr), boxed(&e.rexpr)) {
        (Some(NodeEnum::ColumnRef(l)), Some(NodeEnum::ColumnRef(r))) => {
            strings(&l.fields).eq(strings(&r.fields))
        }
        _ => false,
    }
}

/// Whether the constant is a string.
pub(super) fn is_string(node: Option<&NodeEnum>) -> bool {
    matches!(node, Some(NodeEnum::AConst(c)) if matches!(c.val, Some(a_const::Val::Sval(_))))
}
