//! The constant queries that a catalogue is read by, and their rows.

/// Name and text of each query; the columns stand in the order of the row type's fields.
/// All of them read pg_catalog alone and need no privilege.
///
/// Those up to `calls` scan tables, under one snapshot; relations, columns, functions and types of a range of oids
/// (`$1` to below `$2`), since what came with the server need not be read again with every change. What the server prints of a definition (`views` and what follows
/// it) fails where somebody drops or locks something of it in the meantime, since names are looked up as of now: it is
/// asked for by oid, and what can't be printed is not known.
pub const QUERIES: Queries = Queries {
    version: "SELECT current_setting('server_version_num')::int4",
    relations: "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
        CASE WHEN c.oid >= 16384 THEN (SELECT coalesce(array_agg(r.oid), '{}') FROM pg_catalog.pg_rewrite r \
            WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN') ELSE '{}'::oid[] END \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.oid >= $1 AND c.oid < $2 AND c.relkind IN ('r','p','v','m','f','S','c') \
        AND n.nspname !~ '^pg_(temp|toast)'",
    columns: "SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, a.attgenerated <> '', \
        CASE WHEN a.attgenerated <> '' THEN (SELECT coalesce(array_agg(g.refobjsubid::int2), '{}') \
            FROM pg_catalog.pg_attrdef e JOIN pg_catalog.pg_depend g ON g.refclassid = 'pg_catalog.pg_class'::regclass \
            AND g.refobjid = a.attrelid AND g.refobjsubid > 0 AND g.refobjsubid <> a.attnum \
            AND (g.classid = 'pg_catalog.pg_attrdef'::regclass AND g.objid = e.oid \
                OR g.classid = 'pg_catalog.pg_class'::regclass AND g.objid = a.attrelid AND g.objsubid = a.attnum) \
            WHERE e.adrelid = a.attrelid AND e.adnum = a.attnum) ELSE '{}'::int2[] END, \
        coalesce(d.description, '') || coalesce((SELECT string_agg(' ' || l.label, '') \
            FROM pg_catalog.pg_seclabel l WHERE l.classoid = 'pg_catalog.pg_class'::regclass \
            AND l.objoid = a.attrelid AND l.objsubid = a.attnum), '') \
        FROM pg_catalog.pg_attribute a \
        LEFT JOIN pg_catalog.pg_description d ON d.classoid = 'pg_catalog.pg_class'::regclass \
            AND d.objoid = a.attrelid AND d.objsubid = a.attnum \
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE a.attrelid >= $1 AND a.attrelid < $2 AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r','p','v','m','f','S','c') \
        AND n.nspname !~ '^pg_(temp|toast)' ORDER BY 1, 2",
    inherits: "SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits",
    functions: "SELECT p.oid, n.nspname::text, p.proname::text, p.prokind::text, p.provolatile::text, \
        l.lanname::text, p.pronargs::int4, p.pronargdefaults::int4, p.provariadic <> 0, p.prosecdef, \
        p.proretset, p.prorettype, \
        coalesce((SELECT array_agg(coalesce(p.proargnames[i], '') ORDER BY i) \
            FROM generate_subscripts(p.proargmodes, 1) i WHERE p.proargmodes[i] IN ('o','b','t')), '{}')::text[], \
        EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass \
            AND d.objid = p.oid AND d.deptype = 'e'), \
        CASE WHEN p.oid < 16384 THEN pg_catalog.pg_get_function_identity_arguments(p.oid) END, \
        CASE WHEN p.prokind = 'a' AND p.oid >= 16384 THEN (SELECT array_remove(ARRAY[a.aggtransfn::oid, a.aggfinalfn::oid, \
            a.aggcombinefn::oid, a.aggserialfn::oid, a.aggdeserialfn::oid, a.aggmtransfn::oid, a.aggminvtransfn::oid, \
            a.aggmfinalfn::oid], 0::oid) FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid = p.oid) ELSE '{}'::oid[] END \
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
        JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
        WHERE p.oid >= $1 AND p.oid < $2 AND n.nspname !~ '^pg_temp'",
    operators: "SELECT o.oprname::text, o.oprcode::oid FROM pg_catalog.pg_operator o \
        WHERE o.oid >= 16384 AND o.oprcode <> 0",
    types: "SELECT t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typrelid \
        FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
        WHERE t.oid >= $1 AND t.oid < $2 AND n.nspname !~ '^pg_(temp|toast)'",
    casts: "SELECT c.casttarget, c.castfunc FROM pg_catalog.pg_cast c \
        WHERE c.oid >= 16384 AND c.castfunc <> 0",
    triggers: "SELECT t.oid, t.tgrelid, t.tgfoid, t.tgtype \
        FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'",
    foreign_keys: "SELECT k.conrelid, k.confrelid, k.confdeltype::text, k.confupdtype::text, k.conkey, k.confkey \
        FROM pg_catalog.pg_constraint k WHERE k.contype = 'f'",
    unique: "SELECT i.indrelid, u.attnum FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey::int2[]) u(attnum) \
        WHERE (i.indisunique OR i.indisexclusion) AND i.indrelid >= 16384 AND u.attnum > 0 \
        UNION SELECT i.indrelid, d.refobjsubid::int2 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_depend d \
        ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = i.indexrelid \
        AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = i.indrelid \
        WHERE (i.indisunique OR i.indisexclusion) AND i.indrelid >= 16384 AND d.refobjsubid > 0",
    calls: "WITH called AS (SELECT d.classid, d.objid, d.refobjid AS proc FROM pg_catalog.pg_depend d \
            WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass AND d.refobjid >= 16384), \
        checks AS (SELECT k.conrelid, k.contypid, c.proc FROM called c JOIN pg_catalog.pg_constraint k \
            ON c.classid = 'pg_catalog.pg_constraint'::regclass AND k.oid = c.objid) \
        SELECT e.adrelid, 0::oid, c.proc FROM called c JOIN pg_catalog.pg_attrdef e \
            ON c.classid = 'pg_catalog.pg_attrdef'::regclass AND e.oid = c.objid \
        UNION SELECT a.attrelid, 0::oid, c.proc FROM called c JOIN pg_catalog.pg_attribute a \
            ON c.classid = 'pg_catalog.pg_class'::regclass AND a.attrelid = c.objid AND a.attgenerated <> '' \
        UNION SELECT i.indrelid, 0::oid, c.proc FROM called c JOIN pg_catalog.pg_index i \
            ON c.classid = 'pg_catalog.pg_class'::regclass AND i.indexrelid = c.objid \
        UNION SELECT conrelid, 0::oid, proc FROM checks WHERE conrelid <> 0 \
        UNION SELECT 0::oid, contypid, proc FROM checks WHERE contypid <> 0 \
        UNION SELECT a.attrelid, 0::oid, k.proc FROM checks k JOIN pg_catalog.pg_attribute a \
            ON a.atttypid = k.contypid WHERE k.contypid <> 0 AND a.attnum > 0 AND NOT a.attisdropped",
    views: "SELECT o, pg_catalog.pg_get_viewdef(o) FROM pg_catalog.unnest($1::oid[]) o",
    rules: "SELECT o, pg_catalog.pg_get_ruledef(o) FROM pg_catalog.unnest($1::oid[]) o",
    fired: "SELECT o, pg_catalog.pg_get_triggerdef(o) FROM pg_catalog.unnest($1::oid[]) o",
    arguments: "SELECT o, pg_catalog.pg_get_function_identity_arguments(o) FROM pg_catalog.unnest($1::oid[]) o",
    bodies: "SELECT f.o, CASE WHEN f.short THEN f.definition END, pg_catalog.encode(pg_catalog.sha256( \
            pg_catalog.convert_to(f.definition, 'UTF8')), 'hex') \
        FROM (SELECT p.oid AS o, pg_catalog.pg_get_functiondef(p.oid) AS definition, \
                l.lanname IN ('sql', 'plpgsql') AND pg_catalog.length(p.prosrc) < 100000 AS short \
            FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
            WHERE p.oid = ANY ($1::oid[])) f",
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
    /// [`TriggerRow`].
    pub triggers: &'static str,
    /// [`ForeignKeyRow`].
    pub foreign_keys: &'static str,
    /// [`UniqueRow`].
    pub unique: &'static str,
    /// [`CallRow`].
    pub calls: &'static str,
    /// Of these oids: oid and `pg_get_viewdef`.
    pub views: &'static str,
    /// Of these oids: oid and `pg_get_ruledef`.
    pub rules: &'static str,
    /// Of these oids: oid and `pg_get_triggerdef`.
    pub fired: &'static str,
    /// Of these oids: oid and `pg_get_function_identity_arguments`.
    pub arguments: &'static str,
    /// Of these oids: oid, `pg_get_functiondef` where it can be read, its SHA-256 in hex.
    pub bodies: &'static str,
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
    /// Triggers that users made.
    pub triggers: Vec<TriggerRow>,
    /// Foreign keys.
    pub foreign_keys: Vec<ForeignKeyRow>,
    /// Columns of unique indexes.
    pub unique: Vec<UniqueRow>,
    /// Functions that a write of a relation, or a value of a type, calls.
    pub calls: Vec<CallRow>,
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
    /// pg_get_viewdef of views that users made; empty where it could not be printed
    pub definition: Option<String>,
    /// rules beside `_RETURN`, as `pg_get_ruledef` prints them; empty where one could not be printed
    pub rules: Vec<String>,
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
    /// the columns that a generated one is computed from
    pub from: Vec<i16>,
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
    /// `pg_get_functiondef` of functions in SQL and PL/pgSQL that users made
    pub definition: Option<String>,
    /// SHA-256 of `pg_get_functiondef`, in hex; empty where it could not be printed
    pub digest: Option<String>,
    /// `pg_get_function_identity_arguments`
    pub arguments: String,
    /// the functions of an aggregate
    pub supports: Vec<u32>,
}

/// A row of [`Queries::triggers`].
#[derive(Clone, Debug)]
pub struct TriggerRow {
    /// tgrelid
    pub relation: u32,
    /// tgfoid
    pub function: u32,
    /// tgtype
    pub kind: i16,
    /// pg_get_triggerdef; empty where it could not be printed
    pub definition: String,
}

/// A row of [`Queries::foreign_keys`].
#[derive(Clone, Debug)]
pub struct ForeignKeyRow {
    /// conrelid
    pub child: u32,
    /// confrelid
    pub parent: u32,
    /// confdeltype
    pub on_delete: String,
    /// confupdtype
    pub on_update: String,
    /// conkey
    pub child_columns: Vec<i16>,
    /// confkey
    pub parent_columns: Vec<i16>,
}

/// A row of [`Queries::unique`].
#[derive(Clone, Copy, Debug)]
pub struct UniqueRow {
    /// indrelid
    pub relation: u32,
    /// of indkey, or what its expressions are made of
    pub attnum: i16,
}

/// A row of [`Queries::calls`].
#[derive(Clone, Copy, Debug)]
pub struct CallRow {
    /// of a default, check or index; 0 for a domain's check
    pub relation: u32,
    /// of a domain's check, else 0
    pub domain: u32,
    /// pg_proc.oid
    pub function: u32,
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
