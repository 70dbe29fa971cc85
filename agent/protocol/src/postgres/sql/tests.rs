//! Statements and what they are understood to do, against the database of the tour.
use proptest::prelude::*;

use super::catalogue::{ColumnRow, FunctionRow, Owner, RelationRow, Rows, Vouched};
use super::*;

mod bodies;

const CUSTOMERS: u32 = 20001;

fn relation(oid: u32, name: &str, kind: &str, definition: Option<&str>) -> RelationRow {
    RelationRow {
        oid,
        schema: if oid < 16384 { "pg_catalog" } else { "public" }.into(),
        name: name.into(),
        kind: kind.into(),
        definition: definition.map(Into::into),
        rules: Vec::new(),
    }
}

fn columns(rows: &mut Rows, relation: u32, names: &[&str]) {
    rows.columns.extend(names.iter().zip(1..).map(|(name, attnum)| ColumnRow {
        relation,
        attnum,
        name: (*name).into(),
        type_oid: 25,
        generated: false,
        from: Vec::new(),
        words: String::new(),
    }));
}

fn function(oid: u32, name: &str, volatility: &str, kind: &str, args: i32) -> FunctionRow {
    let builtin = oid < 16384;
    FunctionRow {
        oid,
        schema: if builtin { "pg_catalog" } else { "public" }.into(),
        name: name.into(),
        kind: kind.into(),
        volatility: volatility.into(),
        language: if builtin { "internal" } else { "plpgsql" }.into(),
        args,
        defaults: 0,
        variadic: false,
        security_definer: false,
        returns_set: false,
        returns: 25,
        out_names: Vec::new(),
        extension: false,
        definition: None,
        digest: None,
        arguments: String::new(),
        supports: Vec::new(),
    }
}

fn catalogue() -> Catalogue {
    let mut owner = Owner::default();
    owner.classes.insert("public.customers.email".into(), "pii.email".into());
    owner.classes.insert("public.customers.card_number".into(), "pii.card".into());
    owner.vouched.push(Vouched { name: "public.order_total".into(), sha256: None });
    let (catalogue, missing) = Catalogue::assemble(rows(), &owner);
    assert!(missing.is_empty(), "{missing:?}");
    catalogue
}

fn rows() -> Rows {
    let mut rows = Rows { version: 150_008, ..Rows::default() };
    let view = " SELECT o.id,\n    c.email\n   FROM (public.orders o\n     JOIN public.customers c ON ((c.id = o.customer_id)));";
    rows.relations = vec![
        relation(CUSTOMERS, "customers", "r", None),
        relation(20002, "orders", "r", None),
        relation(20003, "payments", "r", None),
        relation(20004, "open_orders", "v", Some(view)),
        relation(1259, "pg_class", "r", None),
        relation(1260, "pg_authid", "r", None),
    ];
    columns(&mut rows, CUSTOMERS, &["id", "name", "email", "card_number"]);
    columns(&mut rows, 20002, &["id", "customer_id", "total"]);
    columns(&mut rows, 20003, &["id", "order_id", "amount"]);
    columns(&mut rows, 20004, &["id", "email"]);
    columns(&mut rows, 1259, &["oid", "relname", "relkind"]);
    columns(&mut rows, 1260, &["oid", "rolname", "rolpassword"]);
    rows.functions = vec![
        function(870, "lower", "i", "f", 1),
        function(2803, "count", "i", "a", 0),
        function(2147, "count", "i", "a", 1),
        function(3787, "to_jsonb", "s", "f", 1),
        function(2626, "pg_sleep", "v", "f", 1),
        function(2079, "pg_table_is_visible", "s", "f", 1),
        function(2622, "pg_reload_conf", "v", "f", 0),
        function(2078, "set_config", "v", "f", 3),
        function(2624, "pg_read_file", "v", "f", 1),
        function(21001, "order_total", "v", "f", 1),
        function(21002, "close_order", "v", "f", 1),
    ];
    rows
}

#[test]
fn comments_and_labels_class_columns_and_take_no_class_away() {
    let mut rows = Rows { version: 150_008, ..Rows::default() };
    rows.relations = vec![relation(CUSTOMERS, "customers", "r", None), relation(20002, "part", "r", None)];
    columns(&mut rows, CUSTOMERS, &["id", "name", "email", "note"]);
    columns(&mut rows, 20002, &["name"]);
    rows.inherits.push(InheritRow { child: 20002, parent: CUSTOMERS });
    for (name, words) in [
        ("id", "the sluice: of it, not sluice:"),
        ("name", "who it is (sluice:pii.name)."),
        ("email", "sluice:harmless"),
    ] {
        rows.columns
            .iter_mut()
            .filter(|c| c.name == name && c.relation == CUSTOMERS)
            .for_each(|c| c.words = words.into());
    }
    let mut owner = Owner::default();
    owner.classes.insert("public.customers.email".into(), "pii.email".into());
    let (catalogue, missing) = Catalogue::assemble(rows, &owner);
    assert!(missing.is_empty() && catalogue.has_classes());
    let class = |table: u32, name: &str| {
        let relation = catalogue.relation_by_oid(table).unwrap();
        relation.columns.iter().find(|c| c.name == name).unwrap().class.clone()
    };
    assert_eq!(class(CUSTOMERS, "name").as_deref(), Some("pii.name"));
    assert_eq!(class(20002, "name").as_deref(), Some("pii.name"), "its partition too");
    assert_eq!(class(CUSTOMERS, "email").as_deref(), Some("pii.email"), "the configuration's word counts");
    assert_eq!((class(CUSTOMERS, "id"), class(CUSTOMERS, "note")), (None, None));
}

fn one(catalogue: &Catalogue, sql: &str) -> Statement {
    let analysis = analyse(sql, catalogue, &SearchPath::default());
    assert_eq!(analysis.statements.len(), 1, "{sql}");
    analysis.statements.into_iter().next().unwrap()
}

/// `action name …` of every ask.
fn asks(sql: &str) -> Vec<String> {
    let catalogue = catalogue();
    let asks = one(&catalogue, sql).asks(&catalogue, "shop", "shop");
    asks.iter().map(|a| format!("{} {}", a.action, a.resource.path.last().map_or("", |l| l))).collect()
}

#[test]
fn what_statements_ask_for() {
    for (sql, wanted) in [
        ("select * from customers limit 5", "select customers"),
        ("select lower(email) from customers", "select customers"),
        ("select 1", "select pg_catalog"),
        ("select relname from pg_class where pg_table_is_visible(oid)", "select pg_catalog"),
        ("select id from customers where email like 'a%'", "probe email|select customers"),
        ("select count(*) from customers group by card_number", "probe card_number|select customers"),
        ("select id from customers order by card_number", "probe card_number|select customers"),
        ("select distinct email from customers", "probe email|select customers"),
        ("select id, email from open_orders", "select open_orders"),
        (
            "select o.id from orders o join customers c on c.email = o.total",
            "probe email|select customers|select orders",
        ),
        ("delete from orders where id = 7", "delete orders"),
        ("delete from orders", "delete orders"),
        ("with d as (delete from orders returning *) select count(*) from d", "delete orders|select orders"),
        ("explain analyze delete from orders", "delete orders"),
        ("explain delete from orders", "select orders"),
        ("insert into orders (id) values (1)", "insert orders"),
        ("update orders set total = 1 where id = 3 returning *", "select orders|update orders"),
        ("insert into orders (id) values (1) returning id", "insert orders"),
        (
            "insert into orders (id) values (1) on conflict (id) do update set total = 2 returning total",
            "insert orders|select orders|update orders",
        ),
        (
            "insert into orders (id, total) select id, email from customers",
            "insert orders|select customers|unmask email",
        ),
        ("update customers set email = lower(email) where id = 1", "update customers"),
        ("truncate payments", "truncate payments"),
        ("drop table orders", "ddl orders"),
        ("create table x (id int)", "ddl shop"),
        ("create table x as select email from customers", "ddl shop|select customers|unmask email"),
        ("grant select on orders to public", "grant shop"),
        ("vacuum orders", "admin shop"),
        ("select * from pg_authid", "admin pg_authid"),
        ("select pg_reload_conf()", "admin shop"),
        ("copy orders to stdout", "select orders"),
        ("copy (select id, email from customers) to stdout", "select customers"),
        ("copy orders from stdin", "insert orders"),
        ("copy orders to program 'cat'", "copy_file shop|select orders"),
        ("do $$ begin end $$", "unknown shop"),
        ("call x()", "unknown shop"),
        ("selec * form orders", "unknown shop"),
        ("select order_total(3)", "call order_total"),
        ("select close_order(3)", "call close_order|unknown shop"),
        ("select nobody_knows(3)", "unknown shop"),
        ("select pg_sleep(60)", "select pg_catalog"),
        ("begin", "session shop"),
        ("set search_path = public", "session shop"),
        ("set client_encoding = 'latin1'", "session shop|unknown shop"),
        ("set role postgres", "admin shop|session shop"),
        ("select set_config('role', 'postgres', false)", "admin shop|session shop"),
        ("show search_path", "select pg_catalog"),
        ("declare c binary cursor for select email from customers", "select customers"),
        ("fetch all from c", "unknown shop"),
        ("execute p(1)", "unknown shop"),
    ] {
        let found = asks(sql);
        for part in wanted.split('|') {
            assert!(found.iter().any(|a| a == part), "{sql}: {part} is missing in {found:?}");
        }
        assert!(
            found.iter().all(|a| wanted.split('|').any(|w| w == a) || a.starts_with("select ")),
            "{sql}: {found:?}"
        );
    }
}

#[test]
fn where_says_which_rows() {
    let catalogue = catalogue();
    for (sql, has_where) in [
        ("delete from orders where id = 7", true),
        ("delete from orders", false),
        ("delete from orders where true", false),
        ("delete from orders where 1 = 1", false),
        ("delete from orders where id = id", false),
        ("delete from orders where id = 7 or true", false),
        ("update orders set total = 0", false),
        ("with d as (delete from orders returning *) select * from d", false),
        ("truncate orders", false),
        ("select * from orders", true),
    ] {
        assert_eq!(one(&catalogue, sql).has_where, has_where, "{sql}");
    }
}

#[test]
fn lineage_of_what_is_shown() {
    let catalogue = catalogue();
    // position → classed (c), derived of it (d), or clean (-)
    for (sql, wanted) in [
        ("select * from customers", "--cc"),
        ("select c.* from customers c", "--cc"),
        ("select lower(email), name from customers", "d-"),
        ("select c from customers c", "d"),
        ("select to_jsonb(c) from customers c", "d"),
        ("select email || '/' || card_number from customers", "d"),
        ("select x.m from (select email as m from customers) x", "c"),
        ("with x as (select email as m from customers) select m, 1 from x", "c-"),
        ("select id, email from open_orders", "-c"),
        ("select (select email from customers limit 1)", "c"),
        ("select name from customers union all select email from customers", "c"),
        ("select email from customers union all select email from customers", "c"),
        ("select id from orders", "-"),
        ("delete from customers where id = 1 returning email, id", "c-"),
        ("copy customers to stdout", "--cc"),
        ("declare c cursor for select email from customers", "c"),
        ("select case when id = 1 then email else 'x' end from customers", "d"),
        ("select coalesce(email, name) from customers", "d"),
        ("select row(email, 1) from customers", "d"),
        ("select array(select email from customers)", "d"),
    ] {
        let statement = one(&catalogue, sql);
        let Outputs::Known(outputs) = &statement.outputs else { panic!("{sql}: not known") };
        let shown: String = outputs
            .iter()
            .map(|o| match (o.sources.is_empty() && !o.doubt, o.derived) {
                (true, _) => '-',
                (false, false) => 'c',
                (false, true) => 'd',
            })
            .collect();
        // what is masked whole may be so without being asked
        let fits = shown.len() == wanted.len()
            && shown.chars().zip(wanted.chars()).all(|(s, w)| s == w || (w == 'c' && s == 'd'));
        assert!(fits, "{sql}: {shown}, not {wanted}: {outputs:?}");
    }
}

#[test]
fn prepared_statements_and_cursors_are_those_they_name() {
    let catalogue = catalogue();
    let prepared = one(&catalogue, "prepare p as delete from orders where id = $1");
    assert_eq!(prepared.kind, Kind::Prepare { name: "p".into() });
    let whole = one(&catalogue, "execute p(1)").with_prepared(Some(&prepared));
    assert!(whole.unknown.is_none());
    assert!(whole.asks(&catalogue, "t", "d").iter().any(|a| a.action == "delete"));
    let declared = one(&catalogue, "declare c binary cursor with hold for select email from customers");
    assert_eq!(declared.kind, Kind::Declare { name: "c".into(), binary: true, hold: true });
    let fetched = one(&catalogue, "fetch all from c").with_cursor(Some(&declared));
    assert!(fetched.unknown.is_none() && fetched.outputs == declared.outputs);
}

#[test]
fn what_follows_a_definition_is_not_judged_by_the_old_one() {
    let catalogue = catalogue();
    let text = "create function f() returns int language sql as 'select 1'; select lower('x')";
    let analysis = analyse(text, &catalogue, &SearchPath::default());
    assert_eq!(analysis.statements.len(), 2);
    assert!(analysis.statements[1].unknown.is_some());
    let text = "select 1; select * from customers";
    let analysis = analyse(text, &catalogue, &SearchPath::default());
    assert_eq!(&text[analysis.statements[1].span.clone()].trim(), &"select * from customers");
}

#[test]
fn depth_and_size_are_bounded() {
    let catalogue = catalogue();
    let deep = format!("select {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(one(&catalogue, &deep).unknown.is_some());
    let deep = format!("select {} 1", "not ".repeat(3000));
    assert!(one(&catalogue, &deep).unknown.is_some());
}

/// Where PostgreSQL's own scanner sees constants, as byte ranges.
fn constants(text: &str) -> Option<Vec<(usize, usize)>> {
    use pg_query::protobuf::Token;
    let scanned = pg_query::scan(text).ok()?;
    let place = |n: i32| usize::try_from(n).unwrap();
    let constant = |t: i32| matches!(Token::try_from(t), Ok(Token::Iconst | Token::Fconst | Token::Sconst));
    Some(
        scanned.tokens.iter().filter(|t| constant(t.token)).map(|t| (place(t.start), place(t.end))).collect(),
    )
}

/// The text with its constants taken out by PostgreSQL's scanner.
fn by_scanner(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut from) = (Vec::new(), 0);
    for (start, end) in constants(text)? {
        out.extend_from_slice(&text.as_bytes()[from..start]);
        out.push(if text.as_bytes()[start] == b'\'' { 2 } else { 1 });
        from = end;
    }
    out.extend_from_slice(&text.as_bytes()[from..]);
    Some(out)
}

const TEMPLATES: [&str; 24] = [
    "select id from orders where id = {}",
    "SELECT abalance FROM pgbench_accounts WHERE aid = {};",
    "select * from customers where name = {} and id > {} limit {}",
    "select lower({}), {} from customers order by name",
    "select id from customers order by {}",
    "select count(*) from customers group by {}",
    "delete from orders where id = {}",
    "delete from orders where {} = {}",
    "update orders set total = {} where id = {} returning *",
    "insert into orders (id, total) values ({}, {}), ({}, {})",
    "explain (analyze {}) delete from orders where id = 1",
    "set statement_timeout = {}",
    "select set_config({}, {}, false)",
    "select pg_sleep({})",
    "copy orders to stdout (format csv, header {})",
    "copy (select {} from customers) to stdout",
    "with x as (select email, {} as n from customers) select * from x limit {}",
    "select case when id = {} then email else {} end from customers",
    "select {} || email from customers",
    "select coalesce(email, {}) from customers where email like {}",
    "declare c cursor for select email from customers where id < {}",
    "select (array[{}, {}])[{}]",
    "select date {}, interval {} day",
    "select {}::int, cast({} as text)",
];

#[test]
fn literals_are_found_where_they_are_and_nothing_else() {
    for (text, found) in [
        ("select 1", true),
        ("select $1, 'it''s', .5, 1.25 from t1 where a1=1", true),
        ("select \"a'1\" from t", true),
        ("select E'a\\'b'", false),
        ("select u&'a'", false),
        ("select $$1$$", false),
        ("select 1 -- '", false),
        ("select /* 1 */ 1", false),
        ("select 1e5", false),
        ("select 0x1F", false),
        ("select 1234567890", false),
        ("select 1a", false),
        ("select 'open", false),
    ] {
        let mut out = Vec::new();
        assert_eq!(skeleton(text, &mut out), found, "{text}");
        if found {
            assert_eq!(Some(out), by_scanner(text), "{text}");
        }
    }
}

fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u32..2000).prop_map(|n| n.to_string()),
        (0u32..200, 0u32..100).prop_map(|(a, b)| format!("{a}.{b}")),
        "[a-z%' _0-9\"$-]{0,12}".prop_map(|s| format!("'{}'", s.replace('\'', "''"))),
    ]
}

proptest! {
    #[test]
    fn a_skeleton_is_what_postgresqls_scanner_makes_of_it(text in "[a-zEU0-9'\"$();,.*=&_ \n-]{0,60}") {
        let mut out = Vec::new();
        if skeleton(&text, &mut out)
            && let Some(scanned) = by_scanner(&text)
        {
            prop_assert_eq!(out, scanned, "{}", text);
        }
    }

    #[test]
    fn a_verdict_found_again_is_the_one_that_would_be_made(
        template in 0..TEMPLATES.len(),
        literals in proptest::collection::vec(literal(), 12),
    ) {
        let catalogue = catalogue();
        let path = SearchPath::default();
        let cache = VerdictCache::new(64);
        let mut key = CacheKey::default();
        for turn in literals.chunks(4) {
            let mut text = TEMPLATES[template].to_owned();
            for literal in turn {
                text = text.replacen("{}", literal, 1);
            }
            let mut found = (*cache.analyse(&text, &catalogue, &path, &mut key)).clone();
            let made = analyse(&text, &catalogue, &path);
            for (found, made) in found.statements.iter_mut().zip(&made.statements) {
                found.span = made.span.clone();
            }
            prop_assert_eq!(found, made, "{}", text);
        }
    }

    #[test]
    fn no_text_panics(text in "[a-z0-9'\"$();,.*= \\-/\n]{0,80}") {
        let catalogue = Catalogue::default();
        let _ = analyse(&text, &catalogue, &SearchPath::default());
    }
}
