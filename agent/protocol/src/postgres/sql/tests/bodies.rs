//! Functions, triggers, rules and views: what stands behind a statement.
use super::super::catalogue::{CallRow, ForeignKeyRow, FunctionRow, Owner, TriggerRow, UniqueRow, Vouched};
use super::*;

const AUDIT: u32 = 20010;

/// A function with its whole definition; its number of arguments is that of the commas.
fn defined(oid: u32, name: &str, rest: &str) -> FunctionRow {
    let arguments =
        rest.split_once(')').map_or("", |(arguments, _)| arguments).trim_start_matches('(').to_owned();
    let args = if arguments.is_empty() { 0 } else { i32::try_from(arguments.split(',').count()).unwrap() };
    FunctionRow {
        language: if rest.contains("language sql") { "sql" } else { "plpgsql" }.into(),
        definition: Some(format!("CREATE OR REPLACE FUNCTION public.{name}{rest}")),
        digest: Some(format!("{oid:064}")),
        arguments,
        security_definer: rest.contains("security definer"),
        args,
        ..function(oid, name, "v", "f", args)
    }
}

fn database(owner: &Owner) -> Catalogue {
    let mut rows = rows();
    rows.relations.extend([
        relation(AUDIT, "audit", "r", None),
        relation(20011, "ruled", "r", None),
        relation(20012, "names", "v", Some(" SELECT c.id,\n    c.name,\n    c.email\n   FROM public.customers c\n  WHERE (c.id > 0);")),
        relation(20013, "sums", "v", Some(" SELECT o.customer_id,\n    count(*) AS count\n   FROM public.orders o\n  GROUP BY o.customer_id;")),
    ]);
    rows.relations.iter_mut().filter(|r| r.oid == 20011).for_each(|r| {
        r.rules.push("CREATE RULE move AS\n    ON INSERT TO public.ruled DO INSTEAD  INSERT INTO public.audit (what) VALUES (new.a);".into());
    });
    columns(&mut rows, AUDIT, &["id", "what"]);
    columns(&mut rows, 20011, &["a"]);
    columns(&mut rows, 20012, &["id", "name", "email"]);
    columns(&mut rows, 20013, &["customer_id", "count"]);
    rows.functions.extend([
        defined(22001, "total", "(customer integer) returns numeric language sql as $$ select total from orders where customer_id = customer $$"),
        defined(22002, "mail", "(which integer) returns text language plpgsql as $$ declare m text; begin select email into m from customers where id = which; return m; end $$"),
        defined(22003, "closes", "(which integer) returns void language sql as $$ update orders set total = 0 where id = which $$"),
        defined(22004, "dynamic", "(what text) returns void language plpgsql as $$ begin execute what; end $$"),
        defined(22005, "asks", "(guess text) returns boolean language sql as $$ select exists(select 1 from customers where email = guess) $$"),
        defined(22006, "tells", "(which integer) returns integer language plpgsql as $$ declare c customers; begin select * into c from customers where id = which; raise notice '%', c.email; return 1; end $$"),
        defined(22007, "owner_does", "(which integer) returns integer language sql security definer as $$ select 1 $$"),
        defined(22008, "itself", "(n integer) returns integer language plpgsql as $$ begin return itself(n - 1); end $$"),
        defined(22009, "calls_closes", "(n integer) returns void language plpgsql as $$ begin perform closes(n); end $$"),
        defined(22010, "keeps", "(t text) returns void language sql as $$ insert into audit (what) values (t) $$"),
        defined(22011, "stamps", "() returns trigger language plpgsql as $$ begin new.total := coalesce(new.total, '0'); return new; end $$"),
        defined(22012, "copies", "() returns trigger language plpgsql as $$ begin insert into audit (what) values (old.email); return new; end $$"),
        defined(22013, "runs", "() returns trigger language plpgsql as $$ begin execute 'select 1'; return new; end $$"),
        defined(22014, "atomic", "(which integer) returns text language sql BEGIN ATOMIC SELECT c.email FROM public.customers c WHERE (c.id = atomic.which); END"),
        defined(22015, "loops", "() returns setof text language plpgsql as $$ declare r record; v text; begin for r in select name, email from customers loop v := r.email; return next v; end loop; end $$"),
        defined(22016, "sets", "() returns void language plpgsql as $$ begin set role postgres; end $$"),
        defined(22017, "harmless", "(a integer, b integer) returns integer language plpgsql as $$ begin if a > b then return a; end if; return b; end $$"),
        defined(22018, "wipes", "() returns void language sql as $$ delete from orders $$"),
    ]);
    let trigger = |relation, function, kind, definition: &str| TriggerRow {
        relation,
        function,
        kind,
        definition: definition.into(),
    };
    rows.triggers = vec![
        trigger(
            20002,
            22011,
            1 + 2 + 4 + 16,
            "CREATE TRIGGER s BEFORE INSERT OR UPDATE ON public.orders FOR EACH ROW EXECUTE FUNCTION public.stamps()",
        ),
        trigger(
            CUSTOMERS,
            22012,
            1 + 16,
            "CREATE TRIGGER c AFTER UPDATE ON public.customers FOR EACH ROW WHEN ((old.id > 3)) EXECUTE FUNCTION public.copies()",
        ),
        trigger(
            20003,
            22013,
            8,
            "CREATE TRIGGER r AFTER DELETE ON public.payments FOR EACH STATEMENT EXECUTE FUNCTION public.runs()",
        ),
    ];
    rows.foreign_keys = vec![ForeignKeyRow {
        child: AUDIT,
        parent: 20002,
        on_delete: "c".into(),
        on_update: "c".into(),
        child_columns: vec![1],
        parent_columns: vec![1],
    }];
    rows.unique = vec![UniqueRow { relation: CUSTOMERS, attnum: 3 }];
    rows.calls = vec![CallRow { relation: 20011, domain: 0, function: 22003 }];
    Catalogue::assemble(rows, owner).0
}

fn classed() -> Owner {
    let mut owner = Owner::default();
    owner.classes.insert("public.customers.email".into(), "pii.email".into());
    owner
}

fn asked(catalogue: &Catalogue, sql: &str) -> Vec<String> {
    let asks = one(catalogue, sql).asks(catalogue, "shop", "shop");
    asks.iter().map(|a| format!("{} {}", a.action, a.resource.path.last().map_or("", |l| l))).collect()
}

#[test]
fn a_call_is_what_its_body_does() {
    let catalogue = database(&classed());
    for (sql, wanted) in [
        ("select total(3)", "call total|select orders"),
        ("select mail(3)", "call mail|select customers"),
        ("select closes(3)", "call closes|update orders"),
        ("select calls_closes(3)", "call calls_closes|call closes|update orders"),
        ("select dynamic('drop table orders')", "call dynamic|unknown shop"),
        ("select asks('x')", "call asks|probe email|select customers"),
        ("select tells(3)", "call tells|select customers|unmask email"),
        ("select owner_does(3)", "call owner_does|unknown shop"),
        ("select itself(3)", "call itself|unknown shop"),
        ("select sets()", "call sets|unknown shop"),
        ("select atomic(3)", "call atomic|select customers"),
        ("select * from loops()", "call loops|select customers"),
        ("select harmless(1, 2)", "call harmless"),
        ("select keeps('x')", "call keeps|insert audit"),
        (
            "select keeps(email) from customers",
            "call keeps|insert audit|probe email|select customers|unmask email",
        ),
    ] {
        let mut found = asked(&catalogue, sql);
        found.retain(|ask| ask != "select pg_catalog" && ask != "admin shop" && ask != "session shop");
        assert_eq!(found.join("|"), wanted, "{sql}");
    }
    assert!(!one(&catalogue, "select wipes()").has_where, "its DELETE has none");
}

#[test]
fn what_a_body_read_is_masked() {
    let catalogue = database(&classed());
    for (sql, masked) in [
        ("select mail(3)", true),
        ("select total(3)", false),
        ("select atomic(1)", true),
        ("select * from loops()", true),
        ("select harmless(1, 2)", false),
        ("select harmless(id, 2) from customers", false),
    ] {
        let statement = one(&catalogue, sql);
        let Outputs::Known(outputs) = &statement.outputs else { panic!("{sql}") };
        assert_eq!(outputs.iter().any(|o| !o.sources.is_empty() || o.doubt), masked, "{sql}: {outputs:?}");
        assert!(outputs.iter().all(|o| o.sources.iter().all(|s| s.relation != 0)), "{sql}: {outputs:?}");
    }
}

#[test]
fn a_write_is_also_what_it_brings_with_it() {
    let catalogue = database(&classed());
    for (sql, wanted) in [
        ("insert into orders (total) values ('1')", "insert orders"),
        ("update customers set name = 'x' where id = 1", "insert audit|unmask email|update customers"),
        (
            "update customers set email = 'x' where id = 1",
            "insert audit|probe email|unmask email|update customers",
        ),
        ("insert into customers (email) values ('guess')", "insert customers|probe email"),
        ("insert into customers (name) values ('x')", "insert customers"),
        ("copy customers from stdin", "insert customers|probe email"),
        ("copy customers (id, name) from stdin", "insert customers"),
        ("delete from payments where id = 1", "delete payments|unknown shop"),
        ("delete from orders where id = 1", "delete audit|delete orders"),
        ("update orders set total = 1 where id = 1", "update orders"),
        ("update orders set id = 2 where id = 1", "update audit|update orders"),
        ("truncate orders cascade", "truncate audit|truncate orders"),
        ("truncate orders", "truncate orders"),
        ("insert into ruled values ('x')", "insert audit|insert ruled|update orders"),
        ("insert into names (name) values ('x')", "insert customers|insert names"),
        ("delete from names where id = 1", "delete customers|delete names"),
        ("update sums set count = 1 where customer_id = 1", "unknown shop|update sums"),
    ] {
        let mut found = asked(&catalogue, sql);
        found.retain(|ask| !ask.starts_with("select "));
        assert_eq!(found.join("|"), wanted, "{sql}");
    }
}

#[test]
fn who_vouches_vouches_for_the_body_of_that_day() {
    let vouched = |digest: Option<String>| {
        let mut owner = classed();
        owner.vouched.push(Vouched { name: "public.dynamic".into(), sha256: digest });
        let catalogue = database(&owner);
        (one(&catalogue, "select dynamic('x')").unknown, catalogue)
    };
    assert_eq!(vouched(Some(format!("{:064}", 22004))).0, None);
    let (changed, catalogue) = vouched(Some(format!("{:064}", 1)));
    assert!(changed.unwrap().contains("not as it is now"));
    assert!(vouched(None).0.is_some(), "its name alone is not enough");
    let line = catalogue.vouchers(&one(&catalogue, "select dynamic('x')"));
    assert_eq!(line, [format!("public.dynamic(what text)@sha256:{:064}", 22004)]);
}

#[test]
fn names_with_capitals_are_classed_too() {
    let mut rows = rows();
    rows.relations.push(relation(20020, "Odd Name", "r", None));
    columns(&mut rows, 20020, &["E.Mail"]);
    let mut owner = Owner::default();
    owner.classes.insert("public.\"Odd Name\".\"E.Mail\"".into(), "pii.email".into());
    let (catalogue, missing) = Catalogue::assemble(rows, &owner);
    assert!(missing.is_empty() && catalogue.has_classes(), "{missing:?}");
}
