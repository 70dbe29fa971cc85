//! Definitions, privileges, and what reaches the server itself.

use pg_query::NodeEnum;
use pg_query::protobuf::{CreateTableAsStmt, DropStmt, IntoClause, Node, ObjectType, RangeVar};

use super::super::{Access, Effects, Kind, RelationUse};
use super::names::qualified;
use super::scope::Env;
use super::{Judge, boxed, inner};

impl Judge<'_> {
    /// Whatever is left: definitions, privileges, administration; else it is not understood.
    pub(super) fn definition(&mut self, node: &NodeEnum, env: &Env<'_>) {
        match node {
            NodeEnum::CreateTableAsStmt(s) => self.create_as(s, env),
            NodeEnum::RefreshMatViewStmt(s) => {
                self.defines(s.relation.as_ref());
                self.out.taints = false;
            }
            // what these make or remove can't change what a name in another statement means
            NodeEnum::CreateStmt(s) => {
                self.table(s.relation.as_ref());
                self.elements_show(&s.table_elts);
            }
            NodeEnum::CreateForeignTableStmt(s) => {
                self.table(s.base_stmt.as_ref().and_then(|base| base.relation.as_ref()));
            }
            NodeEnum::IndexStmt(s) => {
                self.table(s.relation.as_ref());
                self.index_shows(s);
            }
            NodeEnum::AlterTableStmt(s) => {
                self.defines(s.relation.as_ref());
                self.alter_shows(s);
            }
            NodeEnum::RenameStmt(s) => {
                self.defines(s.relation.as_ref());
                self.rename_shows(s);
            }
            NodeEnum::ViewStmt(s) => {
                self.defines(s.view.as_ref());
                // its rows are not read now, and are traced to their columns when they are: but it runs as its owner
                if let Some(query) = boxed(&s.query) {
                    self.query(query, env);
                }
            }
            NodeEnum::RuleStmt(s) => self.defines(s.relation.as_ref()),
            NodeEnum::CreateTrigStmt(s) => self.defines(s.relation.as_ref()),
            NodeEnum::CreateSeqStmt(s) => self.table(s.sequence.as_ref()),
            NodeEnum::AlterSeqStmt(s) => self.table(s.sequence.as_ref()),
            NodeEnum::AlterObjectSchemaStmt(s) => {
                self.defines(s.relation.as_ref());
                self.move_shows(s.relation.as_ref());
            }
            NodeEnum::DropStmt(s) => self.drop_objects(s),
            NodeEnum::CommentStmt(s) => {
                self.defines(None);
                self.out.taints = false;
                self.comment_shows(s);
            }
            NodeEnum::CreateSchemaStmt(_) => {
                self.defines(None);
                self.out.taints = false;
            }
            NodeEnum::CreateFunctionStmt(_)
            | NodeEnum::AlterFunctionStmt(_)
            | NodeEnum::DefineStmt(_)
            | NodeEnum::CompositeTypeStmt(_)
            | NodeEnum::CreateEnumStmt(_)
            | NodeEnum::CreateRangeStmt(_)
            | NodeEnum::AlterEnumStmt(_)
            | NodeEnum::AlterTypeStmt(_)
            | NodeEnum::CreateDomainStmt(_)
            | NodeEnum::AlterDomainStmt(_)
            | NodeEnum::CreateCastStmt(_)
            | NodeEnum::CreateConversionStmt(_)
            | NodeEnum::CreateTransformStmt(_)
            | NodeEnum::CreateOpClassStmt(_)
            | NodeEnum::CreateOpFamilyStmt(_)
            | NodeEnum::AlterOpFamilyStmt(_)
            | NodeEnum::AlterOperatorStmt(_)
            | NodeEnum::CreateStatsStmt(_)
            | NodeEnum::AlterStatsStmt(_)
            | NodeEnum::AlterTsdictionaryStmt(_)
            | NodeEnum::AlterTsconfigurationStmt(_)
            | NodeEnum::CreatePlangStmt(_)
            | NodeEnum::AlterObjectDependsStmt(_)
            | NodeEnum::AlterTableMoveAllStmt(_)
            | NodeEnum::AlterCollationStmt(_) => self.defines(None),
            NodeEnum::CreatePolicyStmt(s) => {
                self.changes(Kind::Grant, Effects::GRANT);
                self.policy_shows(s.table.as_ref(), [boxed(&s.qual), boxed(&s.with_check)]);
            }
            NodeEnum::AlterPolicyStmt(s) => {
                self.changes(Kind::Grant, Effects::GRANT);
                self.policy_shows(s.table.as_ref(), [boxed(&s.qual), boxed(&s.with_check)]);
            }
            NodeEnum::GrantStmt(_)
            | NodeEnum::GrantRoleStmt(_)
            | NodeEnum::AlterDefaultPrivilegesStmt(_)
            | NodeEnum::AlterOwnerStmt(_)
            | NodeEnum::ReassignOwnedStmt(_)
            | NodeEnum::DropOwnedStmt(_)
            | NodeEnum::SecLabelStmt(_) => self.changes(Kind::Grant, Effects::GRANT),
            _ => self.administration(node),
        }
    }

    fn administration(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::VacuumStmt(_)
            | NodeEnum::ClusterStmt(_)
            | NodeEnum::ReindexStmt(_)
            | NodeEnum::CheckPointStmt(_)
            | NodeEnum::CreateRoleStmt(_)
            | NodeEnum::AlterRoleStmt(_)
            | NodeEnum::AlterRoleSetStmt(_)
            | NodeEnum::DropRoleStmt(_)
            | NodeEnum::CreatedbStmt(_)
            | NodeEnum::DropdbStmt(_)
            | NodeEnum::AlterDatabaseStmt(_)
            | NodeEnum::AlterDatabaseSetStmt(_)
            | NodeEnum::AlterDatabaseRefreshCollStmt(_)
            | NodeEnum::CreateTableSpaceStmt(_)
            | NodeEnum::DropTableSpaceStmt(_)
            | NodeEnum::AlterTableSpaceOptionsStmt(_)
            | NodeEnum::AlterSystemStmt(_)
            | NodeEnum::LoadStmt(_)
            | NodeEnum::CreateExtensionStmt(_)
            | NodeEnum::AlterExtensionStmt(_)
            | NodeEnum::AlterExtensionContentsStmt(_)
            | NodeEnum::CreateFdwStmt(_)
            | NodeEnum::AlterFdwStmt(_)
            | NodeEnum::CreateForeignServerStmt(_)
            | NodeEnum::AlterForeignServerStmt(_)
            | NodeEnum::CreateUserMappingStmt(_)
            | NodeEnum::AlterUserMappingStmt(_)
            | NodeEnum::DropUserMappingStmt(_)
            | NodeEnum::ImportForeignSchemaStmt(_)
            | NodeEnum::CreatePublicationStmt(_)
            | NodeEnum::AlterPublicationStmt(_)
            | NodeEnum::CreateSubscriptionStmt(_)
            | NodeEnum::AlterSubscriptionStmt(_)
            | NodeEnum::DropSubscriptionStmt(_)
            | NodeEnum::CreateEventTrigStmt(_)
            | NodeEnum::AlterEventTrigStmt(_)
            | NodeEnum::CreateAmStmt(_) => self.changes(Kind::Admin, Effects::ADMIN),
            _ => drop(self.unknown("a kind of statement that this version does not know")),
        }
    }

    fn changes(&mut self, kind: Kind, effect: Effects) {
        self.out.kind = kind;
        self.out.changes_catalogue = true;
        self.out.taints = true;
        self.out.literal_free = false;
        self.does(effect);
    }

    /// A definition, of a relation where one is named.
    fn defines(&mut self, relation: Option<&RangeVar>) {
        self.changes(Kind::Ddl, Effects::DDL);
        if let Some(name) = relation {
            self.defined(name);
        }
    }

    fn table(&mut self, relation: Option<&RangeVar>) {
        self.defines(relation);
        // a table that is new hides one of the same name further on in the search_path: what follows in the same
        // message would be judged by the wrong one
        self.out.taints = true;
    }

    fn defined(&mut self, name: &RangeVar) {
        match self.relation(name) {
            Some(relation) => self.uses(relation, Access::Ddl),
            None => self.out.relations.push(RelationUse {
                oid: None,
                schema: name.schemaname.clone(),
                name: name.relname.clone(),
                access: Access::Ddl,
                has_where: true,
            }),
        }
    }

    /// INTO: a new table that holds the result.
    pub(super) fn into(&mut self, into: &IntoClause) {
        self.defines(into.rel.as_ref());
    }

    fn create_as(&mut self, create: &CreateTableAsStmt, env: &Env<'_>) {
        if let Some(into) = &create.into {
            self.into(into);
        }
        self.changes(Kind::Ddl, Effects::DDL);
        self.returns(Some(Vec::new()));
        match boxed(&create.query) {
            Some(NodeEnum::ExecuteStmt(s)) => {
                let value = self.all(&s.params, env);
                self.decide(&value);
                self.unknown(super::UNRESOLVED);
                self.out.kind = Kind::CreateAsExecute { name: s.name.clone() };
            }
            Some(query) => match self.query(query, env) {
                Some(columns) => columns.iter().for_each(|(_, value)| self.copy_out(value)),
                None => self.out.copies_doubt |= self.catalogue.has_classes(),
            },
            None => drop(self.unknown("a table of nothing")),
        }
    }

    fn drop_objects(&mut self, drop: &DropStmt) {
        self.changes(Kind::Ddl, Effects::DDL);
        let relations = [
            ObjectType::ObjectTable,
            ObjectType::ObjectView,
            ObjectType::ObjectMatview,
            ObjectType::ObjectSequence,
            ObjectType::ObjectForeignTable,
        ];
        if !relations.iter().any(|kind| *kind as i32 == drop.remove_type) {
            return;
        }
        for object in &drop.objects {
            self.dropped(object);
        }
    }

    fn dropped(&mut self, object: &Node) {
        let Some(NodeEnum::List(list)) = inner(object) else { return };
        let Some((schema, name)) = qualified(&list.items) else { return };
        match self.find_relation(schema.unwrap_or(""), name) {
            Some(relation) => self.uses(relation, Access::Ddl),
            None => self.out.relations.push(RelationUse {
                oid: None,
                schema: schema.unwrap_or_default().to_owned(),
                name: name.to_owned(),
                access: Access::Ddl,
                has_where: true,
            }),
        }
    }
}
