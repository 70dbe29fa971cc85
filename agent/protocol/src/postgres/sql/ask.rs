//! From a verdict to what policy is asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sluice_policy::{Ask, Feature, Operation, Resource, ResourceKind};

use super::{Access, Catalogue, ColumnId, Effects, Kind, RelationUse, Statement};

impl Access {
    /// The action of policy.
    pub fn action(self) -> &'static str {
        match self {
            Access::Select => "select",
            Access::Insert => "insert",
            // a lock keeps writers away: whoever may not write may not lock
            Access::Update | Access::Lock => "update",
            Access::Delete => "delete",
            Access::Truncate => "truncate",
            Access::Ddl => "ddl",
            Access::Grant => "grant",
            Access::Admin => "admin",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Access::Select => "reads",
            Access::Insert => "inserts into",
            Access::Update => "updates",
            Access::Delete => "deletes from",
            Access::Truncate => "truncates",
            Access::Ddl => "changes the definition of",
            Access::Grant => "changes privileges on",
            Access::Lock => "locks",
            Access::Admin => "reads the restricted",
        }
    }
}

impl Statement {
    /// Everything that policy must permit before this statement may run; never empty.
    ///
    /// Reading the system's own catalogue, or nothing but constants and built-in functions, is a
    /// `select` on the schema pg_catalog. Columns that are shown masked are not asked for here:
    /// whether they may be seen in clear is [`Statement::outputs`] with the action `unmask`.
    pub fn asks(&self, catalogue: &Catalogue, target: &str, database: &str) -> Vec<Ask> {
        let place = Place { catalogue, target, database };
        let mut asks: Vec<Ask> = self.relations.iter().map(|r| place.relation(r)).collect();
        let general: [(Effects, &'static str); 5] = [
            (Effects::DDL, "ddl"),
            (Effects::GRANT, "grant"),
            (Effects::ADMIN, "admin"),
            (Effects::FILE, "copy_file"),
            (Effects::UNKNOWN, "unknown"),
        ];
        for (effect, action) in general {
            // what a relation of the statement asks for already is not asked of the database again
            if self.effects.contains(effect) && !asks.iter().any(|a| a.action == action) {
                asks.push(Ask::new(action, place.database()));
            }
        }
        if self.effects.contains(Effects::SESSION) || self.effects.contains(Effects::TRANSACTION) {
            asks.push(Ask::new("session", place.database()));
        }
        // a write that names no relation: nextval and the like
        let writes = ["insert", "update", "delete", "truncate"];
        if self.effects.contains(Effects::WRITE) && !asks.iter().any(|a| writes.contains(&a.action)) {
            asks.push(Ask::new("update", place.database()));
        }
        for (schema, name) in &self.functions {
            asks.push(Ask::new("call", place.function(schema, name)));
        }
        asks.extend(self.probes.iter().map(|c| Ask::new("probe", place.column(*c))));
        if self.probes_doubt {
            asks.push(Ask::new("probe", place.database()));
        }
        asks.extend(self.copies.iter().map(|c| Ask::new("unmask", place.column(*c))));
        if self.copies_doubt {
            asks.push(Ask::new("unmask", place.database()));
        }
        if asks.is_empty() {
            asks.push(Ask::new("select", place.schema("pg_catalog")));
        }
        asks.sort();
        asks.dedup();
        asks
    }

    /// The whole operation for the gate.
    pub fn operation(
        &self,
        catalogue: &Catalogue,
        (target, database): (&str, &str),
        text: &str,
        parameters: Vec<String>,
    ) -> Operation {
        Operation {
            kind: "statement",
            text: text.to_owned(),
            parameters,
            asks: self.asks(catalogue, target, database),
            features: self.features(),
            understood: self.understood(catalogue),
        }
    }

    /// Facts that rules may look at as `context.NAME`.
    pub fn features(&self) -> BTreeMap<&'static str, Feature> {
        let read_only = !self.effects.contains(Effects::WRITE)
            && !self.effects.contains(Effects::DDL)
            && !self.effects.contains(Effects::GRANT)
            && !self.effects.contains(Effects::ADMIN)
            && !self.effects.contains(Effects::FILE)
            && !self.effects.contains(Effects::UNKNOWN)
            && !self.locks;
        BTreeMap::from([
            ("statement", Feature::Text(self.kind.word().to_owned())),
            ("effects", Feature::Text(self.effects.to_string())),
            ("has_where", Feature::Bool(self.has_where)),
            ("has_limit", Feature::Bool(self.has_limit)),
            ("locks", Feature::Bool(self.locks)),
            ("read_only", Feature::Bool(read_only)),
            ("relations", Feature::Long(i64::try_from(self.relations.len()).unwrap_or(i64::MAX))),
        ])
    }

    /// How it was understood, in a line for people. Names come from the statement: whoever prints
    /// the line to a terminal gets control characters escaped.
    pub fn understood(&self, catalogue: &Catalogue) -> String {
        let mut line = self.kind.word().to_owned();
        if let Kind::Prepare { name }
        | Kind::Execute { name }
        | Kind::Declare { name, .. }
        | Kind::Fetch { name, .. } = &self.kind
        {
            let _ = write!(line, " {name}");
        }
        if let Some(why) = &self.unknown {
            let _ = write!(line, ": not understood: {why}");
        }
        let mut separator = ": ";
        for relation in &self.relations {
            let _ =
                write!(line, "{separator}{} {}.{}", relation.access.words(), relation.schema, relation.name);
            if !relation.has_where {
                line.push_str(" without a WHERE");
            }
            separator = ", ";
        }
        for (words, columns) in [("is decided by", &self.probes), ("copies in clear", &self.copies)] {
            for id in columns {
                if let Some((relation, column)) = catalogue.column(*id) {
                    let _ = write!(
                        line,
                        "{separator}{words} {}.{}.{}",
                        relation.schema, relation.name, column.name
                    );
                    separator = ", ";
                }
            }
        }
        for (schema, name) in &self.functions {
            let _ = write!(line, "{separator}calls {schema}.{name}");
            separator = ", ";
        }
        line.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
            .collect()
    }
}

struct Place<'a> {
    catalogue: &'a Catalogue,
    target: &'a str,
    database: &'a str,
}

impl Place<'_> {
    fn database(&self) -> Resource {
        Resource::new(ResourceKind::Database, [self.target, self.database])
    }

    fn schema(&self, schema: &str) -> Resource {
        Resource::new(ResourceKind::Schema, [self.target, self.database, schema])
    }

    fn relation(&self, used: &RelationUse) -> Ask {
        let action = used.access.action();
        let system = used.schema == "pg_catalog" || used.schema == "information_schema";
        let resource = if used.schema.is_empty() {
            self.database()
        } else if system && used.access == Access::Select {
            self.schema("pg_catalog")
        } else {
            Resource::new(
                ResourceKind::Table,
                [self.target, self.database, used.schema.as_str(), used.name.as_str()],
            )
        };
        Ask::new(action, resource)
    }

    fn function(&self, schema: &str, name: &str) -> Resource {
        Resource::new(ResourceKind::Function, [self.target, self.database, schema, name])
    }

    fn column(&self, id: ColumnId) -> Resource {
        let Some((relation, column)) = self.catalogue.column(id) else {
            return self.database();
        };
        let path = [self.target, self.database, &relation.schema, &relation.name, &column.name];
        let resource = Resource::new(ResourceKind::Column, path);
        match &column.class {
            Some(class) => resource.with_class(class.clone()),
            None => resource,
        }
    }
}
