//! The verdict's vocabulary: what one statement was understood to do.

use std::fmt;

/// Why an EXECUTE or FETCH is not understood until the service says what stands behind the name.
pub(super) const UNRESOLVED: &str = "what stands behind the name is not known here";

/// Everything that one query text (a simple Query message, or the text of a Parse) holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// In the order of the text. Empty for a text without a statement (`;`, a comment).
    pub statements: Vec<Statement>,
}

/// One column of one relation of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId {
    /// `pg_class.oid`.
    pub relation: u32,
    /// `pg_attribute.attnum`, from 1.
    pub attnum: i16,
}

/// A set of effects. The empty set is a statement that touches nothing (`BEGIN` has one: transaction).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Effects(u16);

impl Effects {
    /// Nothing at all.
    pub const NONE: Effects = Effects(0);
    /// Reads data.
    pub const READ: Effects = Effects(1);
    /// Changes data.
    pub const WRITE: Effects = Effects(1 << 1);
    /// Changes definitions.
    pub const DDL: Effects = Effects(1 << 2);
    /// Changes who may do what.
    pub const GRANT: Effects = Effects(1 << 3);
    /// Reaches the server itself: roles, files, configuration, other sessions.
    pub const ADMIN: Effects = Effects(1 << 4);
    /// Changes this session alone.
    pub const SESSION: Effects = Effects(1 << 5);
    /// Begins, ends or marks a transaction.
    pub const TRANSACTION: Effects = Effects(1 << 6);
    /// Reads or writes files or programs of the server.
    pub const FILE: Effects = Effects(1 << 7);
    /// Not understood.
    pub const UNKNOWN: Effects = Effects(1 << 8);

    const NAMES: [(Effects, &'static str); 9] = [
        (Self::READ, "read"),
        (Self::WRITE, "write"),
        (Self::DDL, "ddl"),
        (Self::GRANT, "grant"),
        (Self::ADMIN, "admin"),
        (Self::SESSION, "session"),
        (Self::TRANSACTION, "transaction"),
        (Self::FILE, "file"),
        (Self::UNKNOWN, "unknown"),
    ];

    /// Whether every effect of `other` is in this set.
    pub fn contains(self, other: Effects) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds the effects of `other`.
    pub fn insert(&mut self, other: Effects) {
        self.0 |= other.0;
    }

    /// Takes the effects of `other` out.
    pub fn remove(&mut self, other: Effects) {
        self.0 &= !other.0;
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of the effects, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(e, _)| self.contains(*e)).map(|(_, n)| n)
    }
}

impl fmt::Display for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// What a statement is, with what the service needs to follow the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SELECT, VALUES, TABLE, also with data-modifying WITH members.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// TRUNCATE.
    Truncate,
    /// COPY … TO STDOUT: rows leave through CopyData, columns as in [`Statement::outputs`].
    CopyTo(CopyFormat),
    /// COPY … FROM STDIN: rows come through CopyData.
    CopyFrom(CopyFormat),
    /// COPY to or from a file or program of the server.
    CopyFile,
    /// Transaction control.
    Transaction(TransactionAct),
    /// SET, RESET.
    Set,
    /// SHOW.
    Show,
    /// EXPLAIN; `runs` when ANALYZE executes what is explained. The plan's text may quote
    /// values only with `runs`… and constants of the statement itself.
    Explain {
        /// EXPLAIN ANALYZE.
        runs: bool,
    },
    /// PREPARE name AS …: the rest of the statement describes the inner one. The service keeps
    /// it under the name until DEALLOCATE, DISCARD or the end of the session.
    Prepare {
        /// Name as the server keeps it.
        name: String,
    },
    /// EXECUTE name(…): the arguments are analysed here; the service adds the prepared statement.
    Execute {
        /// Name as the server keeps it.
        name: String,
    },
    /// EXPLAIN [ANALYZE] EXECUTE name.
    ExplainExecute {
        /// Name as the server keeps it.
        name: String,
        /// EXPLAIN ANALYZE.
        runs: bool,
    },
    /// CREATE TABLE … AS EXECUTE name.
    CreateAsExecute {
        /// Name as the server keeps it.
        name: String,
    },
    /// DEALLOCATE; `None` is ALL.
    Deallocate {
        /// Name as the server keeps it.
        name: Option<String>,
    },
    /// DECLARE name CURSOR FOR …: the rest of the statement describes the query. `outputs` are
    /// those of each later FETCH; the DECLARE itself returns no row.
    Declare {
        /// Name as the server keeps it.
        name: String,
        /// Rows of a FETCH come in binary format.
        binary: bool,
        /// WITH HOLD: outlives the transaction.
        hold: bool,
    },
    /// FETCH or MOVE from a cursor.
    Fetch {
        /// Name as the server keeps it.
        name: String,
        /// MOVE: returns no rows.
        moves: bool,
    },
    /// CLOSE; `None` is ALL.
    Close {
        /// Name as the server keeps it.
        name: Option<String>,
    },
    /// LISTEN.
    Listen {
        /// The channel.
        channel: String,
    },
    /// UNLISTEN.
    Unlisten,
    /// NOTIFY.
    Notify,
    /// DISCARD; `all` drops prepared statements and settings too.
    Discard {
        /// DISCARD ALL.
        all: bool,
    },
    /// LOCK TABLE.
    Lock,
    /// Changes of definitions.
    Ddl,
    /// GRANT, REVOKE, owners, policies, default privileges.
    Grant,
    /// VACUUM, ANALYZE, CLUSTER, REINDEX, CHECKPOINT, roles, databases, tablespaces, ALTER SYSTEM, LOAD.
    Admin,
    /// CALL of a procedure.
    Call,
    /// DO, whatever can't be judged, text that does not parse.
    Unknown,
}

impl Kind {
    /// One lower-case word, fit for `Operation.kind` and for policies.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Select => "select",
            Kind::Insert => "insert",
            Kind::Update => "update",
            Kind::Delete => "delete",
            Kind::Merge => "merge",
            Kind::Truncate => "truncate",
            Kind::CopyTo(_) => "copy_to",
            Kind::CopyFrom(_) => "copy_from",
            Kind::CopyFile => "copy_file",
            Kind::Transaction(_) => "transaction",
            Kind::Set => "set",
            Kind::Show => "show",
            Kind::Explain { .. } => "explain",
            Kind::Prepare { .. } => "prepare",
            Kind::Execute { .. } => "execute",
            Kind::ExplainExecute { .. } => "explain_execute",
            Kind::CreateAsExecute { .. } => "create_as_execute",
            Kind::Deallocate { .. } => "deallocate",
            Kind::Declare { .. } => "declare",
            Kind::Fetch { .. } => "fetch",
            Kind::Close { .. } => "close",
            Kind::Listen { .. } => "listen",
            Kind::Unlisten => "unlisten",
            Kind::Notify => "notify",
            Kind::Discard { .. } => "discard",
            Kind::Lock => "lock",
            Kind::Ddl => "ddl",
            Kind::Grant => "grant",
            Kind::Admin => "admin",
            Kind::Call => "call",
            Kind::Unknown => "unknown",
        }
    }
}

/// How the rows of a COPY travel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyFormat {
    /// FORMAT csv.
    pub csv: bool,
    /// FORMAT binary.
    pub binary: bool,
    /// HEADER: the first line holds names.
    pub header: bool,
    /// DELIMITER; `None` is the format's default.
    pub delimiter: Option<char>,
    /// NULL; `None` is the format's default.
    pub null: Option<String>,
    /// QUOTE; `None` is `"`.
    pub quote: Option<char>,
    /// ESCAPE; `None` is the quote character.
    pub escape: Option<char>,
}

/// Transaction control, as far as the service must follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionAct {
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END; with AND CHAIN a new one begins.
    Commit {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// SAVEPOINT name.
    Savepoint(String),
    /// RELEASE name.
    Release(String),
    /// ROLLBACK TO name: settings made since are undone by the server.
    RollbackTo(String),
    /// PREPARE TRANSACTION and its ends.
    TwoPhase,
}

/// What is done with a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Rows or columns are read.
    Select,
    /// Rows are added.
    Insert,
    /// Rows are changed.
    Update,
    /// Rows are removed.
    Delete,
    /// All rows are removed.
    Truncate,
    /// The definition is changed, made or removed.
    Ddl,
    /// Privileges on it are changed.
    Grant,
    /// LOCK TABLE, FOR UPDATE and the like.
    Lock,
    /// A relation of the system that reveals other sessions, secrets or sampled values.
    Admin,
}

/// One relation and what is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationUse {
    /// `pg_class.oid`, `None` for one that is not in the catalogue.
    pub oid: Option<u32>,
    /// Schema as resolved; empty when it is not known.
    pub schema: String,
    /// Name as the server keeps it.
    pub name: String,
    /// What is done.
    pub access: Access,
    /// UPDATE and DELETE: a WHERE is there. Otherwise true.
    pub has_where: bool,
}

/// One column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Name as RowDescription will show it; empty where only the server knows.
    pub name: String,
    /// The classed columns whose values are, or may be, in it; sorted. Empty: none.
    pub sources: Vec<ColumnId>,
    /// Not the plain column: mask the value whole.
    pub derived: bool,
    /// It may hold more than `sources` says: mask whatever it is.
    pub doubt: bool,
}

/// The columns of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Exactly these, in this order; empty for a statement that returns no row.
    /// When RowDescription has another count, mask everything.
    Known(Vec<Output>),
    /// Mask everything.
    Unknown,
}

/// A setting that the statement changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Lower-case name.
    pub name: String,
    /// New value; `None` is the default (RESET, SET … TO DEFAULT). `"all"` with `None` is RESET ALL.
    pub value: Option<String>,
    /// SET LOCAL: undone at the end of the transaction.
    pub local: bool,
}

impl Setting {
    /// Whether it would take away what every verdict rests on: text is UTF-8, and a backslash in a string is one.
    pub fn unsettles(&self) -> bool {
        let Some(value) = self.value.as_deref().map(str::to_ascii_lowercase) else { return false };
        match self.name.as_str() {
            "client_encoding" | "names" => !matches!(value.as_str(), "utf8" | "utf-8" | "unicode"),
            "standard_conforming_strings" => !matches!(value.as_str(), "on" | "true" | "yes" | "1"),
            _ => false,
        }
    }
}

/// What one statement was understood to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Where it stands in the text, in bytes.
    pub span: std::ops::Range<usize>,
    /// What it is.
    pub kind: Kind,
    /// What it does in sum.
    pub effects: Effects,
    /// Relations and what is done with each; no duplicates.
    pub relations: Vec<RelationUse>,
    /// Columns that are read, sorted, no duplicates.
    pub columns_read: Vec<ColumnId>,
    /// Classed columns that decide something (WHERE, JOIN, GROUP BY, ORDER BY, aggregates …).
    pub probes: Vec<ColumnId>,
    /// Something decides that may be classed, and nobody knows which column: refused like a
    /// probe of every classed column.
    pub probes_doubt: bool,
    /// Classed columns whose values flow in clear into a place that is not masked later:
    /// another table, a view's definition, a notification. Each needs `unmask`.
    pub copies: Vec<ColumnId>,
    /// Something flows there whose origin is in doubt.
    pub copies_doubt: bool,
    /// The columns of the result.
    pub outputs: Outputs,
    /// Schema and name of each function called outside pg_catalog, sorted.
    pub functions: Vec<(String, String)>,
    /// Every UPDATE and DELETE in it has a WHERE, and there is no TRUNCATE.
    pub has_where: bool,
    /// A SELECT has a LIMIT or FETCH FIRST of its own.
    pub has_limit: bool,
    /// Rows are locked (FOR UPDATE and its kin).
    pub locks: bool,
    /// Why it is not understood; the effect `unknown` is then set too.
    pub unknown: Option<String>,
    /// A name was not found: a fresh catalogue may know it. The service reads it again once.
    pub stale: bool,
    /// It changes definitions: the catalogue is old once it has run.
    pub changes_catalogue: bool,
    /// Until the transaction ends and the catalogue is read again, nothing that follows can be
    /// judged (a function, operator, cast, view or rule was made or changed).
    pub taints: bool,
    /// The verdict is the same for every other value of its literals.
    pub literal_free: bool,
    /// Settings that it changes.
    pub sets: Vec<Setting>,
}

impl Statement {
    /// A statement that is not understood, with the reason.
    pub fn not_understood(span: std::ops::Range<usize>, why: impl Into<String>) -> Statement {
        let mut statement = Statement::new(span, Kind::Unknown);
        statement.effects = Effects::UNKNOWN;
        statement.outputs = Outputs::Unknown;
        statement.unknown = Some(why.into());
        statement.literal_free = false;
        statement
    }

    /// EXECUTE with the statement that was prepared under the name, as the service remembers it;
    /// `None` when it remembers none. Until this is called an EXECUTE counts as not understood.
    #[must_use]
    pub fn with_prepared(&self, prepared: Option<&Statement>) -> Statement {
        let Some(prepared) = prepared else {
            return self.clone();
        };
        let mut whole = self.clone();
        let plain = matches!(&self.kind, Kind::ExplainExecute { runs: false, .. });
        if self.unknown.as_deref() == Some(UNRESOLVED) {
            whole.unknown = None;
            whole.effects.remove(Effects::UNKNOWN);
        }
        let creates = matches!(&self.kind, Kind::CreateAsExecute { .. });
        whole.absorb(prepared);
        if plain {
            whole.only_planned();
        }
        if creates {
            match &prepared.outputs {
                Outputs::Known(outputs) => {
                    for output in outputs {
                        whole.copies.extend(&output.sources);
                        whole.copies_doubt |= output.doubt;
                    }
                }
                Outputs::Unknown => whole.copies_doubt = true,
            }
        } else if matches!(&self.kind, Kind::Execute { .. }) {
            whole.outputs = prepared.outputs.clone();
        }
        whole.normalise();
        whole
    }

    /// EXECUTE or FETCH of which the service knows what stands behind the name, and has judged that before.
    #[must_use]
    pub fn resolved(&self) -> Statement {
        let mut whole = self.clone();
        if whole.unknown.as_deref() == Some(UNRESOLVED) {
            whole.unknown = None;
            whole.effects.remove(Effects::UNKNOWN);
        }
        whole
    }

    /// FETCH or MOVE with the DECLARE of its cursor; `None` when the service saw none (a cursor
    /// that a function opened). Until this is called a FETCH counts as not understood.
    #[must_use]
    pub fn with_cursor(&self, declared: Option<&Statement>) -> Statement {
        let Some(declared) = declared else {
            return self.clone();
        };
        let mut whole = self.clone();
        whole.unknown = None;
        whole.effects.remove(Effects::UNKNOWN);
        whole.absorb(declared);
        if matches!(self.kind, Kind::Fetch { moves: false, .. }) {
            whole.outputs = declared.outputs.clone();
        }
        whole.normalise();
        whole
    }

    /// Takes over everything that `other` does, but not its outputs, kind, span and settings.
    pub(super) fn absorb(&mut self, other: &Statement) {
        self.effects.insert(other.effects);
        self.relations.extend(other.relations.iter().cloned());
        self.columns_read.extend(&other.columns_read);
        self.probes.extend(&other.probes);
        self.probes_doubt |= other.probes_doubt;
        self.copies.extend(&other.copies);
        self.copies_doubt |= other.copies_doubt;
        self.functions.extend(other.functions.iter().cloned());
        self.has_where &= other.has_where;
        self.has_limit |= other.has_limit;
        self.locks |= other.locks;
        if self.unknown.is_none() {
            self.unknown.clone_from(&other.unknown);
        }
        self.stale |= other.stale;
        self.changes_catalogue |= other.changes_catalogue;
        self.taints |= other.taints;
        self.literal_free &= other.literal_free;
        self.sets.extend(other.sets.iter().cloned());
    }

    /// Turns what would be done into what is merely looked at: a plain EXPLAIN.
    pub(super) fn only_planned(&mut self) {
        for effect in [Effects::WRITE, Effects::DDL, Effects::FILE, Effects::SESSION] {
            if self.effects.contains(effect) {
                self.effects.remove(effect);
                self.effects.insert(Effects::READ);
            }
        }
        for relation in &mut self.relations {
            if relation.access != Access::Admin {
                relation.access = Access::Select;
                relation.has_where = true;
            }
        }
        self.has_where = true;
        self.changes_catalogue = false;
        self.taints = false;
        self.copies.clear();
        self.copies_doubt = false;
        self.sets.clear();
    }

    /// Sorts, and takes duplicates out.
    pub(super) fn normalise(&mut self) {
        self.relations.sort_by(|a, b| {
            (&a.schema, &a.name, a.access, a.has_where).cmp(&(&b.schema, &b.name, b.access, b.has_where))
        });
        self.relations.dedup();
        for ids in [&mut self.columns_read, &mut self.probes, &mut self.copies] {
            ids.sort_unstable();
            ids.dedup();
        }
        self.functions.sort();
        self.functions.dedup();
        if self.unknown.is_some() {
            self.effects.insert(Effects::UNKNOWN);
        }
    }

    pub(super) fn new(span: std::ops::Range<usize>, kind: Kind) -> Statement {
        Statement {
            span,
            kind,
            effects: Effects::NONE,
            relations: Vec::new(),
            columns_read: Vec::new(),
            probes: Vec::new(),
            probes_doubt: false,
            copies: Vec::new(),
            copies_doubt: false,
            outputs: Outputs::Known(Vec::new()),
            functions: Vec::new(),
            has_where: true,
            has_limit: false,
            locks: false,
            unknown: None,
            stale: false,
            changes_catalogue: false,
            taints: false,
            literal_free: true,
            sets: Vec::new(),
        }
    }
}
