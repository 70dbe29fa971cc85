//! What a statement does: effects, relations, columns, lineage.
//!
//! In: the text of a statement, the [`Catalogue`] of the target's database and the [`SearchPath`]
//! that is in force. Out: an [`Analysis`], one [`Statement`] for each statement of the text.
//! The grammar is PostgreSQL's own (crate `pg_query`); what this room adds is the meaning of each
//! node. It must hold that a node nobody taught this room about makes the statement `unknown`
//! and is never skipped, and that a value whose origin is in doubt counts as classed.
//!
//! Verdicts never depend on the values of literals unless [`Statement::literal_free`] is false;
//! [`skeleton`] and [`VerdictCache`] build on that to find a verdict again without a parse.

mod analyse;
mod ask;
mod builtins;
mod cache;
mod catalogue;
mod limits;
mod path;
mod plpgsql;
mod reason;
mod skeleton;
mod statement;
mod touched;

pub use analyse::analyse;
pub use cache::{CacheKey, VerdictCache};
pub use catalogue::{
    CallRow, CastRow, Catalogue, CatalogueError, Column, ColumnRow, ForeignKeyRow, Function, FunctionRow,
    InheritRow, OperatorRow, Owner, QUERIES, Queries, Relation, RelationKind, RelationRow, Rows, TriggerRow,
    TypeRow, UniqueRow, Volatility, Vouched,
};
pub use limits::{MAX_NESTING, MAX_TEXT};
pub use path::{SearchPath, quote_identifier};
pub use reason::reason;
pub use skeleton::skeleton;
pub use statement::{
    Access, Analysis, ColumnId, CopyFormat, Effects, Kind, Output, Outputs, RelationUse, Setting, Statement,
    TransactionAct,
};
pub use touched::count_of;

#[cfg(test)]
mod tests;
