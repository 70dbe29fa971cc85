//! Catalogues of targets: read by a connection of Sluice's own, shared by all sessions.
//!
//! In: a connected `tokio_postgres::Client` to the target's database (as the upstream role, by
//! the same dial as any session). Out: an `Arc<Catalogue>`. The user's bytes never pass here.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_protocol::postgres::sql::{
    CallRow, CastRow, Catalogue, ColumnRow, ForeignKeyRow, FunctionRow, InheritRow, OperatorRow, Owner,
    QUERIES, RelationRow, Rows, TriggerRow, TypeRow, UniqueRow,
};
use tokio::sync::Mutex;
use tokio_postgres::{Client, Row};

/// How old a catalogue may be before it is read again although no DDL was seen: other roads into
/// the database (a migration on the server itself) are not seen by this agent.
pub const MAX_AGE: Duration = Duration::from_secs(60);

/// How long reading may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why there is no catalogue. Without one no statement is judged, so no session goes on.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The connection could not be made.
    #[error("failed to connect for the catalogue of {database}: {why}")]
    Connect {
        /// The database.
        database: String,
        /// As the dialler said it, safe to show.
        why: String,
    },
    /// A query failed or a row was not as expected.
    #[error("failed to read the catalogue of {database}")]
    Query {
        /// The database.
        database: String,
        /// The cause.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It took longer than twenty seconds.
    #[error("reading the catalogue of {database} took longer than 20 s")]
    Timeout {
        /// The database.
        database: String,
    },
}

/// A catalogue and when it was read.
#[derive(Clone)]
struct Kept {
    catalogue: Arc<Catalogue>,
    read_at: Instant,
}

/// The catalogues of one target, one for each database. One reader at a time for a database;
/// the others wait for its result.
#[derive(Default)]
pub struct Catalogues {
    by_database: parking_lot::Mutex<HashMap<String, Arc<Mutex<Option<Kept>>>>>,
}

impl Catalogues {
    /// Without any catalogue yet.
    pub fn new() -> Catalogues {
        Catalogues::default()
    }

    /// The catalogue that was read last, however old.
    pub async fn known(&self, database: &str) -> Option<Arc<Catalogue>> {
        let slot = self.by_database.lock().get(database).cloned()?;
        let kept = slot.lock().await;
        kept.as_ref().map(|kept| Arc::clone(&kept.catalogue))
    }

    /// The catalogue of `database`, no older than [`MAX_AGE`] and not the one of generation
    /// `newer_than` (give `None` unless a statement was `stale` or changed definitions).
    ///
    /// `connect` is called when it must be read, and its client is dropped afterwards.
    ///
    /// # Errors
    /// When it must be read and cannot be: the caller refuses what it would have judged.
    pub async fn get<F, Fut, E>(
        &self,
        database: &str,
        owner: &Owner,
        newer_than: Option<u64>,
        connect: F,
    ) -> Result<Arc<Catalogue>, CatalogueError>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Client, E>>,
        E: std::fmt::Display,
    {
        let slot = Arc::clone(self.by_database.lock().entry(database.to_owned()).or_default());
        let mut kept = slot.lock().await;
        if let Some(kept) = kept.as_ref()
            && kept.read_at.elapsed() < MAX_AGE
            && newer_than.is_none_or(|old| kept.catalogue.generation() > old)
        {
            return Ok(Arc::clone(&kept.catalogue));
        }
        let read = async {
            // before the first query: what changes while it is read must not count as seen
            let read_at = Instant::now();
            let client = connect()
                .await
                .map_err(|e| CatalogueError::Connect { database: database.to_owned(), why: e.to_string() })?;
            let rows = fetch(&client)
                .await
                .map_err(|source| CatalogueError::Query { database: database.to_owned(), source })?;
            Ok::<_, CatalogueError>((read_at, rows))
        };
        let (read_at, rows) = tokio::time::timeout(TIMEOUT, read)
            .await
            .map_err(|_| CatalogueError::Timeout { database: database.to_owned() })??;
        let (catalogue, missing) = Catalogue::assemble(rows, owner);
        for missing in missing {
            // not fatal: a target may serve databases of which only one has the column
            tracing::warn!(database, %missing, "a classed column does not exist");
        }
        let catalogue = Arc::new(catalogue);
        *kept = Some(Kept { catalogue: Arc::clone(&catalogue), read_at });
        Ok(catalogue)
    }

    /// Forgets what was read (the configuration of the target changed).
    pub fn clear(&self) {
        self.by_database.lock().clear();
    }
}

/// Runs the constant queries in one read-only snapshot.
///
/// # Errors
/// Those of the server or of a row that is not as expected.
pub async fn fetch(client: &Client) -> Result<Rows, tokio_postgres::Error> {
    client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = pg_catalog")
        .await?;
    let version: i32 = client.query_one(QUERIES.version, &[]).await?.try_get(0)?;
    let rows = Rows {
        version: u32::try_from(version).unwrap_or(0),
        relations: read(client, QUERIES.relations, relation).await?,
        columns: read(client, QUERIES.columns, column).await?,
        inherits: read(client, QUERIES.inherits, inherits).await?,
        functions: read(client, QUERIES.functions, function).await?,
        operators: read(client, QUERIES.operators, operator).await?,
        types: read(client, QUERIES.types, type_row).await?,
        casts: read(client, QUERIES.casts, cast).await?,
        triggers: read(client, QUERIES.triggers, trigger).await?,
        foreign_keys: read(client, QUERIES.foreign_keys, foreign_key).await?,
        unique: read(client, QUERIES.unique, unique).await?,
        calls: read(client, QUERIES.calls, call).await?,
    };
    client.batch_execute("COMMIT").await?;
    Ok(rows)
}

async fn read<T>(
    client: &Client,
    query: &str,
    row: fn(&Row) -> Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>, tokio_postgres::Error> {
    client.query(query, &[]).await?.iter().map(row).collect()
}

fn relation(row: &Row) -> Result<RelationRow, tokio_postgres::Error> {
    Ok(RelationRow {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        kind: row.try_get(3)?,
        definition: row.try_get(4)?,
        rules: row.try_get(5)?,
    })
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
        definition: row.try_get(14)?,
        digest: row.try_get(15)?,
        arguments: row.try_get::<_, Option<String>>(16)?.unwrap_or_default(),
        supports: row.try_get(17)?,
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

fn trigger(row: &Row) -> Result<TriggerRow, tokio_postgres::Error> {
    Ok(TriggerRow {
        relation: row.try_get(0)?,
        function: row.try_get(1)?,
        kind: row.try_get(2)?,
        definition: row.try_get(3)?,
    })
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
