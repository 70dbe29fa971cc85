//! What is known of a target's database: relations, functions, operators, types.
//!
//! Built once for a target and database from the rows of [`QUERIES`] and shared by its sessions.
//! It holds no user data. Names are as the server keeps them (folded, cut to 63 bytes).

mod assemble;
mod rows;

use std::collections::{HashMap, HashSet};

pub use assemble::{CatalogueError, Owner, Vouched};
pub use rows::{
    CallRow, CastRow, ColumnRow, ForeignKeyRow, FunctionRow, InheritRow, OperatorRow, QUERIES, Queries,
    RelationRow, Rows, TriggerRow, TypeRow, UniqueRow,
};

use super::ColumnId;

/// The definitions of one database, as of one moment.
#[derive(Debug, Default)]
pub struct Catalogue {
    pub(super) relations: Vec<Relation>,
    /// schema → name → index in `relations`
    pub(super) by_name: HashMap<String, HashMap<String, usize>>,
    pub(super) by_oid: HashMap<u32, usize>,
    /// name → every function of that name, in whatever schema
    pub(super) functions: HashMap<String, Vec<Function>>,
    /// operators outside pg_catalog: name → the oids of their functions
    pub(super) operators: HashMap<String, Vec<u32>>,
    pub(super) functions_by_oid: HashMap<u32, (String, usize)>,
    /// schema → name → type
    pub(super) types: HashMap<String, HashMap<String, Type>>,
    /// oids of functions behind casts that users made: target type's oid → functions
    pub(super) casts: HashMap<u32, Vec<u32>>,
    pub(super) schemas: HashSet<String>,
    pub(super) classed: bool,
    pub(super) server_version: u32,
    pub(super) generation: u64,
    /// triggers by relation
    pub(super) triggers: HashMap<u32, Vec<TriggerRow>>,
    /// foreign keys by the relation that they point at
    pub(super) pointed_at: HashMap<u32, Vec<ForeignKeyRow>>,
    /// what a column's value is looked up in: its own unique index, or the column that its foreign key points at
    pub(super) looked_up: HashMap<ColumnId, Vec<ColumnId>>,
    /// partitions and heirs
    pub(super) heirs: HashMap<u32, Vec<u32>>,
    /// functions that a write of a relation calls
    pub(super) calls: HashMap<u32, Vec<u32>>,
    /// functions that a value of a domain calls
    pub(super) checks: HashMap<u32, Vec<u32>>,
    /// what bodies of functions were understood to do
    pub(super) bodies: std::sync::Mutex<HashMap<BodyKey, std::sync::Arc<super::Statement>>>,
    /// what the views that were looked at do, by oid and search_path
    pub(super) views: std::sync::Mutex<HashMap<(u32, u64), std::sync::Arc<super::Statement>>>,
}

/// A table, view, sequence … with its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Name of its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// Columns by attnum, dropped ones left out.
    pub columns: Vec<Column>,
    /// The SELECT behind a view, as `pg_get_viewdef` prints it.
    pub definition: Option<String>,
    /// Rules other than a view's own, each as a CREATE RULE.
    pub rules: Vec<String>,
}

/// By what the body of a function is found again: the function, for a trigger the relation and the event, and the
/// search_path.
pub(super) type BodyKey = (u32, u32, u8, u64);

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// `pg_attribute.attnum`.
    pub attnum: i16,
    /// Its name.
    pub name: String,
    /// `pg_attribute.atttypid`.
    pub type_oid: u32,
    /// Computed by the server; COPY of the table leaves it out.
    pub generated: bool,
    /// Class given by the configuration, directly or through inheritance.
    pub class: Option<String>,
}

/// `pg_class.relkind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// r, p: ordinary and partitioned tables.
    Table,
    /// v.
    View,
    /// m.
    MaterializedView,
    /// f: its rows come from elsewhere.
    ForeignTable,
    /// S.
    Sequence,
    /// i, I, c, t and what later servers add.
    Other,
}

/// `pg_proc.provolatile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// i.
    Immutable,
    /// s.
    Stable,
    /// v, and whatever is not known.
    Volatile,
}

/// A function, procedure, aggregate or window function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// `pg_proc.oid`.
    pub oid: u32,
    /// Name of its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// f, p, a or w as in `pg_proc.prokind`.
    pub kind: char,
    /// As declared.
    pub volatility: Volatility,
    /// `pg_language.lanname`.
    pub language: String,
    /// Came with the server (pg_catalog or information_schema, oid under 16384).
    pub builtin: bool,
    /// Belongs to an extension: whoever installed that speaks for its declarations.
    pub extension: bool,
    /// The configuration vouches for it, by the digest that it has.
    pub vouched: bool,
    /// The configuration has its name with another digest, or with none.
    pub vouched_otherwise: bool,
    /// `CREATE FUNCTION …`, where its body can be read.
    pub definition: Option<Box<str>>,
    /// SHA-256 of that, in hex; also of functions in other languages.
    pub digest: Option<Box<str>>,
    /// Types of its arguments, as they are printed.
    pub arguments: Box<str>,
    /// The functions of an aggregate.
    pub supports: Vec<u32>,
    /// `pg_proc.prosecdef`.
    pub security_definer: bool,
    /// `pg_proc.proretset`.
    pub returns_set: bool,
    /// Fewest arguments of a call.
    pub min_args: usize,
    /// Most arguments of a call; `usize::MAX` for a variadic one.
    pub max_args: usize,
    /// `pg_proc.prorettype`.
    pub returns: u32,
    /// Names of OUT, INOUT and TABLE arguments: the columns in FROM.
    pub out_names: Vec<String>,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres::sql) struct Type {
    /// `pg_type.oid`.
    pub oid: u32,
    /// b, c, d, e, p, r, m as in `pg_type.typtype`.
    pub kind: char,
    /// Relation of a composite type, 0 for others.
    pub relation: u32,
}

impl Function {
    /// The line of the configuration by which an owner vouches for it as it is now.
    pub fn voucher(&self) -> Option<String> {
        let digest = self.digest.as_deref()?;
        Some(format!("{}.{}({})@sha256:{digest}", self.schema, self.name, self.arguments))
    }
}

impl Catalogue {
    /// The lines by which an owner could vouch for the functions that a statement calls and that nobody vouches for.
    pub fn vouchers(&self, statement: &super::Statement) -> Vec<String> {
        let called = statement.functions.iter().flat_map(|(schema, name)| {
            self.functions.get(name).into_iter().flatten().filter(move |f| f.schema == *schema)
        });
        called.filter(|f| !f.vouched).filter_map(Function::voucher).collect()
    }

    pub(super) fn function(&self, oid: u32) -> Option<&Function> {
        let (name, at) = self.functions_by_oid.get(&oid)?;
        self.functions.get(name)?.get(*at)
    }

    /// The relation of that schema and name.
    pub fn relation(&self, schema: &str, name: &str) -> Option<&Relation> {
        let index = self.by_name.get(schema)?.get(name)?;
        self.relations.get(*index)
    }

    /// The relation of that oid, as in the table OID of a RowDescription.
    pub fn relation_by_oid(&self, oid: u32) -> Option<&Relation> {
        self.by_oid.get(&oid).and_then(|i| self.relations.get(*i))
    }

    /// The column with its relation.
    pub fn column(&self, id: ColumnId) -> Option<(&Relation, &Column)> {
        let relation = self.relation_by_oid(id.relation)?;
        relation.columns.iter().find(|c| c.attnum == id.attnum).map(|c| (relation, c))
    }

    /// The class of a column, `None` for one that has none or does not exist. This is witness
    /// (b) of masking: table OID and attribute number from RowDescription.
    pub fn class(&self, id: ColumnId) -> Option<&str> {
        self.column(id)?.1.class.as_deref()
    }

    /// Whether any column has a class. Without one there is nothing to trace.
    pub fn has_classes(&self) -> bool {
        self.classed
    }

    /// `server_version_num`, e.g. 150008.
    pub fn server_version(&self) -> u32 {
        self.server_version
    }

    /// Differs from that of every other catalogue of this process.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
