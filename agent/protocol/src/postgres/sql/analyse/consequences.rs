//! What else happens when a relation is written to: triggers, rules, foreign keys, functions of its columns; and what a
//! write through a view comes to.
//!
//! Must hold: what stands behind a write is judged like the write itself, and what can't be judged makes it `unknown`.
//! A relation whose consequences are being judged already is not judged again inside them (its own are in the sum).

use pg_query::NodeEnum;
use pg_query::protobuf::{CmdType, RangeVar, SelectStmt};

use super::super::catalogue::{ForeignKeyRow, TriggerRow};
use super::super::{Access, ColumnId, Effects, Outputs, Relation, RelationKind, Statement};
use super::body::Fired;
use super::scope::{Cte, Env, Item, Value, Visible};
use super::{Judge, boxed, inner, parse};

/// Bits of `pg_trigger.tgtype` (catalog/pg_trigger.h).
const INSERT: u8 = 1 << 2;
const DELETE: u8 = 1 << 3;
const UPDATE: u8 = 1 << 4;
const TRUNCATE: u8 = 1 << 5;
const INSTEAD: u8 = 1 << 6;

impl<'a> Judge<'a> {
    /// Everything that `access` to `relation` brings with it. `columns`: those that an UPDATE sets, where they are known.
    pub(super) fn consequences(&mut self, relation: &'a Relation, access: Access, columns: Option<&[&str]>) {
        let event = match access {
            Access::Insert => INSERT,
            Access::Update => UPDATE,
            Access::Delete => DELETE,
            Access::Truncate => TRUNCATE,
            _ => return,
        };
        if self.firing.contains(&(relation.oid, event)) {
            self.cut = true;
            return;
        }
        if !self.sink() {
            return;
        }
        self.firing.push((relation.oid, event));
        self.columns_call(relation);
        self.triggers(relation, event);
        self.rules(relation, event);
        if access != Access::Insert {
            self.foreign_keys(relation, event, columns);
        }
        // rows of a partition or an heir are written by the name of the parent
        let heirs = self.catalogue.heirs.get(&relation.oid).cloned().unwrap_or_default();
        for heir in heirs.into_iter().filter_map(|oid| self.catalogue.relation_by_oid(oid)) {
            self.consequences(heir, access, columns);
        }
        self.firing.pop();
        self.rise();
    }

    /// Functions in its defaults, checks, generated columns and indexes. What an extension brought, whoever installed it
    /// answers for.
    fn columns_call(&mut self, relation: &Relation) {
        let called = self.catalogue.calls.get(&relation.oid).cloned().unwrap_or_default();
        for oid in called {
            if self.catalogue.function(oid).is_some_and(|f| f.extension) {
                continue;
            }
            let before = self.out.functions.len();
            self.call_by_oid(oid, &mut Value::derived());
            self.out.functions.truncate(before);
        }
    }

    fn triggers(&mut self, relation: &'a Relation, event: u8) {
        let catalogue = self.catalogue;
        let all = catalogue.triggers.get(&relation.oid).map(Vec::as_slice).unwrap_or_default();
        for trigger in all {
            // the low seven bits are all that it has
            let kind = u8::try_from(trigger.kind & 0x7f).unwrap_or(0x7f);
            if kind & event != 0 {
                self.trigger(relation, trigger, event);
            }
        }
    }

    fn trigger(&mut self, relation: &'a Relation, trigger: &TriggerRow, event: u8) {
        let Some(function) = self.catalogue.function(trigger.function) else {
            self.missing("the function of a trigger is not in the catalogue");
            return;
        };
        let named = format!("trigger on {}.{}", relation.schema, relation.name);
        let fired = Fired { relation, event, rows: self.rows_of(relation, event), tables: Vec::new() };
        let Some(fired) = self.declared(trigger, fired) else {
            self.out.stale |= trigger.definition.is_empty();
            self.unknown(format!("the {named} is not understood"));
            return;
        };
        if function.builtin {
            // those that the server brings change nothing but the row
            if !is_harmless(&function.name) {
                self.unknown(format!("the {named} calls {}", function.name));
            }
            return;
        }
        if function.vouched {
            return;
        }
        let made = self.body(function, Some(&fired));
        let before = self.out.functions.len();
        self.take_over(&made, &format!("the {named} calls {}.{}", function.schema, function.name));
        // whoever may write to the table need not be permitted to call what its owner put there
        self.out.functions.truncate(before);
    }

    /// NEW and OLD. What an INSERT brings is the client's own.
    fn rows_of(&mut self, relation: &'a Relation, event: u8) -> Vec<Item> {
        let item = self.item(relation, None);
        let named = |alias: &str, clean: bool| {
            let columns: Vec<Visible> = item
                .columns
                .iter()
                .map(|c| if clean { Visible { value: Value::derived(), ..c.clone() } } else { c.clone() })
                .collect();
            Item { alias: alias.to_owned(), schema: None, columns: Vec::new(), hidden: columns, open: None }
        };
        vec![named("new", event == INSERT), named("old", event == INSERT)]
    }

    /// The condition of the trigger, judged, and its transition tables.
    fn declared(&mut self, trigger: &TriggerRow, mut fired: Fired<'a>) -> Option<Fired<'a>> {
        let parsed = parse(&trigger.definition).ok()?;
        let [raw] = parsed.as_slice() else { return None };
        let Some(NodeEnum::CreateTrigStmt(create)) = boxed(&raw.stmt) else { return None };
        for node in &create.transition_rels {
            let Some(NodeEnum::TriggerTransition(table)) = inner(node) else { return None };
            let row = fired.rows.get(usize::from(!table.is_new))?;
            let columns = row.hidden.iter().map(|c| (c.name.clone(), c.value.clone())).collect();
            fired.tables.push(Cte { name: table.name.clone(), columns: Some(columns) });
        }
        if let Some(condition) = boxed(&create.when_clause) {
            let mut env = Env::new();
            fired.rows.iter().for_each(|row| env.add_aside(row.clone()));
            let value = self.expr(condition, &env);
            self.decide(&value);
        }
        Some(fired)
    }

    fn rules(&mut self, relation: &'a Relation, event: u8) {
        for rule in &relation.rules {
            if self.rule(relation, rule, event).is_none() {
                self.out.stale |= rule.is_empty();
                self.unknown(format!("a rule on {}.{} is not understood", relation.schema, relation.name));
            }
        }
    }

    /// `None`: not understood.
    fn rule(&mut self, relation: &'a Relation, definition: &str, event: u8) -> Option<()> {
        let parsed = parse(definition).ok()?;
        let [raw] = parsed.as_slice() else { return None };
        let Some(NodeEnum::RuleStmt(rule)) = boxed(&raw.stmt) else { return None };
        let on = match CmdType::try_from(rule.event).ok()? {
            CmdType::CmdInsert => INSERT,
            CmdType::CmdUpdate => UPDATE,
            CmdType::CmdDelete => DELETE,
            // a SELECT's is the view itself
            _ => return Some(()),
        };
        if on != event {
            return Some(());
        }
        let mut env = Env::new();
        for row in self.rows_of(relation, event) {
            env.add_aside(row);
        }
        if let Some(condition) = boxed(&rule.where_clause) {
            let value = self.expr(condition, &env);
            self.decide(&value);
        }
        // it was written under the path of whoever made it, and is printed with every name that this one does not find
        let path = super::SearchPath::new(["pg_catalog"]);
        for action in &rule.actions {
            let node = inner(action)?;
            if let NodeEnum::NotifyStmt(_) = node {
                self.does(Effects::SESSION);
                continue;
            }
            let mut judge = self.within(&path, self.runtime);
            judge.query(node, &env);
            self.cut |= judge.cut;
            let mut made = judge.out;
            made.outputs = Outputs::Known(Vec::new());
            made.normalise();
            self.take_over(&made, &format!("a rule on {}.{}", relation.schema, relation.name));
        }
        Some(())
    }

    /// ON DELETE CASCADE and its kin.
    fn foreign_keys(&mut self, relation: &'a Relation, event: u8, columns: Option<&[&str]>) {
        let catalogue = self.catalogue;
        let keys = catalogue.pointed_at.get(&relation.oid).map(Vec::as_slice).unwrap_or_default();
        for key in keys {
            let Some(access) = cascade(key, event) else { continue };
            if event == UPDATE && !sets_key(relation, key, columns) {
                continue;
            }
            let Some(child) = catalogue.relation_by_oid(key.child) else {
                self.missing("what a foreign key belongs to is not in the catalogue");
                continue;
            };
            self.uses(child, access);
            self.consequences(child, access, None);
        }
    }

    /// TRUNCATE … CASCADE empties whatever points here.
    pub(super) fn truncate_cascade(&mut self, relation: &'a Relation, seen: &mut Vec<u32>) {
        let catalogue = self.catalogue;
        let keys = catalogue.pointed_at.get(&relation.oid).map(Vec::as_slice).unwrap_or_default();
        for child in keys.iter().filter_map(|key| catalogue.relation_by_oid(key.child)) {
            if seen.contains(&child.oid) {
                continue;
            }
            seen.push(child.oid);
            self.uses_where(child, Access::Truncate, false);
            self.consequences(child, Access::Truncate, None);
            self.truncate_cascade(child, seen);
        }
    }

    /// A write through a view: of the table behind it, where PostgreSQL would do that by itself; else what stands in its
    /// place.
    pub(super) fn write_view(
        &mut self,
        view: &'a Relation,
        access: Access,
        has_where: bool,
        columns: Option<&[&str]>,
    ) {
        let instead = |kind: i16| u8::try_from(kind & 0x7f).is_ok_and(|kind| kind & INSTEAD != 0);
        let triggered =
            self.catalogue.triggers.get(&view.oid).is_some_and(|all| all.iter().any(|t| instead(t.kind)));
        self.consequences(view, access, columns);
        if triggered || !view.rules.is_empty() {
            return;
        }
        let Some(base) = self.table_behind(view) else {
            self.unknown(format!("a write through {}.{}, which is no simple view", view.schema, view.name));
            return;
        };
        if self.depth >= super::MAX_DEPTH - 1 || !self.sink() {
            return;
        }
        self.uses_where(base, access, has_where);
        match base.kind {
            RelationKind::View => self.write_view(base, access, has_where, None),
            RelationKind::Table | RelationKind::ForeignTable => self.consequences(base, access, None),
            _ => drop(self.unknown(format!("a write to {}.{}", base.schema, base.name))),
        }
        self.rise();
    }

    /// The one relation that a simple view stands for.
    fn table_behind(&self, view: &Relation) -> Option<&'a Relation> {
        let parsed = parse(view.definition.as_deref()?).ok()?;
        let [raw] = parsed.as_slice() else { return None };
        let Some(NodeEnum::SelectStmt(select)) = boxed(&raw.stmt) else { return None };
        let name = simple(select)?;
        let catalogue: &'a super::Catalogue = self.catalogue;
        if name.schemaname.is_empty() { None } else { catalogue.relation(&name.schemaname, &name.relname) }
    }

    /// The class of the column that a value is written to, by its name or its position; of a view, that of the column
    /// behind it.
    pub(super) fn class_written(
        &mut self,
        relation: &'a Relation,
        name: Option<&str>,
        position: Option<usize>,
    ) -> Option<String> {
        let at = match (name, position) {
            (Some(name), _) => relation.columns.iter().position(|c| c.name == name)?,
            (None, position) => position?,
        };
        let column = relation.columns.get(at)?;
        if column.class.is_some() || relation.kind != RelationKind::View {
            return column.class.clone();
        }
        let made = self.view(relation)??;
        match made.get(at)? {
            Value { sources, derived: false, doubt: false } => match sources.as_slice() {
                [one] => self.catalogue.class(*one).map(str::to_owned),
                _ => None,
            },
            _ => None,
        }
    }

    /// A value is put where the server looks it up among others (a unique index, a foreign key): whether it was there
    /// already shows.
    pub(super) fn looked_up(&mut self, relation: &'a Relation, name: Option<&str>, position: Option<usize>) {
        let at = match (name, position) {
            (Some(name), _) => relation.columns.iter().position(|c| c.name == name),
            (None, position) => position,
        };
        let Some((at, column)) = at.and_then(|at| Some((at, relation.columns.get(at)?))) else { return };
        let mut own = vec![ColumnId { relation: relation.oid, attnum: column.attnum }];
        if relation.kind == RelationKind::View
            && let Some(Some(made)) = self.view(relation)
        {
            own.extend(made.get(at).into_iter().flat_map(|value| &value.sources));
        }
        let catalogue = self.catalogue;
        let among = own.iter().filter_map(|id| catalogue.looked_up.get(id)).flatten();
        self.out.probes.extend(among.filter(|id| catalogue.class(**id).is_some()));
    }

    /// Takes over what something that was judged by itself does. What it was called with is left to the caller.
    pub(super) fn take_over(&mut self, made: &Statement, named: &str) {
        if let Some(why) = &made.unknown {
            self.unknown(format!("{named}: {why}"));
        }
        let (unknown, free, limit) = (self.out.unknown.take(), self.out.literal_free, self.out.has_limit);
        self.out.absorb(made);
        self.out.unknown = unknown;
        self.out.literal_free = free;
        self.out.has_limit = limit;
        self.out.probes.retain(|id| id.relation != 0);
        self.out.copies.retain(|id| id.relation != 0);
    }
}

/// What happens to the rows that point at one that goes or changes.
fn cascade(key: &ForeignKeyRow, event: u8) -> Option<Access> {
    let action = match event {
        DELETE => key.on_delete.as_str(),
        UPDATE => key.on_update.as_str(),
        _ => return None,
    };
    match (action, event) {
        ("c", DELETE) => Some(Access::Delete),
        ("c" | "n" | "d", _) => Some(Access::Update),
        _ => None,
    }
}

fn sets_key(relation: &Relation, key: &ForeignKeyRow, columns: Option<&[&str]>) -> bool {
    let Some(columns) = columns else { return true };
    relation
        .columns
        .iter()
        .any(|c| key.parent_columns.contains(&c.attnum) && columns.contains(&c.name.as_str()))
}

/// A view that PostgreSQL writes through by itself: columns of one relation, some of its rows.
fn simple(select: &SelectStmt) -> Option<&RangeVar> {
    let plain = select.op == pg_query::protobuf::SetOperation::SetopNone as i32
        && select.with_clause.is_none()
        && select.distinct_clause.is_empty()
        && select.group_clause.is_empty()
        && select.having_clause.is_none()
        && select.limit_count.is_none()
        && select.limit_offset.is_none()
        && select.values_lists.is_empty();
    match (plain, select.from_clause.as_slice()) {
        (true, [one]) => match inner(one) {
            Some(NodeEnum::RangeVar(name)) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

/// Triggers of the server that change nothing but the row that is written.
fn is_harmless(name: &str) -> bool {
    matches!(
        name,
        "suppress_redundant_updates_trigger"
            | "tsvector_update_trigger"
            | "tsvector_update_trigger_column"
            | "unique_key_recheck"
    ) || name.starts_with("RI_FKey_")
}
