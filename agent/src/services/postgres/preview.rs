//! What an approver is shown beside a statement that waits: the plan, and how many rows it would touch now.
//!
//! Enters: a text that was understood, and the search_path that it will run under. Leaves: lines for people. Must hold:
//! nothing is changed by asking: a transaction that can only read, on a connection of its own, with a time limit; what
//! can't be told is said so, and delays no decision; no value of a row is shown, and so no message of the server either.

use std::error::Error;
use std::time::Duration;

use bytes::BytesMut;
use sluice_protocol::postgres::sql::{Effects, SearchPath, Statement, count_of, quote_identifier};
use tokio_postgres::Client;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use super::parameter::{self, Parameter};

/// The server gives up after this.
const STATEMENT_TIMEOUT: &str = "2s";
/// And we after this.
const PATIENCE: Duration = Duration::from_secs(8);
/// Lines of a plan.
const MOST_LINES: usize = 30;

/// What is asked of the server.
#[derive(Clone, Debug)]
pub struct Questions {
    explain: String,
    count: Option<String>,
    path: String,
    parameters: Vec<Parameter>,
    types: Vec<Type>,
}

/// What a statement is run with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    /// As people are shown them.
    pub(super) parameters: &'a [String],
    /// Type OIDs as far as the client has said them; 0 is none.
    pub(super) types: &'a [u32],
}

impl Questions {
    /// For a statement that can be tried without doing anything; `None` for all others.
    pub(super) fn of(text: &str, statement: &Statement, given: Given<'_>, path: &SearchPath) -> Option<Self> {
        let harmless = [Effects::UNKNOWN, Effects::FILE, Effects::ADMIN]
            .iter()
            .all(|worse| !statement.effects.contains(*worse))
            && statement.effects.contains(Effects::WRITE)
            && statement.functions.is_empty();
        // a type of the database's own could not be named here, and its input is a function of somebody's
        let types =
            given.types.iter().map(|oid| if *oid == 0 { Some(Type::UNKNOWN) } else { Type::from_oid(*oid) });
        let types = types.collect::<Option<Vec<Type>>>()?;
        harmless.then(|| Self {
            parameters: given.parameters.iter().map(|shown| parameter::read(shown)).collect(),
            types,
            explain: format!("EXPLAIN {text}"),
            count: count_of(text),
            path: path.schemas().map(quote_identifier).collect::<Vec<_>>().join(", "),
        })
    }
}

/// Asks. Never fails: what went wrong is part of what is shown.
pub(super) async fn preview(
    connect: impl Future<Output = Result<Client, String>>,
    questions: Questions,
) -> String {
    let asked = async {
        let client = connect.await?;
        answers(&client, &questions).await.map_err(|error| database_says(&error))
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(shown)) => shown,
        Ok(Err(why)) => format!("it could not be tried: {why}"),
        Err(_) => "it could not be tried in time".to_owned(),
    }
}

async fn answers(client: &Client, questions: &Questions) -> Result<String, tokio_postgres::Error> {
    client
        .batch_execute(&format!(
            "BEGIN READ ONLY; SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'; \
             SET LOCAL lock_timeout = '{STATEMENT_TIMEOUT}'; SET LOCAL search_path = {}",
            questions.path
        ))
        .await?;
    // first, because all parameters have their place in it
    let explain = client.prepare_typed(&questions.explain, &questions.types).await?;
    let parameters = || questions.parameters.iter().map(|parameter| parameter as &(dyn ToSql + Sync));
    let mut lines = Vec::new();
    if let Some(count) = &questions.count {
        // a savepoint, so that a count that takes too long does not cost the plan
        client.batch_execute("SAVEPOINT counting").await?;
        lines.push(match counted(client, count, explain.params(), parameters().collect()).await {
            Ok(1) => "touches 1 row now".to_owned(),
            Ok(rows) => format!("touches {rows} rows now"),
            Err(error) => {
                client.batch_execute("ROLLBACK TO counting").await?;
                format!("its rows could not be counted: {}", database_says(&error))
            }
        });
    }
    let plan = client.query(&explain, &parameters().collect::<Vec<_>>()).await?;
    lines.extend(plan.iter().take(MOST_LINES).filter_map(|row| row.try_get::<_, String>(0).ok()));
    if plan.len() > MOST_LINES {
        lines.push(format!("… and {} lines more", plan.len() - MOST_LINES));
    }
    client.batch_execute("ROLLBACK").await?;
    Ok(lines.join("\n"))
}

async fn counted(
    client: &Client,
    question: &str,
    types: &[Type],
    parameters: Vec<&(dyn ToSql + Sync)>,
) -> Result<i64, tokio_postgres::Error> {
    let question = client.prepare_typed(question, types).await?;
    client.query_one(&question, &parameters).await?.try_get(0)
}

impl ToSql for Parameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(value) = &self.value else { return Ok(IsNull::Yes) };
        out.extend_from_slice(value);
        Ok(IsNull::No)
    }

    /// The bytes are the client's own; that they fit the type is for the server to find.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        if self.binary { Format::Binary } else { Format::Text }
    }

    to_sql_checked!();
}

/// By its code alone: the words may quote a value that whoever approves must not see.
fn database_says(error: &tokio_postgres::Error) -> String {
    match error.code() {
        Some(code) => format!("the server says SQLSTATE {}", code.code()),
        None => "the connection failed".to_owned(),
    }
}
