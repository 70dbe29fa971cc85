//! Samples the tables of a database with the detectors, for `sluice classify`.
//!
//! Enters: a connection of Sluice's own to the place of a session, and what is known of its definitions. Leaves: counts
//! by table, column and family. Must hold: no value leaves this room; nothing is written at the target, and no statement
//! runs there for longer than its time; a table that can't be read is said so and ends nothing; memory is that of one row.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use sluice_api::admin::{ClassifiedColumn, ClassifiedTable, Recognised};
use sluice_protocol::postgres::sql::{Catalogue, ColumnId, quote_identifier};
use tokio_postgres::{Client, Row};

use crate::masking::{Families, hints, scrub_hinted};

/// The server gives up on a table after this.
const STATEMENT_TIMEOUT: &str = "10s";
/// Characters of a value that are looked at.
const LOOKED_AT: usize = 4096;
/// Tables with so many times the rows that are wanted are sampled by pages, all over the table.
const SPREAD: f64 = 20.0;

/// A partition has the columns of its table, and is sampled with it; what lies elsewhere (foreign tables) costs others,
/// and views show what tables have.
const TABLES: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.reltuples::float8, \
    array_agg(a.attnum ORDER BY a.attnum), array_agg(a.attname::text ORDER BY a.attnum), \
    array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't' \
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast' \
    AND ($1::text = '' OR n.nspname = $1::text) GROUP BY 1, 2, 3, 4 ORDER BY 2, 3";

/// A table to look into.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    oid: u32,
    schema: String,
    name: String,
    /// The planner's guess; below 0 where nobody has counted yet.
    rows: f64,
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
struct Column {
    attnum: i16,
    name: String,
    type_name: String,
}

/// The tables of a database, or of one of its schemas.
///
/// # Errors
/// As the server or the connection has it.
pub(crate) async fn tables(client: &Client, schema: &str) -> Result<Vec<Table>, String> {
    let listed = async {
        client.batch_execute("SET search_path = pg_catalog").await?;
        client.query(TABLES, &[&schema]).await?.iter().map(table).collect::<Result<Vec<_>, _>>()
    };
    listed.await.map_err(|error: tokio_postgres::Error| words(&error))
}

fn table(row: &Row) -> Result<Table, tokio_postgres::Error> {
    let numbers: Vec<i16> = row.try_get(4)?;
    let names: Vec<String> = row.try_get(5)?;
    let types: Vec<String> = row.try_get(6)?;
    let columns = numbers.into_iter().zip(names).zip(types);
    Ok(Table {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        rows: row.try_get(3)?,
        columns: columns.map(|((attnum, name), type_name)| Column { attnum, name, type_name }).collect(),
    })
}

impl Table {
    /// Its name as statements have it.
    pub(crate) fn relation(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// What is asked of the server for a look at so many rows.
    pub(crate) fn statement(&self, rows: u32) -> String {
        let column = |c: &Column| {
            format!("pg_catalog.left({}::pg_catalog.text, {LOOKED_AT})", quote_identifier(&c.name))
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        let wanted = f64::from(rows);
        let pages = if self.rows > wanted * SPREAD {
            // four times too many, because pages differ
            format!(" TABLESAMPLE SYSTEM ({:.6})", (wanted * 400.0 / self.rows).clamp(0.000_001, 100.0))
        } else {
            String::new()
        };
        format!("SELECT {} FROM {}{pages} LIMIT {rows}", columns.join(", "), self.relation())
    }

    /// Runs that statement and counts what the detectors recognise.
    pub(crate) async fn look(&self, client: &Client, catalogue: &Catalogue, rows: u32) -> ClassifiedTable {
        let mut counts: Vec<Count> = self.columns.iter().map(Count::new).collect();
        let seen = self.sample(client, rows, &mut counts).await;
        // also behind an error: the next table begins anew
        let ended = client.batch_execute("ROLLBACK").await;
        let (rows, failed) = match (seen, ended) {
            (Ok(rows), Ok(())) => (rows, String::new()),
            (Err(error), _) | (Ok(_), Err(error)) => (0, words(&error)),
        };
        ClassifiedTable {
            schema: self.schema.clone(),
            table: self.name.clone(),
            rows,
            columns: self
                .columns
                .iter()
                .zip(counts)
                .map(|(column, count)| count.tell(self.oid, column, catalogue))
                .collect(),
            failed,
            ..ClassifiedTable::default()
        }
    }

    async fn sample(
        &self,
        client: &Client,
        rows: u32,
        counts: &mut [Count],
    ) -> Result<u64, tokio_postgres::Error> {
        client
            .batch_execute(&format!(
                "BEGIN READ ONLY; SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'; \
                 SET LOCAL lock_timeout = '{STATEMENT_TIMEOUT}'; SET LOCAL search_path = pg_catalog"
            ))
            .await?;
        let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
        let stream = client.query_raw(self.statement(rows).as_str(), none).await?;
        futures_util::pin_mut!(stream);
        let mut seen = 0;
        while let Some(row) = stream.try_next().await? {
            seen += 1;
            for (i, count) in counts.iter_mut().enumerate() {
                if let Some(value) = row.try_get::<_, Option<&str>>(i)? {
                    count.add(value);
                }
            }
        }
        Ok(seen)
    }
}

/// What was recognised in one column so far.
struct Count {
    hints: Families,
    values: u64,
    recognised: BTreeMap<&'static str, u64>,
    /// Used again for each value: detectors write stars.
    room: Vec<u8>,
}

impl Count {
    fn new(column: &Column) -> Self {
        Self {
            hints: hints(column.name.as_bytes()),
            values: 0,
            recognised: BTreeMap::new(),
            room: Vec::new(),
        }
    }

    fn add(&mut self, value: &str) {
        self.values += 1;
        self.room.clear();
        self.room.extend_from_slice(value.as_bytes());
        for family in scrub_hinted(&mut self.room, self.hints).names() {
            *self.recognised.entry(family).or_default() += 1;
        }
    }

    fn tell(self, relation: u32, column: &Column, catalogue: &Catalogue) -> ClassifiedColumn {
        let class = catalogue.class(ColumnId { relation, attnum: column.attnum });
        ClassifiedColumn {
            name: column.name.clone(),
            r#type: column.type_name.clone(),
            class: class.unwrap_or_default().to_owned(),
            values: self.values,
            by_name: self.hints.names().map(str::to_owned).collect(),
            recognised: self
                .recognised
                .into_iter()
                .map(|(family, values)| Recognised { family: family.to_owned(), values })
                .collect(),
        }
    }
}

/// By its code alone: the words may quote a value.
fn words(error: &tokio_postgres::Error) -> String {
    match error.code() {
        Some(code) if code.code() == "42501" => {
            "the account of the target may not read it (SQLSTATE 42501)".to_owned()
        }
        Some(code) if code.code() == "57014" => {
            format!("it took longer than {STATEMENT_TIMEOUT} (SQLSTATE 57014)")
        }
        Some(code) => format!("the server says SQLSTATE {}", code.code()),
        None => "the connection failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customers(rows: f64) -> Table {
        let column =
            |attnum, name: &str| Column { attnum, name: name.to_owned(), type_name: "text".to_owned() };
        Table {
            oid: 1,
            schema: "public".to_owned(),
            name: "cust\"omers".to_owned(),
            rows,
            columns: vec![column(1, "id"), column(2, "e mail")],
        }
    }

    #[test]
    fn large_tables_are_sampled_all_over_and_names_stay_names() {
        assert_eq!(
            customers(-1.0).statement(100),
            "SELECT pg_catalog.left(\"id\"::pg_catalog.text, 4096), pg_catalog.left(\"e mail\"::pg_catalog.text, 4096) \
             FROM \"public\".\"cust\"\"omers\" LIMIT 100"
        );
        assert!(customers(1e6).statement(100).contains("TABLESAMPLE SYSTEM (0.040000)"));
        assert!(customers(1e18).statement(1).contains("TABLESAMPLE SYSTEM (0.000001)"));
    }

    #[test]
    fn values_are_counted_by_what_they_are() {
        let mut count = Count::new(&Column { attnum: 1, name: "note".into(), type_name: "text".into() });
        for value in ["alice@example.com", "nothing", "4111 1111 1111 1111 and bob@example.com"] {
            count.add(value);
        }
        assert_eq!(count.values, 3);
        assert_eq!(count.recognised, BTreeMap::from([("card", 1), ("email", 2)]));
    }
}
