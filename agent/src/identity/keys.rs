//! The provider's signing keys, and when they are asked for again.
//!
//! * fresh (an hour): used as they are;
//! * an unknown key id: asked for again at once, but no more often than every ten seconds, so that tokens with
//!   invented ids don't turn this host against the provider;
//! * the provider away: known keys serve until `keys_max_age`, then nobody logs in.

use std::time::{Duration, Instant};

use jsonwebtoken::jwk::Jwk;
use tokio::sync::Mutex;

use super::provider::ProviderError;

const FRESH: Duration = Duration::from_secs(3600);
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Kept {
    keys: Vec<Jwk>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    failure: Option<ProviderError>,
}

pub(super) struct Keys {
    kept: Mutex<Kept>,
    max_age: Duration,
}

impl Keys {
    pub(super) fn new(max_age: Duration) -> Self {
        Self { kept: Mutex::default(), max_age }
    }

    /// Keys with this id, or all where a token names none. Empty: the provider has no such key.
    pub(super) async fn find<F, W>(&self, id: Option<&str>, fetch: F) -> Result<Vec<Jwk>, ProviderError>
    where
        F: FnOnce() -> W,
        W: Future<Output = Result<Vec<Jwk>, ProviderError>>,
    {
        let mut kept = self.kept.lock().await;
        let found = kept.with_id(id);
        let fresh = kept.fetched.is_some_and(|at| at.elapsed() < FRESH);
        let paused = kept.tried.is_some_and(|at| at.elapsed() < PAUSE);
        if fresh && (!found.is_empty() || paused) {
            return Ok(found);
        }
        if !paused {
            kept.tried = Some(Instant::now());
            match fetch().await {
                Ok(keys) => {
                    kept.keys = keys;
                    kept.fetched = Some(Instant::now());
                    kept.failure = None;
                    return Ok(kept.with_id(id));
                }
                Err(error) => {
                    tracing::warn!(%error, "the provider's keys could not be fetched");
                    kept.failure = Some(error);
                }
            }
        }
        if kept.fetched.is_some_and(|at| at.elapsed() < self.max_age) && !found.is_empty() {
            return Ok(found);
        }
        match &kept.failure {
            Some(error) => Err(error.clone()),
            None => Ok(found),
        }
    }
}

impl Kept {
    fn with_id(&self, id: Option<&str>) -> Vec<Jwk> {
        let fits = |key: &&Jwk| id.is_none_or(|id| key.common.key_id.as_deref() == Some(id));
        self.keys.iter().filter(fits).cloned().collect()
    }
}
