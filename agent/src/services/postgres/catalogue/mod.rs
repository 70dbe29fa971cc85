//! Catalogues of targets: read by a connection of Sluice's own, shared by all sessions.
//!
//! In: a connected `tokio_postgres::Client` to the target's database (as the upstream role, by
//! the same dial as any session). Out: an `Arc<Catalogue>`. The user's bytes never pass here.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_protocol::postgres::sql::{Catalogue, Owner};
use tokio::sync::Mutex;
use tokio_postgres::Client;

mod fetch;

pub use fetch::fetch;

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
    base: Arc<fetch::Base>,
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

    /// The catalogue of `database`, no older than [`MAX_AGE`] and read after `changed` (give `None` unless a
    /// statement was `stale` or changed definitions). A reading that had begun before does not count, although it is
    /// newer than what the caller has: it need not have seen the change.
    ///
    /// `connect` is called when it must be read, and its client is dropped afterwards.
    ///
    /// # Errors
    /// When it must be read and cannot be: the caller refuses what it would have judged.
    pub async fn get<F, Fut, E>(
        &self,
        database: &str,
        owner: &Owner,
        changed: Option<Instant>,
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
            && changed.is_none_or(|changed| kept.read_at >= changed)
        {
            return Ok(Arc::clone(&kept.catalogue));
        }
        let base = kept.as_ref().map(|kept| Arc::clone(&kept.base));
        let read = async {
            // before the first query: what changes while it is read must not count as seen
            let read_at = Instant::now();
            let client = connect()
                .await
                .map_err(|e| CatalogueError::Connect { database: database.to_owned(), why: e.to_string() })?;
            let (rows, base) = fetch::fetch_upon(&client, base)
                .await
                .map_err(|source| CatalogueError::Query { database: database.to_owned(), source })?;
            Ok::<_, CatalogueError>((read_at, rows, base))
        };
        let (read_at, rows, base) = tokio::time::timeout(TIMEOUT, read)
            .await
            .map_err(|_| CatalogueError::Timeout { database: database.to_owned() })??;
        let (catalogue, missing) = Catalogue::assemble(rows, owner);
        for missing in missing {
            // not fatal: a target may serve databases of which only one has the column
            tracing::warn!(database, %missing, "a classed column does not exist");
        }
        let catalogue = Arc::new(catalogue);
        *kept = Some(Kept { catalogue: Arc::clone(&catalogue), read_at, base });
        Ok(catalogue)
    }

    /// Forgets what was read (the configuration of the target changed).
    pub fn clear(&self) {
        self.by_database.lock().clear();
    }
}
