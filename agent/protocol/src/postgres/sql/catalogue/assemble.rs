//! From rows to a [`Catalogue`], with the owner's classes and vouched functions laid on.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Catalogue, Column, ColumnId, Function, Relation, RelationKind, Rows, Type, Volatility};

/// The first oid that `initdb` never gives (`FirstNormalObjectId`).
const FIRST_NORMAL_OID: u32 = 16384;

/// What the owner of a target says about it.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// `schema.table.column` → class.
    pub classes: BTreeMap<String, String>,
    /// `schema.function`, with the digest that its definition had.
    pub vouched: Vec<Vouched>,
}

/// A function that an owner answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// `schema.function`.
    pub name: String,
    /// SHA-256 of its definition, in hex. Without one it counts for what has no definition to digest: aggregates, and
    /// what came with the server.
    pub sha256: Option<String>,
}

/// The owner speaks of something that the database does not have. The catalogue would leave a
/// column in clear that somebody meant to be masked, so there is none until this is put right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration classes `{0}`, but the database has no such column")]
pub struct CatalogueError(pub String);

/// The class that a comment or a label names: `sluice:pii.email`, anywhere in it.
fn named_class(words: &str) -> Option<String> {
    const MARK: &str = "sluice:";
    let fits = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    words.match_indices(MARK).find_map(|(at, _)| {
        let rest = words.get(at + MARK.len()..)?;
        let class: String = rest.chars().take_while(fits).collect();
        let class = class.trim_end_matches(['.', '-', '_']);
        (!class.is_empty()).then(|| class.to_owned())
    })
}

impl Catalogue {
    /// Builds the catalogue. The second value lists classes of the configuration whose column
    /// does not exist: the caller decides whether that is an error (a typo in a class leaves a
    /// column in clear) or one database of several that the target serves.
    pub fn assemble(rows: Rows, owner: &Owner) -> (Catalogue, Vec<CatalogueError>) {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let mut catalogue = Catalogue {
            server_version: rows.version,
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            ..Catalogue::default()
        };
        catalogue.add_relations(&rows);
        let missing = catalogue.add_classes(&rows, owner);
        catalogue.add_functions(&rows, owner);
        for row in &rows.operators {
            catalogue.operators.entry(row.name.clone()).or_default().push(row.function);
        }
        for row in &rows.types {
            let kind = row.kind.chars().next().unwrap_or('?');
            let type_ = Type { oid: row.oid, kind, relation: row.relation };
            catalogue.types.entry(row.schema.clone()).or_default().insert(row.name.clone(), type_);
        }
        for row in &rows.casts {
            catalogue.casts.entry(row.target).or_default().push(row.function);
        }
        catalogue.add_consequences(&rows);
        (catalogue, missing)
    }

    fn add_relations(&mut self, rows: &Rows) {
        for row in &rows.relations {
            let kind = match row.kind.as_str() {
                "r" | "p" => RelationKind::Table,
                "v" => RelationKind::View,
                "m" => RelationKind::MaterializedView,
                "f" => RelationKind::ForeignTable,
                "S" => RelationKind::Sequence,
                _ => RelationKind::Other,
            };
            let index = self.relations.len();
            self.schemas.insert(row.schema.clone());
            self.by_oid.insert(row.oid, index);
            self.by_name.entry(row.schema.clone()).or_default().insert(row.name.clone(), index);
            self.relations.push(Relation {
                oid: row.oid,
                schema: row.schema.clone(),
                name: row.name.clone(),
                kind,
                columns: Vec::new(),
                definition: row.definition.clone(),
                rules: row.rules.clone(),
            });
        }
        for row in &rows.columns {
            let Some(relation) = self.by_oid.get(&row.relation).and_then(|i| self.relations.get_mut(*i))
            else {
                continue;
            };
            relation.columns.push(Column {
                attnum: row.attnum,
                name: row.name.clone(),
                type_oid: row.type_oid,
                generated: row.generated,
                class: None,
            });
        }
        for relation in &mut self.relations {
            relation.columns.sort_by_key(|c| c.attnum);
        }
    }

    /// Lays the classes on (the configuration's before those that the database's own comments and labels name), then carries them along inheritance both ways until nothing changes:
    /// a parent's rows are its children's, and a partition can be read by its own name.
    fn add_classes(&mut self, rows: &Rows, owner: &Owner) -> Vec<CatalogueError> {
        let named: HashMap<(u32, i16), String> = rows
            .columns
            .iter()
            .filter_map(|row| Some(((row.relation, row.attnum), named_class(&row.words)?)))
            .collect();
        let mut wanted: BTreeMap<&str, &str> =
            owner.classes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        for relation in &mut self.relations {
            for column in &mut relation.columns {
                let key = canonical([&relation.schema, &relation.name, &column.name]);
                let own = wanted.remove(key.as_str()).map(str::to_owned);
                column.class = own.or_else(|| named.get(&(relation.oid, column.attnum)).cloned());
                self.classed |= column.class.is_some();
            }
        }
        if self.classed {
            self.class_generated(rows);
            while rows.inherits.iter().any(|row| {
                let down = self.inherit_classes(row.parent, row.child);
                let up = self.inherit_classes(row.child, row.parent);
                down || up
            }) {}
        }
        wanted.into_keys().map(|k| CatalogueError(k.to_owned())).collect()
    }

    /// A column that the server computes from a classed one has its class.
    fn class_generated(&mut self, rows: &Rows) {
        for row in rows.columns.iter().filter(|row| !row.from.is_empty()) {
            let Some(relation) = self.by_oid.get(&row.relation).and_then(|i| self.relations.get_mut(*i))
            else {
                continue;
            };
            let from = relation.columns.iter().filter(|c| row.from.contains(&c.attnum));
            let Some(class) = from.filter_map(|c| c.class.clone()).next() else { continue };
            for column in &mut relation.columns {
                if column.attnum == row.attnum && column.class.is_none() {
                    column.class = Some(class.clone());
                }
            }
        }
    }

    /// What happens when a relation is written to.
    fn add_consequences(&mut self, rows: &Rows) {
        for row in &rows.triggers {
            self.triggers.entry(row.relation).or_default().push(row.clone());
        }
        for row in &rows.inherits {
            self.heirs.entry(row.parent).or_default().push(row.child);
        }
        for row in &rows.calls {
            let (calls, of) = if row.domain == 0 {
                (&mut self.calls, row.relation)
            } else {
                (&mut self.checks, row.domain)
            };
            calls.entry(of).or_default().push(row.function);
        }
        for row in &rows.unique {
            let own = ColumnId { relation: row.relation, attnum: row.attnum };
            self.looked_up.entry(own).or_default().push(own);
        }
        for row in &rows.foreign_keys {
            for (child, parent) in row.child_columns.iter().zip(&row.parent_columns) {
                let own = ColumnId { relation: row.child, attnum: *child };
                let other = ColumnId { relation: row.parent, attnum: *parent };
                self.looked_up.entry(own).or_default().push(other);
            }
            self.pointed_at.entry(row.parent).or_default().push(row.clone());
        }
    }

    /// Whether a column of `to` got a class that it did not have.
    fn inherit_classes(&mut self, from: u32, to: u32) -> bool {
        let (Some(from), Some(to)) = (self.by_oid.get(&from).copied(), self.by_oid.get(&to).copied()) else {
            return false;
        };
        let classes: HashMap<String, String> = self
            .relations
            .get(from)
            .into_iter()
            .flat_map(|r| &r.columns)
            .filter_map(|c| Some((c.name.clone(), c.class.clone()?)))
            .collect();
        let mut changed = false;
        for column in self.relations.get_mut(to).into_iter().flat_map(|r| &mut r.columns) {
            if column.class.is_none()
                && let Some(class) = classes.get(&column.name)
            {
                column.class = Some(class.clone());
                changed = true;
            }
        }
        changed
    }

    fn add_functions(&mut self, rows: &Rows, owner: &Owner) {
        for row in &rows.functions {
            let args = usize::try_from(row.args).unwrap_or(0);
            let defaults = usize::try_from(row.defaults).unwrap_or(0);
            let builtin = row.oid < FIRST_NORMAL_OID
                && (row.schema == "pg_catalog" || row.schema == "information_schema");
            let named = || owner.vouched.iter().filter(|v| v.name == canonical([&row.schema, &row.name]));
            let vouched = named().any(|v| v.sha256.as_deref() == row.digest.as_deref());
            let list = self.functions.entry(row.name.clone()).or_default();
            self.functions_by_oid.insert(row.oid, (row.name.clone(), list.len()));
            self.schemas.insert(row.schema.clone());
            list.push(Function {
                oid: row.oid,
                schema: row.schema.clone(),
                name: row.name.clone(),
                kind: row.kind.chars().next().unwrap_or('f'),
                volatility: match row.volatility.as_str() {
                    "i" => Volatility::Immutable,
                    "s" => Volatility::Stable,
                    _ => Volatility::Volatile,
                },
                language: row.language.clone(),
                builtin,
                extension: row.extension,
                vouched,
                vouched_otherwise: !vouched && named().next().is_some(),
                definition: row.definition.clone().filter(|_| !row.extension).map(Into::into),
                digest: row.digest.clone().map(Into::into),
                arguments: row.arguments.as_str().into(),
                supports: row.supports.clone(),
                security_definer: row.security_definer,
                returns_set: row.returns_set,
                // a variadic parameter may be left out
                min_args: args.saturating_sub(defaults).saturating_sub(usize::from(row.variadic)),
                max_args: if row.variadic { usize::MAX } else { args },
                returns: row.returns,
                out_names: row.out_names.clone(),
            });
        }
    }
}

/// A name of several parts as the configuration has it: quoted where it would else be another.
fn canonical<'p>(parts: impl IntoIterator<Item = &'p String>) -> String {
    let quoted = |part: &String| {
        let plain =
            !part.is_empty() && !part.contains(['.', '"', ' ']) && !part.chars().any(char::is_uppercase);
        if plain { part.clone() } else { format!("\"{}\"", part.replace('"', "\"\"")) }
    };
    parts.into_iter().map(quoted).collect::<Vec<_>>().join(".")
}
