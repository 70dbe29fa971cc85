//! INSERT, UPDATE, DELETE, MERGE.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    CmdType, DeleteStmt, InsertStmt, MergeStmt, MergeWhenClause, Node, OnConflictClause, RangeVar, ResTarget,
    ReturningClause, UpdateStmt,
};

use super::super::{Access, ColumnId, Relation, RelationKind};
use super::expr::speaks_of_columns;
use super::scope::{Env, Item, Value};
use super::select::Columns;
use super::{Judge, boxed, inner};

/// How deep a condition is looked at for a column.
const CONDITION_DEPTH: usize = 64;

impl<'a> Judge<'a> {
    /// The relation that is written to; `None` when it is not known or not judged.
    fn written(&mut self, name: Option<&RangeVar>, access: Access, has_where: bool) -> Option<&'a Relation> {
        let Some(name) = name else {
            self.unknown("a write without a relation");
            return None;
        };
        let Some(relation) = self.relation(name) else {
            self.missing_relation(name);
            return None;
        };
        self.uses_where(relation, access, has_where);
        if !matches!(relation.kind, RelationKind::Table | RelationKind::ForeignTable | RelationKind::View) {
            self.unknown(format!("a write to {}.{}, which is no table", relation.schema, relation.name));
        }
        Some(relation)
    }

    /// What the write brings with it, here and behind a view.
    fn follows(
        &mut self,
        relation: Option<&'a Relation>,
        access: Access,
        has_where: bool,
        columns: Option<&[&str]>,
    ) {
        match relation {
            Some(relation) if relation.kind == RelationKind::View => {
                self.write_view(relation, access, has_where, columns);
            }
            Some(relation) => self.consequences(relation, access, columns),
            None => {}
        }
    }

    /// The relation by its name in the statement.
    fn target_item(&mut self, relation: Option<&'a Relation>, name: Option<&RangeVar>) -> Item {
        match relation {
            Some(relation) => self.item(relation, name.and_then(|name| name.alias.as_ref())),
            None => Item { open: Some(self.doubt()), ..Item::default() },
        }
    }

    pub(super) fn insert(&mut self, insert: &InsertStmt, outer: &Env<'_>) -> Columns {
        let relation = self.written(insert.relation.as_ref(), Access::Insert, true);
        self.follows(relation, Access::Insert, true, None);
        let mut base = Env::within(outer);
        if let Some(with) = &insert.with_clause {
            self.with(with, &mut base);
        }
        if let Some(source) = boxed(&insert.select_stmt) {
            let columns = match source {
                NodeEnum::SelectStmt(select) => self.select(select, &base),
                _ => {
                    self.unknown("the source of an INSERT");
                    None
                }
            };
            let names: Vec<Option<&str>> =
                insert.cols.iter().map(|c| assigned(c).map(|t| t.name.as_str())).collect();
            match columns {
                None => self.out.copies_doubt |= self.catalogue.has_classes(),
                Some(columns) => {
                    for (i, (_, value)) in columns.iter().enumerate() {
                        let name = names.get(i).copied().flatten();
                        self.assign(relation, name, if names.is_empty() { Some(i) } else { None }, value);
                    }
                }
            }
        }
        let mut env = Env::within(&base);
        let item = self.target_item(relation, insert.relation.as_ref());
        if let Some(conflict) = &insert.on_conflict_clause {
            let mut inside = Env::within(&base);
            let excluded = Item { alias: "excluded".into(), schema: None, ..item.clone() };
            let star = item.open.is_none().then(|| item.columns.clone());
            inside.add(vec![item.clone()], star);
            inside.add_aside(excluded);
            self.conflict(conflict, relation, &inside);
        }
        let star = item.open.is_none().then(|| item.columns.clone());
        env.add(vec![item], star);
        // what an INSERT brings itself it may get back; with ON CONFLICT it may be what was there
        let there_before = insert.on_conflict_clause.is_some().then_some(relation).flatten();
        self.returning(insert.returning_clause.as_ref(), there_before, &env)
    }

    fn conflict(&mut self, clause: &OnConflictClause, relation: Option<&'a Relation>, env: &Env<'_>) {
        if let Some(infer) = &clause.infer {
            for element in &infer.index_elems {
                if let Some(NodeEnum::IndexElem(element)) = inner(element)
                    && let Some(node) = boxed(&element.expr)
                {
                    self.expr(node, env);
                }
            }
        }
        let action = clause.target_list.is_empty();
        if action {
            return;
        }
        if let Some(relation) = relation {
            self.uses(relation, Access::Update);
        }
        self.follows(relation, Access::Update, true, Some(&set_columns(&clause.target_list)));
        self.assignments(&clause.target_list, relation, env);
        if let Some(condition) = boxed(&clause.where_clause) {
            let value = self.expr(condition, env);
            self.decide(&value);
        }
    }

    pub(super) fn update(&mut self, update: &UpdateStmt, outer: &Env<'_>) -> Columns {
        let has_where = says_which(boxed(&update.where_clause));
        self.out.has_where &= has_where;
        let relation = self.written(update.relation.as_ref(), Access::Update, has_where);
        self.follows(relation, Access::Update, has_where, Some(&set_columns(&update.target_list)));
        let mut base = Env::within(outer);
        if let Some(with) = &update.with_clause {
            self.with(with, &mut base);
        }
        let env = self.written_env(relation, update.relation.as_ref(), &update.from_clause, &base);
        self.assignments(&update.target_list, relation, &env);
        if let Some(condition) = boxed(&update.where_clause) {
            let value = self.expr(condition, &env);
            self.decide(&value);
        }
        self.returning(update.returning_clause.as_ref(), relation, &env)
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt, outer: &Env<'_>) -> Columns {
        let has_where = says_which(boxed(&delete.where_clause));
        self.out.has_where &= has_where;
        let relation = self.written(delete.relation.as_ref(), Access::Delete, has_where);
        self.follows(relation, Access::Delete, has_where, None);
        let mut base = Env::within(outer);
        if let Some(with) = &delete.with_clause {
            self.with(with, &mut base);
        }
        let env = self.written_env(relation, delete.relation.as_ref(), &delete.using_clause, &base);
        if let Some(condition) = boxed(&delete.where_clause) {
            let value = self.expr(condition, &env);
            self.decide(&value);
        }
        self.returning(delete.returning_clause.as_ref(), relation, &env)
    }

    pub(super) fn merge(&mut self, merge: &MergeStmt, outer: &Env<'_>) -> Columns {
        let has_where = says_which(boxed(&merge.join_condition));
        let clauses: Vec<&MergeWhenClause> = merge
            .merge_when_clauses
            .iter()
            .filter_map(|n| match inner(n) {
                Some(NodeEnum::MergeWhenClause(clause)) => Some(clause.as_ref()),
                _ => None,
            })
            .collect();
        if clauses.len() != merge.merge_when_clauses.len() {
            self.unknown("a MERGE");
        }
        let relation = self.written(merge.relation.as_ref(), Access::Select, true);
        let mut base = Env::within(outer);
        if let Some(with) = &merge.with_clause {
            self.with(with, &mut base);
        }
        let source: Vec<Node> = merge.source_relation.iter().map(|n| n.as_ref().clone()).collect();
        let env = self.written_env(relation, merge.relation.as_ref(), &source, &base);
        if let Some(condition) = boxed(&merge.join_condition) {
            let value = self.expr(condition, &env);
            self.decide(&value);
        }
        for clause in clauses {
            let access = match CmdType::try_from(clause.command_type) {
                Ok(CmdType::CmdUpdate) => Some(Access::Update),
                Ok(CmdType::CmdInsert) => Some(Access::Insert),
                Ok(CmdType::CmdDelete) => Some(Access::Delete),
                Ok(CmdType::CmdNothing) => None,
                _ => {
                    self.unknown("an action of MERGE");
                    None
                }
            };
            if let (Some(relation), Some(access)) = (relation, access) {
                let says = has_where || access == Access::Insert;
                self.out.has_where &= says;
                self.uses_where(relation, access, says);
                self.follows(Some(relation), access, says, Some(&set_columns(&clause.target_list)));
            }
            if let Some(condition) = boxed(&clause.condition) {
                let value = self.expr(condition, &env);
                self.decide(&value);
            }
            self.assignments(&clause.target_list, relation, &env);
            let names = set_columns(&clause.target_list);
            for (at, value) in clause.values.iter().enumerate() {
                let value = self.node(value, &env);
                let name = names.get(at).copied();
                self.assign(relation, name, name.is_none().then_some(at), &value);
            }
        }
        self.returning(merge.returning_clause.as_ref(), relation, &env)
    }

    /// What the conditions and values of an UPDATE, DELETE or MERGE see.
    fn written_env<'e>(
        &mut self,
        relation: Option<&'a Relation>,
        name: Option<&RangeVar>,
        others: &[Node],
        base: &'e Env<'e>,
    ) -> Env<'e> {
        let mut env = Env::within(base);
        let item = self.target_item(relation, name);
        let star = item.open.is_none().then(|| item.columns.clone());
        env.add(vec![item], star);
        for other in others {
            self.from(other, base, &mut env);
        }
        env
    }

    /// SET column = value, …
    fn assignments(&mut self, list: &[Node], relation: Option<&'a Relation>, env: &Env<'_>) {
        for node in list {
            let Some(target) = assigned(node) else {
                self.unknown("an assignment");
                continue;
            };
            for part in target.indirection.iter().filter_map(inner) {
                if let NodeEnum::AIndices(indices) = part {
                    for bound in [&indices.lidx, &indices.uidx].into_iter().filter_map(boxed) {
                        let value = self.expr(bound, env);
                        self.decide(&value);
                    }
                }
            }
            if let Some(node) = boxed(&target.val) {
                let value = self.expr(node, env);
                self.assign(relation, Some(&target.name), None, &value);
            }
        }
    }

    /// A value is stored in a column, by its name or its position among all. Under its own class it stays masked;
    /// anywhere else it could be read in clear later.
    pub(super) fn assign(
        &mut self,
        relation: Option<&'a Relation>,
        name: Option<&str>,
        position: Option<usize>,
        value: &Value,
    ) {
        if let Some(relation) = relation {
            self.looked_up(relation, name, position);
        }
        if value.is_clean() {
            return;
        }
        let class = relation.and_then(|relation| self.class_written(relation, name, position));
        let same = |id: &ColumnId| class.is_some() && self.catalogue.class(*id) == class.as_deref();
        if value.doubt || !value.sources.iter().all(same) {
            self.copy_out(value);
        }
    }

    pub(super) fn copy_unclean(&mut self, value: &Value) {
        if !value.is_clean() {
            self.copy_out(value);
        }
    }

    /// RETURNING reads rows of `read` that were there before: a SELECT by another name.
    fn returning(
        &mut self,
        clause: Option<&ReturningClause>,
        read: Option<&'a Relation>,
        env: &Env<'_>,
    ) -> Columns {
        let Some(clause) = clause else { return Some(Vec::new()) };
        if let Some(relation) = read {
            self.uses(relation, Access::Select);
        }
        if !clause.options.is_empty() {
            self.unknown("RETURNING WITH");
            return None;
        }
        self.targets(&clause.exprs, env)
    }
}

/// The columns of SET, or of the list behind a table's name.
fn set_columns(list: &[Node]) -> Vec<&str> {
    list.iter().filter_map(assigned).map(|target| target.name.as_str()).collect()
}

fn assigned(node: &Node) -> Option<&ResTarget> {
    match inner(node) {
        Some(NodeEnum::ResTarget(target)) => Some(target),
        _ => None,
    }
}

/// Whether there is a condition that can tell rows apart.
fn says_which(condition: Option<&NodeEnum>) -> bool {
    condition.is_some_and(|node| speaks_of_columns(node, CONDITION_DEPTH))
}
