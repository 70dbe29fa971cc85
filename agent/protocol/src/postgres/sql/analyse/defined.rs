//! What a definition shows of the rows that are there already.
//!
//! A check or an index over a classed column fails or not by its values, a generated column holds them, a new name takes
//! the class off. Must hold: expressions in definitions are judged like those of a query; what they look at decides
//! (`probe`), and what is computed from it would be in clear (`unmask`).

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableStmt, AlterTableType, ColumnDef, CommentStmt, Constraint, IndexStmt, Node,
    ObjectType, RangeVar, RenameStmt,
};

use super::super::{ColumnId, Relation};
use super::names::strings;
use super::scope::{Env, Item, Value};
use super::{Judge, boxed, inner};

impl<'a> Judge<'a> {
    /// The columns that expressions of a definition see.
    fn defined_env(&mut self, relation: Option<&'a Relation>) -> Env<'static> {
        let item = match relation {
            Some(relation) => self.item(relation, None),
            // a new table: its columns hold nothing yet
            None => Item { open: Some(Value::derived()), ..Item::default() },
        };
        let mut env = Env::new();
        env.add_aside(item);
        env
    }

    pub(super) fn index_shows(&mut self, index: &IndexStmt) {
        let relation = index.relation.as_ref().and_then(|name| self.relation(name));
        let env = self.defined_env(relation);
        for element in index.index_params.iter().chain(&index.index_including_params).filter_map(inner) {
            let NodeEnum::IndexElem(element) = element else { continue };
            if let Some(expression) = boxed(&element.expr) {
                let value = self.expr(expression, &env);
                self.decide(&value);
            } else if index.unique
                && let Some(relation) = relation
            {
                self.tells(relation, &element.name);
            }
        }
        if let Some(condition) = boxed(&index.where_clause) {
            let value = self.expr(condition, &env);
            self.decide(&value);
        }
    }

    /// Something fails, or not, by the values of this column.
    fn tells(&mut self, relation: &Relation, name: &str) {
        let column = relation.columns.iter().find(|c| c.name == name && c.class.is_some());
        self.out.probes.extend(column.map(|c| ColumnId { relation: relation.oid, attnum: c.attnum }));
    }

    /// A class may come off.
    fn uncovers(&mut self, relation: &Relation, name: Option<&str>) {
        let columns = relation.columns.iter().filter(|c| c.class.is_some());
        let named = columns.filter(|c| name.is_none_or(|name| c.name == name));
        self.out.copies.extend(named.map(|c| ColumnId { relation: relation.oid, attnum: c.attnum }));
    }

    pub(super) fn rename_shows(&mut self, rename: &RenameStmt) {
        let Some(relation) = rename.relation.as_ref().and_then(|name| self.relation(name)) else { return };
        match ObjectType::try_from(rename.rename_type) {
            Ok(ObjectType::ObjectColumn | ObjectType::ObjectAttribute) => {
                self.uncovers(relation, Some(&rename.subname));
            }
            Ok(ObjectType::ObjectTabconstraint | ObjectType::ObjectTrigger | ObjectType::ObjectRule) => {}
            _ => self.uncovers(relation, None),
        }
    }

    pub(super) fn move_shows(&mut self, relation: Option<&RangeVar>) {
        if let Some(relation) = relation.and_then(|name| self.relation(name)) {
            self.uncovers(relation, None);
        }
    }

    /// COMMENT ON COLUMN may name a class, or take one away.
    pub(super) fn comment_shows(&mut self, comment: &CommentStmt) {
        if comment.objtype != ObjectType::ObjectColumn as i32 {
            return;
        }
        let Some(NodeEnum::List(list)) = boxed(&comment.object) else { return };
        let names: Vec<&str> = strings(&list.items).collect();
        let (relation, column) = match names.as_slice() {
            [table, column] => (self.find_relation("", table), column),
            [.., schema, table, column] => (self.find_relation(schema, table), column),
            _ => return,
        };
        if let Some(relation) = relation {
            self.uncovers(relation, Some(column));
        }
    }

    /// Which rows are seen would depend on the condition of a policy.
    pub(super) fn policy_shows(&mut self, table: Option<&RangeVar>, conditions: [Option<&NodeEnum>; 2]) {
        let relation = table.and_then(|name| self.relation(name));
        let env = self.defined_env(relation);
        for condition in conditions.into_iter().flatten() {
            let value = self.expr(condition, &env);
            self.decide(&value);
        }
    }

    pub(super) fn alter_shows(&mut self, alter: &AlterTableStmt) {
        let relation = alter.relation.as_ref().and_then(|name| self.relation(name));
        let env = self.defined_env(relation);
        for command in alter.cmds.iter().filter_map(inner) {
            match command {
                NodeEnum::AlterTableCmd(command) => self.command_shows(command, relation, &env),
                _ => drop(self.unknown("an ALTER TABLE")),
            }
        }
    }

    fn command_shows(&mut self, command: &AlterTableCmd, relation: Option<&'a Relation>, env: &Env<'_>) {
        use AlterTableType as T;
        match (AlterTableType::try_from(command.subtype), relation) {
            (Ok(T::AtAlterColumnType), Some(relation)) => {
                self.tells(relation, &command.name);
                self.uncovers(relation, Some(&command.name));
            }
            (Ok(T::AtSetNotNull), Some(relation)) => self.tells(relation, &command.name),
            // a partition has its classes from the table that it belongs to
            (Ok(T::AtDetachPartition | T::AtDropInherit), Some(relation)) => self.uncovers(relation, None),
            _ => {}
        }
        match boxed(&command.def) {
            Some(NodeEnum::ColumnDef(column)) => self.column_shows(column, relation, env),
            Some(NodeEnum::Constraint(constraint)) => self.constraint_shows(constraint, relation, env),
            Some(node)
                if matches!(
                    AlterTableType::try_from(command.subtype),
                    Ok(T::AtSetExpression | T::AtColumnDefault)
                ) =>
            {
                self.shown(node, env);
            }
            _ => {}
        }
    }

    pub(super) fn column_shows(&mut self, column: &ColumnDef, relation: Option<&'a Relation>, env: &Env<'_>) {
        // USING of a new type stands where a default does
        if let Some(node) = boxed(&column.raw_default) {
            self.shown(node, env);
        }
        for constraint in column.constraints.iter().filter_map(inner) {
            if let NodeEnum::Constraint(constraint) = constraint {
                self.constraint_shows(constraint, relation, env);
            }
        }
        if let Some(name) = &column.type_name
            && !name.pct_type
        {
            self.cast_to(
                &pg_query::protobuf::TypeName { setof: false, ..name.clone() },
                &mut Value::derived(),
            );
        }
    }

    fn constraint_shows(&mut self, constraint: &Constraint, relation: Option<&'a Relation>, env: &Env<'_>) {
        if let Some(node) = boxed(&constraint.raw_expr) {
            self.shown(node, env);
        }
        if let Some(node) = boxed(&constraint.where_clause) {
            self.shown(node, env);
        }
        let Some(relation) = relation else { return };
        for list in [&constraint.keys, &constraint.fk_attrs, &constraint.including] {
            strings(list).for_each(|name| self.tells(relation, name));
        }
        for exclusion in constraint.exclusions.iter().filter_map(inner) {
            if let NodeEnum::List(list) = exclusion {
                for element in list.items.iter().filter_map(inner) {
                    if let NodeEnum::IndexElem(element) = element {
                        self.tells(relation, &element.name);
                        if let Some(node) = boxed(&element.expr) {
                            self.shown(node, env);
                        }
                    }
                }
            }
        }
        // a foreign key tells whether each value stands in the other table
        if let Some(other) = constraint.pktable.as_ref().and_then(|name| self.relation(name)) {
            let named: Vec<String> = strings(&constraint.pk_attrs).map(str::to_owned).collect();
            for column in other.columns.iter().filter(|c| named.is_empty() || named.contains(&c.name)) {
                self.tells(other, &column.name);
            }
        }
    }

    /// A value that something fails by, and that may be stored.
    fn shown(&mut self, node: &NodeEnum, env: &Env<'_>) {
        let value = self.expr(node, env);
        self.decide(&value);
        self.copy_out(&value);
    }

    /// The columns and constraints of a new table.
    pub(super) fn elements_show(&mut self, elements: &[Node]) {
        let env = self.defined_env(None);
        for element in elements.iter().filter_map(inner) {
            match element {
                NodeEnum::ColumnDef(column) => self.column_shows(column, None, &env),
                NodeEnum::Constraint(constraint) => self.constraint_shows(constraint, None, &env),
                _ => {}
            }
        }
    }
}
