//! What is kept for prepared statements, portals and running statements.
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use sluice_protocol::postgres::sql::{Analysis, CopyFormat, Outputs, Statement};
use sluice_protocol::postgres::wire::back;
use sluice_protocol::postgres::wire::front::Formats;
use sluice_protocol::postgres::wire::session;

use super::budget::Budget;
use super::known::KnownKey;
use crate::masking::{CopyMask, RowMask};

/// The queue and names of one session.
pub(super) type Session = session::Session<Arc<Prepared>, Arc<Portal>, Box<Execution>>;
/// One message that was sent to the target.
pub(super) type Entry = session::Entry<Arc<Prepared>, Arc<Portal>, Box<Execution>>;

/// One statement of an analysis.
#[derive(Clone, Debug)]
pub(super) struct Understood {
    pub(super) analysis: Arc<Analysis>,
    pub(super) index: usize,
}

impl Understood {
    pub(super) fn statement(&self) -> Option<&Statement> {
        self.analysis.statements.get(self.index)
    }
}

/// A prepared statement, by Parse or by PREPARE.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Its text; that of the whole PREPARE for one of those.
    pub(super) text: Box<str>,
    /// Types of its parameters, as far as the client has said them.
    pub(super) types: Box<[u32]>,
    /// Made by PREPARE: the statement inside is what runs.
    pub(super) by_sql: bool,
    /// Its columns, once the target has described them. They can't change: the target refuses to run a prepared
    /// statement whose result has become another ("cached plan must not change result type").
    pub(super) shape: Mutex<Option<Arc<Shape>>>,
}

/// A portal, by Bind or by DECLARE.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) prepared: Arc<Prepared>,
    /// As understood against the search_path of Bind.
    pub(super) understood: Option<Understood>,
    /// For people, recordings and the binding of approvals.
    pub(super) parameters: Vec<String>,
    pub(super) results: Formats,
    /// Its columns with their formats, when it was described itself.
    pub(super) shape: Mutex<Option<Arc<Shape>>>,
    /// It was permitted and runs.
    pub(super) started: Mutex<Option<Started>>,
    /// DECLARE … WITH HOLD: outlives its transaction.
    pub(super) hold: bool,
    /// DECLARE: rows come by FETCH.
    pub(super) cursor: bool,
}

/// A portal that was permitted.
#[derive(Clone, Debug)]
pub(super) struct Started {
    /// Its number in the recording.
    pub(super) operation: u64,
    /// The policy's, of then.
    pub(super) generation: u64,
    /// What is left of its result.
    pub(super) budget: Option<Arc<Budget>>,
}

/// The columns of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) columns: Vec<ShapeColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShapeColumn {
    pub(super) name: String,
    pub(super) table: u32,
    pub(super) attribute: i16,
    pub(super) type_oid: u32,
    pub(super) binary: bool,
}

impl Shape {
    pub(super) fn new(columns: &[back::Column<'_>]) -> Self {
        let columns = columns.iter().map(|c| ShapeColumn {
            name: c.name.clone().into_owned(),
            table: c.table,
            attribute: c.attribute,
            type_oid: c.type_oid,
            binary: c.binary,
        });
        Self { columns: columns.collect() }
    }

    /// The same with the formats that a Bind asked for.
    pub(super) fn formatted(&self, formats: &Formats) -> Self {
        let mut shape = self.clone();
        for (index, column) in shape.columns.iter_mut().enumerate() {
            column.binary = formats.binary(index);
        }
        shape
    }
}

/// What a message runs: the statements of a Query, or one portal.
#[derive(Debug, Default)]
pub(super) struct Execution {
    /// Those that have not completed, the present one in front.
    pub(super) runs: std::collections::VecDeque<Run>,
    /// How the present result is shown.
    pub(super) reading: Option<Reading>,
    /// Answers of a probe of our own.
    pub(super) captured: Vec<Vec<Option<String>>>,
}

/// One statement that runs.
#[derive(Debug)]
pub(super) struct Run {
    /// Its number in the recording.
    pub(super) operation: u64,
    /// Where its columns come from; `None`: not known, everything is masked where anything is classed.
    pub(super) outputs: Option<Understood>,
    pub(super) started: Instant,
    pub(super) rows: u64,
    /// Obligation: what is over it is cut, and the statement ends in an error.
    pub(super) budget: Option<Arc<Budget>>,
    /// `@record("strict")`.
    pub(super) strict: bool,
    /// Errors and notices while it runs may quote protected values.
    pub(super) sensitive: bool,
    /// `COPY … TO STDOUT`.
    pub(super) copy_to: Option<CopyFormat>,
    /// What its completion changes in the session.
    pub(super) after: Vec<After>,
    /// Columns, for an execution by portal (a simple Query gets its RowDescription itself).
    pub(super) portal: Option<Arc<Portal>>,
    /// A RowDescription has been seen: a second one (rules) is not what the lineage is about.
    pub(super) described: bool,
    /// What is remembered of the statement.
    pub(super) known: Option<KnownKey>,
}

impl Run {
    /// The outputs by the parse tree.
    pub(super) fn lineage(&self) -> &Outputs {
        self.outputs.as_ref().and_then(Understood::statement).map_or(&Outputs::Unknown, |s| &s.outputs)
    }
}

/// What a statement that has completed changes.
#[derive(Clone, Debug)]
pub(super) enum After {
    Prepared(String, Arc<Prepared>),
    Deallocated(Option<String>),
    Declared(String, Arc<Portal>),
    Closed(Option<String>),
    /// The search_path or role may be another.
    Path,
    /// Definitions may be others.
    Catalogue,
    /// Nothing can be judged until the transaction has ended.
    Taint,
}

/// How one result is shown.
pub(super) enum Reading {
    /// Rows through a mask.
    Rows(Arc<RowMask>),
    /// A COPY through a mask.
    Copy(Box<CopyMask>),
    /// A COPY that needs none.
    CopyClear,
    /// The limit is reached: the rest is thrown away.
    Cut,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rows(_) => "Rows",
            Self::Copy(_) => "Copy",
            Self::CopyClear => "CopyClear",
            Self::Cut => "Cut",
        })
    }
}
