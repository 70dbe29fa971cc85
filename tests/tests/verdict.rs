//! Verdicts by the catalogue of a real server: the corpus of hidden writes and of harmless questions, and the server's own
//! word on what was called read-only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sluice_agent::services::postgres::catalogue::fetch;
use sluice_policy::Feature;
use sluice_protocol::postgres::sql::{Analysis, Catalogue, Effects, Kind, Owner, SearchPath, analyse};
use sluice_tests::bare::Bare;
use sluice_tests::{Context, Result};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// What is asked for besides that nobody counts.
const EVERYWHERE: &str = "select pg_catalog";

/// A row of the corpus.
struct Row {
    line: usize,
    text: String,
    asks: Vec<String>,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/verdict").join(name)
}

/// A statement a line, its asks in a line that begins with `=`; `#` is a comment.
fn corpus(name: &str) -> Result<Vec<Row>> {
    let text = fs::read_to_string(fixture(name))?;
    let mut rows = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        if let Some(asks) = line.strip_prefix('=') {
            let (number, text) = open.take().context(format!("{name}:{}: asks of nothing", at + 1))?;
            let asks =
                asks.split('|').map(str::trim).filter(|ask| !ask.is_empty()).map(str::to_owned).collect();
            rows.push(Row { line: number, text, asks });
        } else if open.is_none() && !line.trim().is_empty() && !line.starts_with('#') {
            open = Some((at + 1, line.to_owned()));
        } else if let Some((_, text)) = &mut open {
            text.push('\n');
            text.push_str(line);
        }
    }
    assert!(open.is_none(), "{name}: the last statement has no asks");
    Ok(rows)
}

fn found(analysis: &Analysis, catalogue: &Catalogue) -> Vec<String> {
    let mut asks: Vec<String> = analysis
        .statements
        .iter()
        .flat_map(|statement| statement.asks(catalogue, "corpus", "corpus"))
        .map(|ask| format!("{} {}", ask.action, ask.resource.path.last().map_or("", String::as_str)))
        .filter(|ask| ask != EVERYWHERE)
        .collect();
    asks.sort();
    asks.dedup();
    asks
}

/// Rows that come out otherwise, in words.
fn wrong(name: &str, catalogue: &Catalogue) -> Result<(usize, Vec<String>)> {
    let rows = corpus(name)?;
    let mut wrong = Vec::new();
    for row in &rows {
        let analysis = analyse(&row.text, catalogue, &SearchPath::default());
        let found = found(&analysis, catalogue);
        let mut wanted = row.asks.clone();
        wanted.sort();
        if found != wanted {
            let why: Vec<&str> = analysis.statements.iter().filter_map(|s| s.unknown.as_deref()).collect();
            wrong.push(format!(
                "{name}:{}: {}\n  want {}\n  have {} {why:?}",
                row.line,
                row.text,
                wanted.join("|"),
                found.join("|")
            ));
        }
    }
    Ok((rows.len(), wrong))
}

fn owner() -> Owner {
    let mut owner = Owner::default();
    owner.classes.insert("public.customers.email".into(), "pii.email".into());
    owner.classes.insert("public.customers.card_number".into(), "pii.card".into());
    owner
}

async fn connect(bare: &Bare, database: &str) -> Result<Client> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(bare.host()).user("postgres").dbname(database);
    let (client, connection) = config.connect(NoTls).await.context("failed to connect")?;
    drop(tokio::spawn(connection));
    Ok(client)
}

async fn catalogue(client: &Client) -> Result<Arc<Catalogue>> {
    let rows = fetch(client).await.context("failed to read the catalogue")?;
    let (catalogue, missing) = Catalogue::assemble(rows, &owner());
    assert!(missing.is_empty(), "{missing:?}");
    Ok(Arc::new(catalogue))
}

#[tokio::test]
async fn every_row_of_the_corpus_is_what_it_says() -> Result<()> {
    let bare = Bare::start()?;
    bare.database("corpus", &fixture("schema.sql"))?;
    let client = connect(&bare, "corpus").await?;
    let catalogue = catalogue(&client).await?;
    let mut all = Vec::new();
    for name in ["hidden.txt", "harmless.txt"] {
        let (rows, wrong) = wrong(name, &catalogue)?;
        println!("{name}: {rows} rows, {} wrong", wrong.len());
        all.extend(wrong);
    }
    assert!(all.is_empty(), "{} rows:\n{}", all.len(), all.join("\n"));
    let odd = not_taken(&client, "harmless.txt").await?;
    assert!(odd.is_empty(), "no statements of this server: {odd:#?}");
    differential(&client, &catalogue).await
}

/// Rows that the server does not take at all: nobody asks them, and what we make of them shows nothing. One that names a
/// savepoint, a statement or a cursor of before does not find it.
async fn not_taken(client: &Client, name: &str) -> Result<Vec<String>> {
    const OF_BEFORE: [&str; 3] = ["3B001", "26000", "34000"];
    let mut odd = Vec::new();
    for row in corpus(name)? {
        let parameters = row.text.contains("$1");
        let text = if parameters { format!("prepare of_corpus as {}", row.text) } else { row.text.clone() };
        client.batch_execute("begin").await.context("BEGIN")?;
        let answer = client.batch_execute(&text).await;
        client.batch_execute("rollback; deallocate all").await.context(format!("ROLLBACK after {text}"))?;
        let error = answer.err().and_then(|error| error.as_db_error().cloned());
        // `prepare` itself stands in the corpus
        let prepares = parameters && row.text.starts_with("prepare ");
        if let Some(error) = error.filter(|error| !prepares && !OF_BEFORE.contains(&error.code().code())) {
            odd.push(format!("{name}:{}: {}: {}", row.line, row.text, error.message()));
        }
    }
    Ok(odd)
}

/// What we call read-only, the server takes in a transaction that is.
async fn differential(client: &Client, catalogue: &Catalogue) -> Result<()> {
    let mut asked = Vec::new();
    for name in ["hidden.txt", "harmless.txt"] {
        asked.extend(corpus(name)?.into_iter().map(|row| row.text));
    }
    asked.extend(calls(client).await?);
    asked.extend(generated(2000));
    let (mut read_only, mut wrong) = (0, Vec::new());
    for text in &asked {
        if !is_read_only(text, catalogue) {
            continue;
        }
        read_only += 1;
        if let Some(why) = refused_as_write(client, text).await? {
            wrong.push(format!("{text}: {why}"));
        }
    }
    println!("{} statements, {read_only} called read-only, {} refused as writes", asked.len(), wrong.len());
    assert!(read_only > 2000, "most of them are no writes: {read_only} of {}", asked.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // the measure itself: a write is told as one
    assert!(refused_as_write(client, "delete from payments").await?.is_some());
    Ok(())
}

fn is_read_only(text: &str, catalogue: &Catalogue) -> bool {
    let statements = analyse(text, catalogue, &SearchPath::default()).statements;
    !statements.is_empty()
        && statements.iter().all(|statement| {
            let copies = matches!(statement.kind, Kind::CopyTo(_) | Kind::CopyFrom(_));
            let own = statement.effects.contains(Effects::TRANSACTION)
                || statement.effects.contains(Effects::SESSION);
            statement.features().get("read_only") == Some(&Feature::Bool(true)) && !copies && !own
        })
}

/// What the server says, where that is `cannot execute … in a read-only transaction`.
async fn refused_as_write(client: &Client, text: &str) -> Result<Option<String>> {
    const READ_ONLY_SQL_TRANSACTION: &str = "25006";
    let begin = "begin isolation level repeatable read read only; set local statement_timeout = '2s'";
    client.batch_execute(begin).await.context("BEGIN")?;
    let answer = client.batch_execute(text).await;
    client.batch_execute("rollback").await.context(format!("ROLLBACK after {text}"))?;
    let error = answer.err().and_then(|error| error.as_db_error().cloned());
    Ok(error.filter(|e| e.code().code() == READ_ONLY_SQL_TRANSACTION).map(|e| e.message().to_owned()))
}

/// A call of every function that the server brings, with arguments of the right types.
async fn calls(client: &Client) -> Result<Vec<String>> {
    let query = "select p.proname::text, array(select format_type(t, null) from unnest(p.proargtypes) with ordinality \
        as a(t, n) order by n)::text[] from pg_proc p where p.oid < 16384 and p.prokind in ('f', 'a') order by p.oid";
    let rows = client.query(query, &[]).await.context("the functions")?;
    let mut calls = Vec::new();
    for row in &rows {
        let (name, types): (String, Vec<String>) = (row.get(0), row.get(1));
        let arguments: Vec<String> = types.iter().map(|of| sample(of)).collect();
        calls.push(format!("select pg_catalog.\"{name}\"({})", arguments.join(", ")));
    }
    Ok(calls)
}

fn sample(of: &str) -> String {
    match of {
        "integer" | "bigint" | "smallint" | "numeric" | "real" | "double precision" | "oid" => {
            format!("1::{of}")
        }
        "text" | "name" | "character varying" | "bytea" | "cstring" => format!("'orders'::{of}"),
        "boolean" => "true".to_owned(),
        "regclass" => "'ids'::regclass".to_owned(),
        "json" | "jsonb" => format!("'{{}}'::{of}"),
        "xml" => "'<a/>'::xml".to_owned(),
        "interval" => "interval '0'".to_owned(),
        "timestamp with time zone" | "timestamp without time zone" | "date" => format!("'2020-01-01'::{of}"),
        "anyelement" | "anycompatible" | "\"any\"" | "any" => "1".to_owned(),
        "anyarray" | "anycompatiblearray" => "array[1]".to_owned(),
        of => format!("null::{of}"),
    }
}

/// Statements made of parts that do something and parts that do not.
fn generated(count: usize) -> Vec<String> {
    const VALUES: [&str; 16] = [
        "1",
        "'x'",
        "null",
        "id",
        "plus(1, 2)",
        "bump()",
        "nextval('ids')",
        "total(1)",
        "close_order(1)",
        "mail_of(1)",
        "with_default()",
        "(select count(*) from payments)",
        "now()",
        "pg_backend_pid()",
        "txid_current()",
        "(select forget())",
    ];
    const SOURCES: [&str; 9] = [
        "orders",
        "names",
        "open_orders",
        "totals",
        "rows_of()",
        "rows_named()",
        "(select 1 as id) q",
        "(values (1)) v(id)",
        "generate_series(1, 2) g(id)",
    ];
    const FRAMES: [&str; 12] = [
        "select {} from {}",
        "select {} from {} where {} is not null",
        "select {} from {} order by {}",
        "select case when {} is null then {} end from {}",
        "with w as (select {} as a from {}) select * from w",
        "with w as (delete from payments where id = -1 returning id) select {} from {}",
        "explain select {} from {}",
        "explain analyze select {} from {}",
        "select {} from {} limit 1 for share",
        "values ({}), ({})",
        "select exists (select {} from {})",
        "select {} from {} group by 1 having {} is null",
    ];
    let mut runner = TestRunner::deterministic();
    let parts = (0..FRAMES.len(), 0..SOURCES.len(), proptest::collection::vec(0..VALUES.len(), 4));
    let mut made = Vec::with_capacity(count);
    for _ in 0..count {
        let Ok(tree) = parts.new_tree(&mut runner) else { continue };
        let (frame, source, values) = tree.current();
        let mut text = FRAMES[frame].replace("from {}", &format!("from {}", SOURCES[source]));
        for value in values {
            text = text.replacen("{}", VALUES[value], 1);
        }
        made.push(text);
    }
    made
}

/// The same over PostgreSQL's own regression suite: each statement is judged by the catalogue of that moment, tried in a
/// read-only transaction where we call it read-only, and then run, so that the next ones find what they need.
#[tokio::test]
#[ignore = "takes minutes: `cargo xtask conformance postgres --verdict` (src/test/regress of PostgreSQL's source in SLUICE_REGRESS)"]
async fn the_regression_suite_agrees() -> Result<()> {
    let directory = PathBuf::from(std::env::var("SLUICE_REGRESS").context("SLUICE_REGRESS")?);
    let bare = Bare::start()?;
    bare.database("regression", &directory.join("sql/test_setup.sql")).ok();
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory.join("sql"))?.filter_map(|f| Some(f.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "sql"));
    files.sort();
    let (mut all, mut read_only, mut wrong) = (0, 0, Vec::new());
    for file in files {
        let text = fs::read_to_string(&file)?;
        let client = connect(&bare, "regression").await?;
        client.batch_execute("set statement_timeout = '3s'").await.context("SET")?;
        // as Sluice does it: by a connection of its own, whatever state the session is in
        let aside = connect(&bare, "regression").await?;
        let mut known: Option<Arc<Catalogue>> = None;
        for statement in statements(&text) {
            all += 1;
            let catalogue = match &known {
                Some(catalogue) => Arc::clone(catalogue),
                None => Arc::new(
                    Catalogue::assemble(
                        fetch(&aside).await.map_err(|why| format!("{why:?}")).context("the catalogue")?,
                        &Owner::default(),
                    )
                    .0,
                ),
            };
            let changes = analyse(&statement, &catalogue, &SearchPath::default())
                .statements
                .iter()
                .any(|s| s.changes_catalogue || s.unknown.is_some());
            known = (!changes).then(|| Arc::clone(&catalogue));
            // neither in a transaction nor in one that has failed
            let state = client.batch_execute("savepoint probe_of_state").await.err();
            let idle =
                state.is_some_and(|e| e.code().is_some_and(|c| *c == SqlState::NO_ACTIVE_SQL_TRANSACTION));
            if idle && is_read_only(&statement, &catalogue) {
                read_only += 1;
                if let Some(why) = refused_as_write(&client, &statement).await? {
                    wrong.push(format!("{}: {statement}: {why}", file.display()));
                }
            }
            let copies = statement.trim_start().get(..4).is_some_and(|w| w.eq_ignore_ascii_case("copy"));
            if !copies && client.batch_execute(&statement).await.is_err() && client.is_closed() {
                break;
            }
        }
    }
    println!("{all} statements, {read_only} called read-only, {} refused as writes", wrong.len());
    assert!(read_only > 1000 && wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Statements of a script for psql, without its own commands and without data.
fn statements(script: &str) -> Vec<String> {
    let mut data = false;
    let lines = script.lines().filter(|line| {
        let keep = !data && !line.starts_with('\\');
        if *line == "\\." {
            data = false;
        } else if line.to_ascii_lowercase().contains("from stdin") {
            data = true;
        }
        keep
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    text.split(";\n").map(str::trim).filter(|s| !s.is_empty()).map(|s| format!("{s};")).collect()
}

/// Names in a catalogue are looked up as of now, and under locks: whoever changes or locks definitions while one is read
/// must not end the sessions of everybody else.
#[tokio::test]
async fn definitions_that_are_locked_or_dropped_do_not_stop_the_reading() -> Result<()> {
    let bare = Bare::start()?;
    bare.database("corpus", &fixture("schema.sql"))?;
    let client = connect(&bare, "corpus").await?;
    let migration = connect(&bare, "corpus").await?;
    let through = "select name from names";
    let unknown = |catalogue: &Catalogue, text: &str| {
        let analysis = analyse(text, catalogue, &SearchPath::default());
        analysis.statements.iter().any(|statement| statement.unknown.is_some() && statement.stale)
    };
    let known = catalogue(&client).await?;
    assert!(!unknown(&known, through), "a view that can be read is understood");

    migration.batch_execute("begin; lock table customers").await.context("LOCK")?;
    let locked = catalogue(&client).await?;
    assert!(unknown(&locked, through), "what can't be read is not understood, and asked for again");
    assert!(!unknown(&locked, "select id from orders"), "the rest is known");
    migration.batch_execute("rollback").await.context("ROLLBACK")?;

    let churn = tokio::spawn(async move {
        let made = "create view gone as select * from orders; \
            create function gone(t text) returns text language sql as 'select t'; \
            create rule gone as on insert to audit do also delete from ruled; \
            create trigger gone after insert on audit for each row when (new.what is null) \
                execute function suppress_redundant_updates_trigger(); \
            create type gone_type as (a int); create function gone_too(t gone_type) returns int language sql as 'select 1'";
        let dropped = "drop function gone_too; drop type gone_type; drop trigger gone on audit; drop rule gone on audit; \
            drop function gone(text); drop view gone";
        loop {
            for change in [made, dropped] {
                if migration.batch_execute(change).await.is_err() {
                    return;
                }
            }
        }
    });
    for _ in 0..100 {
        catalogue(&client).await?;
    }
    assert!(!churn.is_finished(), "definitions changed up to the end");
    churn.abort();
    Ok(())
}
