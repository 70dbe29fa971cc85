//! The constant queries that a catalogue is read by, and their rows.

/// Name and text of each query; the columns stand in the order of the row type's fields.
/// All of them read pg_catalog alone and need no privilege.
pub const QUERIES: Queries = Queries {
    version: "SELECT current_setting('server_version_num')::int4",
    relations: "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
        CASE WHEN c.relkind IN ('v','m') THEN pg_catalog.pg_get_viewdef(c.oid) END, \
        EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN') \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind IN ('r','p','v','m','f','S','c') AND n.nspname !~ '^pg_(temp|toast)'",
    columns: "SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, a.attgenerated <> '', \
        coalesce(d.description, '') || coalesce((SELECT string_agg(' ' || l.label, '') \
            FROM pg_catalog.pg_seclabel l WHERE l.classoid = 'pg_catalog.pg_class'::regclass \
            AND l.objoid = a.attrelid AND l.objsubid = a.attnum), '') \
        FROM pg_catalog.pg_attribute a \
        LEFT JOIN pg_catalog.pg_description d ON d.classoid = 'pg_catalog.pg_class'::regclass \
            AND d.objoid = a.attrelid AND d.objsubid = a.attnum \
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r','p','v','m','f','S','c') \
        AND n.nspname !~ '^pg_(temp|toast)' ORDER BY 1, 2",
    inherits: "SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits",
    functions: "SELECT p.oid, n.nspname::text, p.proname::text, p.prokind::text, p.provolatile::text, \
        l.lanname::text, p.pronargs::int4, p.pronargdefaults::int4, p.provariadic <> 0, p.prosecdef, \
        p.proretset, p.prorettype, \
        coalesce((SELECT array_agg(coalesce(p.proargnames[i], '') ORDER BY i) \
            FROM generate_subscripts(p.proargmodes, 1) i WHERE p.proargmodes[i] IN ('o','b','t')), '{}')::text[], \
        EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass \
            AND d.objid = p.oid AND d.deptype = 'e') \
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
        JOIN pg_catalog.pg_language l ON l.oid = p.prolang WHERE n.nspname !~ '^pg_temp'",
    operators: "SELECT o.oprname::text, o.oprcode::oid FROM pg_catalog.pg_operator o \
        WHERE o.oid >= 16384 AND o.oprcode <> 0",
    types: "SELECT t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typrelid \
        FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
        WHERE n.nspname !~ '^pg_(temp|toast)'",
    casts: "SELECT c.casttarget, c.castfunc FROM pg_catalog.pg_cast c \
        WHERE c.oid >= 16384 AND c.castfunc <> 0",
};

/// The texts of the queries.
#[derive(Debug)]
pub struct Queries {
    /// One row, one int4: `server_version_num`.
    pub version: &'static str,
    /// [`RelationRow`].
    pub relations: &'static str,
    /// [`ColumnRow`].
    pub columns: &'static str,
    /// [`InheritRow`].
    pub inherits: &'static str,
    /// [`FunctionRow`].
    pub functions: &'static str,
    /// [`OperatorRow`].
    pub operators: &'static str,
    /// [`TypeRow`].
    pub types: &'static str,
    /// [`CastRow`].
    pub casts: &'static str,
}

/// Everything that the queries answered.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// `server_version_num`.
    pub version: u32,
    /// Relations.
    pub relations: Vec<RelationRow>,
    /// Columns.
    pub columns: Vec<ColumnRow>,
    /// Inheritance and partitions.
    pub inherits: Vec<InheritRow>,
    /// Functions.
    pub functions: Vec<FunctionRow>,
    /// Operators that did not come with the server.
    pub operators: Vec<OperatorRow>,
    /// Types.
    pub types: Vec<TypeRow>,
    /// Casts that did not come with the server.
    pub casts: Vec<CastRow>,
}

/// A row of [`Queries::relations`].
#[derive(Clone, Debug)]
pub struct RelationRow {
    /// pg_class.oid
    pub oid: u32,
    /// nspname
    pub schema: String,
    /// relname
    pub name: String,
    /// relkind
    pub kind: String,
    /// pg_get_viewdef of views
    pub definition: Option<String>,
    /// has rules beside `_RETURN`
    pub has_rules: bool,
}

/// A row of [`Queries::columns`].
#[derive(Clone, Debug)]
pub struct ColumnRow {
    /// attrelid
    pub relation: u32,
    /// attnum
    pub attnum: i16,
    /// attname
    pub name: String,
    /// atttypid
    pub type_oid: u32,
    /// attgenerated is set
    pub generated: bool,
    /// its comment and its security labels
    pub words: String,
}

/// A row of [`Queries::inherits`].
#[derive(Clone, Copy, Debug)]
pub struct InheritRow {
    /// inhrelid
    pub child: u32,
    /// inhparent
    pub parent: u32,
}

/// A row of [`Queries::functions`].
#[derive(Clone, Debug)]
pub struct FunctionRow {
    /// pg_proc.oid
    pub oid: u32,
    /// nspname
    pub schema: String,
    /// proname
    pub name: String,
    /// prokind
    pub kind: String,
    /// provolatile
    pub volatility: String,
    /// lanname
    pub language: String,
    /// pronargs: IN, INOUT, VARIADIC
    pub args: i32,
    /// pronargdefaults
    pub defaults: i32,
    /// provariadic is set
    pub variadic: bool,
    /// prosecdef
    pub security_definer: bool,
    /// proretset
    pub returns_set: bool,
    /// prorettype
    pub returns: u32,
    /// names of OUT, INOUT, TABLE arguments in order
    pub out_names: Vec<String>,
    /// belongs to an extension
    pub extension: bool,
}

/// A row of [`Queries::operators`].
#[derive(Clone, Debug)]
pub struct OperatorRow {
    /// oprname
    pub name: String,
    /// oprcode
    pub function: u32,
}

/// A row of [`Queries::types`].
#[derive(Clone, Debug)]
pub struct TypeRow {
    /// pg_type.oid
    pub oid: u32,
    /// nspname
    pub schema: String,
    /// typname
    pub name: String,
    /// typtype
    pub kind: String,
    /// typrelid
    pub relation: u32,
}

/// A row of [`Queries::casts`].
#[derive(Clone, Copy, Debug)]
pub struct CastRow {
    /// casttarget
    pub target: u32,
    /// castfunc
    pub function: u32,
}
