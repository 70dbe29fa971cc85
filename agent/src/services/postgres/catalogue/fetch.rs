//! One reading of a catalogue.
//!
//! In: a connection to the database. Out: the rows that a catalogue is made of. Must hold: which objects there are and
//! how they belong together is that of one snapshot; no definition that somebody changes, drops or locks meanwhile ends
//! the reading, and one that can't be read is there without its text, so that what needs it is not understood.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_protocol::postgres::sql::{
    CallRow, CastRow, ColumnRow, ForeignKeyRow, FunctionRow, InheritRow, OperatorRow, QUERIES, RelationRow,
    Rows, TriggerRow, TypeRow, UniqueRow,
};
use tokio_postgres::types::{Oid, ToSql};
use tokio_postgres::{Client, Row};

use super::MAX_AGE;

/// How long it is looked for which definitions can't be printed.
const PATIENCE: Duration = Duration::from_secs(5);
/// `FirstNormalObjectId`: lower ones came with the server.
const FIRST_NORMAL_OID: Oid = 16384;

/// What came with the server: 3,000 functions and as many columns, that change with the server's version. Read again
/// with each catalogue that is read because of its age.
pub(super) struct Base {
    read_at: Instant,
    rows: Ranged,
}

/// Rows of a range of oids.
struct Ranged {
    /// Each with its rules.
    relations: Vec<(Vec<Oid>, RelationRow)>,
    columns: Vec<ColumnRow>,
    functions: Vec<FunctionRow>,
    types: Vec<TypeRow>,
}

impl Ranged {
    async fn read(client: &Client, from: Oid, to: Oid) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            relations: read(client, QUERIES.relations, &[&from, &to], relation).await?,
            columns: read(client, QUERIES.columns, &[&from, &to], column).await?,
            functions: read(client, QUERIES.functions, &[&from, &to], function).await?,
            types: read(client, QUERIES.types, &[&from, &to], type_row).await?,
        })
    }
}

/// Everything, read anew.
///
/// # Errors
/// Those of the server or of a row that is not as expected.
pub async fn fetch(client: &Client) -> Result<Rows, tokio_postgres::Error> {
    fetch_upon(client, None).await.map(|(rows, _)| rows)
}

/// Runs the constant queries in one read-only snapshot, then asks for what the server prints of definitions. What came
/// with the server is taken from `base` where that is young enough.
pub(super) async fn fetch_upon(
    client: &Client,
    base: Option<Arc<Base>>,
) -> Result<(Rows, Arc<Base>), tokio_postgres::Error> {
    client
        .batch_execute("SET search_path = pg_catalog; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let version: i32 = client.query_one(QUERIES.version, &[]).await?.try_get(0)?;
    let base = match base.filter(|base| base.read_at.elapsed() < MAX_AGE) {
        Some(base) => base,
        None => {
            let read_at = Instant::now();
            Arc::new(Base { read_at, rows: Ranged::read(client, 0, FIRST_NORMAL_OID).await? })
        }
    };
    let Ranged { mut relations, mut columns, mut functions, mut types } =
        Ranged::read(client, FIRST_NORMAL_OID, Oid::MAX).await?;
    let mut triggers = read(client, QUERIES.triggers, &[], trigger).await?;
    let inherits = read(client, QUERIES.inherits, &[], inherits).await?;
    let operators = read(client, QUERIES.operators, &[], operator).await?;
    let casts = read(client, QUERIES.casts, &[], cast).await?;
    let foreign_keys = read(client, QUERIES.foreign_keys, &[], foreign_key).await?;
    let unique = read(client, QUERIES.unique, &[], unique).await?;
    let calls = read(client, QUERIES.calls, &[], call).await?;
    client.batch_execute("COMMIT; SET lock_timeout = '100ms'").await?;
    let mut printer = Printer { client, until: Instant::now() + PATIENCE };
    printer.relations(&mut relations).await?;
    printer.triggers(&mut triggers).await?;
    printer.functions(&mut functions).await?;
    client.batch_execute("RESET search_path; RESET lock_timeout").await?;
    relations.extend(base.rows.relations.iter().cloned());
    columns.extend(base.rows.columns.iter().cloned());
    functions.extend(base.rows.functions.iter().cloned());
    types.extend(base.rows.types.iter().cloned());
    let rows = Rows {
        version: u32::try_from(version).unwrap_or(0),
        relations: relations.into_iter().map(|(_, row)| row).collect(),
        columns,
        inherits,
        functions,
        operators,
        types,
        casts,
        triggers: triggers.into_iter().map(|(_, row)| row).collect(),
        foreign_keys,
        unique,
        calls,
    };
    Ok((rows, base))
}

/// Asks what the server prints of definitions.
struct Printer<'c> {
    client: &'c Client,
    /// From then on what fails is not looked for one by one any more.
    until: Instant,
}

impl Printer<'_> {
    async fn relations(&mut self, rows: &mut [(Vec<Oid>, RelationRow)]) -> Result<(), tokio_postgres::Error> {
        let views = rows.iter().filter(|(_, row)| row.definition.is_some()).map(|(_, row)| row.oid).collect();
        let views = self.print(QUERIES.views, views, text).await?;
        let rules = rows.iter().flat_map(|(rules, _)| rules.iter().copied()).collect();
        let rules = self.print(QUERIES.rules, rules, text).await?;
        for (own, row) in rows {
            row.definition = row.definition.take().map(|_| views.get(&row.oid).cloned().unwrap_or_default());
            row.rules = own.iter().map(|rule| rules.get(rule).cloned().unwrap_or_default()).collect();
        }
        Ok(())
    }

    async fn triggers(&mut self, rows: &mut [(Oid, TriggerRow)]) -> Result<(), tokio_postgres::Error> {
        let all = rows.iter().map(|(oid, _)| *oid).collect();
        let mut printed = self.print(QUERIES.fired, all, text).await?;
        for (oid, row) in rows {
            row.definition = printed.remove(oid).unwrap_or_default();
        }
        Ok(())
    }

    async fn functions(&mut self, rows: &mut [FunctionRow]) -> Result<(), tokio_postgres::Error> {
        let all = rows.iter().map(|row| row.oid).collect();
        let mut arguments = self.print(QUERIES.arguments, all, text).await?;
        let all = rows.iter().filter(|row| row.kind != "a").map(|row| row.oid).collect();
        let mut printed = self.print(QUERIES.bodies, all, body).await?;
        for row in rows {
            row.arguments = arguments.remove(&row.oid).unwrap_or_default();
            if row.kind != "a" {
                let (definition, digest) = printed.remove(&row.oid).unwrap_or_default();
                row.definition = definition;
                // never none: that would be the digest of what has none
                row.digest = Some(digest.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Of all in one go. Where one of them can't be printed, because it was dropped since or somebody holds a lock, the
    /// server refuses all: then of each half. What is missing in the answer could not be printed.
    async fn print<T>(
        &mut self,
        query: &str,
        oids: Vec<Oid>,
        value: fn(&Row) -> Result<Option<T>, tokio_postgres::Error>,
    ) -> Result<HashMap<Oid, T>, tokio_postgres::Error> {
        let mut printed = HashMap::with_capacity(oids.len());
        let mut left = vec![oids];
        while let Some(mut oids) = left.pop() {
            if oids.is_empty() {
                continue;
            }
            match self.client.query(query, &[&oids]).await {
                Ok(rows) => {
                    for row in &rows {
                        if let Some(value) = value(row)? {
                            printed.insert(row.try_get(0)?, value);
                        }
                    }
                }
                Err(error) if error.as_db_error().is_none() => return Err(error),
                Err(error) if oids.len() == 1 || Instant::now() > self.until => {
                    tracing::debug!(%error, "the definitions of {} objects can't be printed", oids.len());
                }
                Err(_) => {
                    let second = oids.split_off(oids.len() / 2);
                    left.extend([second, oids]);
                }
            }
        }
        Ok(printed)
    }
}

fn text(row: &Row) -> Result<Option<String>, tokio_postgres::Error> {
    row.try_get(1)
}

/// Definition and digest of a function.
type Body = (Option<String>, Option<String>);

fn body(row: &Row) -> Result<Option<Body>, tokio_postgres::Error> {
    Ok(Some((row.try_get(1)?, row.try_get(2)?)))
}

async fn read<T>(
    client: &Client,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
    row: fn(&Row) -> Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>, tokio_postgres::Error> {
    client.query(query, parameters).await?.iter().map(row).collect()
}

/// With its rules.
fn relation(row: &Row) -> Result<(Vec<Oid>, RelationRow), tokio_postgres::Error> {
    let kind: String = row.try_get(3)?;
    let relation = RelationRow {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        // it has one; its text follows
        definition: matches!(kind.as_str(), "v" | "m").then(String::new),
        kind,
        rules: Vec::new(),
    };
    Ok((row.try_get(4)?, relation))
}

fn column(row: &Row) -> Result<ColumnRow, tokio_postgres::Error> {
    Ok(ColumnRow {
        relation: row.try_get(0)?,
        attnum: row.try_get(1)?,
        name: row.try_get(2)?,
        type_oid: row.try_get(3)?,
        generated: row.try_get(4)?,
        from: row.try_get(5)?,
        words: row.try_get(6)?,
    })
}

fn inherits(row: &Row) -> Result<InheritRow, tokio_postgres::Error> {
    Ok(InheritRow { child: row.try_get(0)?, parent: row.try_get(1)? })
}

fn function(row: &Row) -> Result<FunctionRow, tokio_postgres::Error> {
    Ok(FunctionRow {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        kind: row.try_get(3)?,
        volatility: row.try_get(4)?,
        language: row.try_get(5)?,
        args: row.try_get(6)?,
        defaults: row.try_get(7)?,
        variadic: row.try_get(8)?,
        security_definer: row.try_get(9)?,
        returns_set: row.try_get(10)?,
        returns: row.try_get(11)?,
        out_names: row.try_get(12)?,
        extension: row.try_get(13)?,
        definition: None,
        digest: None,
        arguments: row.try_get::<_, Option<String>>(14)?.unwrap_or_default(),
        supports: row.try_get(15)?,
    })
}

fn operator(row: &Row) -> Result<OperatorRow, tokio_postgres::Error> {
    Ok(OperatorRow { name: row.try_get(0)?, function: row.try_get(1)? })
}

fn type_row(row: &Row) -> Result<TypeRow, tokio_postgres::Error> {
    Ok(TypeRow {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        kind: row.try_get(3)?,
        relation: row.try_get(4)?,
    })
}

fn cast(row: &Row) -> Result<CastRow, tokio_postgres::Error> {
    Ok(CastRow { target: row.try_get(0)?, function: row.try_get(1)? })
}

/// With its oid.
fn trigger(row: &Row) -> Result<(Oid, TriggerRow), tokio_postgres::Error> {
    let trigger = TriggerRow {
        relation: row.try_get(1)?,
        function: row.try_get(2)?,
        kind: row.try_get(3)?,
        definition: String::new(),
    };
    Ok((row.try_get(0)?, trigger))
}

fn foreign_key(row: &Row) -> Result<ForeignKeyRow, tokio_postgres::Error> {
    Ok(ForeignKeyRow {
        child: row.try_get(0)?,
        parent: row.try_get(1)?,
        on_delete: row.try_get(2)?,
        on_update: row.try_get(3)?,
        child_columns: row.try_get(4)?,
        parent_columns: row.try_get(5)?,
    })
}

fn unique(row: &Row) -> Result<UniqueRow, tokio_postgres::Error> {
    Ok(UniqueRow { relation: row.try_get(0)?, attnum: row.try_get(1)? })
}

fn call(row: &Row) -> Result<CallRow, tokio_postgres::Error> {
    Ok(CallRow { relation: row.try_get(0)?, domain: row.try_get(1)?, function: row.try_get(2)? })
}
