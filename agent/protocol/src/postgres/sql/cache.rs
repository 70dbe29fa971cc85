//! Verdicts that were found before.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, RwLock};

use super::skeleton::skeleton;
use super::{Analysis, Catalogue, SearchPath, analyse};

/// Parts of the cache, each under its own lock.
const SHARDS: usize = 16;
/// Longer texts are analysed each time: what many clients send often is short.
const MAX_TEXT: usize = 8192;

type Shard = RwLock<HashMap<Box<[u8]>, Arc<Analysis>>>;

/// Bounded cache of analyses, shared by sessions. Found by the generation of the catalogue, the search_path and the
/// text: without the values of its literals where the verdict does not depend on them, else with them.
///
/// The spans of an analysis that was found without literals are those of another text; such a text holds a single
/// statement, which is the whole of it.
#[derive(Debug)]
pub struct VerdictCache {
    shards: Vec<Shard>,
    /// Of a shard; a full one is emptied, since what is used comes back at once.
    most: usize,
    hasher: RandomState,
}

impl Default for VerdictCache {
    fn default() -> Self {
        Self::new(1024)
    }
}

/// Reused buffer of one session.
#[derive(Debug, Default)]
pub struct CacheKey {
    bytes: Vec<u8>,
}

/// What follows the generation and the path in a key.
#[derive(Clone, Copy)]
enum By {
    Text = 0,
    Skeleton = 1,
}

impl CacheKey {
    fn begin(&mut self, by: By, catalogue: &Catalogue, path: &SearchPath) {
        self.bytes.clear();
        self.bytes.push(by as u8);
        self.bytes.extend_from_slice(&catalogue.generation().to_ne_bytes());
        self.bytes.extend_from_slice(&path.id().to_ne_bytes());
    }
}

impl VerdictCache {
    /// Keeps at most about `entries` analyses.
    pub fn new(entries: usize) -> VerdictCache {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        VerdictCache { shards, most: entries.div_ceil(SHARDS).max(1), hasher: RandomState::new() }
    }

    /// The analysis of `text`, found again or made.
    pub fn analyse(
        &self,
        text: &str,
        catalogue: &Catalogue,
        path: &SearchPath,
        key: &mut CacheKey,
    ) -> Arc<Analysis> {
        if text.len() > MAX_TEXT {
            return Arc::new(analyse(text, catalogue, path));
        }
        key.begin(By::Skeleton, catalogue, path);
        let bare = skeleton(text, &mut key.bytes);
        if bare && let Some(found) = self.find(&key.bytes) {
            return found;
        }
        let by_skeleton = bare.then(|| key.bytes.clone());
        key.begin(By::Text, catalogue, path);
        key.bytes.extend_from_slice(text.as_bytes());
        if let Some(found) = self.find(&key.bytes) {
            return found;
        }
        let made = Arc::new(analyse(text, catalogue, path));
        match by_skeleton {
            Some(bytes) if is_literal_free(&made) => self.keep(&bytes, &made),
            _ => self.keep(&key.bytes, &made),
        }
        made
    }

    fn shard(&self, key: &[u8]) -> Option<&Shard> {
        let hash = self.hasher.hash_one(key);
        self.shards.get((hash >> 32) as usize % SHARDS)
    }

    // A poisoned lock is a miss: somebody panicked while he held it, and nothing of what is kept is needed.
    fn find(&self, key: &[u8]) -> Option<Arc<Analysis>> {
        self.shard(key)?.read().ok()?.get(key).cloned()
    }

    fn keep(&self, key: &[u8], analysis: &Arc<Analysis>) {
        let Some(Ok(mut shard)) = self.shard(key).map(RwLock::write) else { return };
        if shard.len() >= self.most {
            shard.clear();
        }
        shard.insert(key.into(), Arc::clone(analysis));
    }
}

/// Whether it would be the same for other literals: a single statement that was understood.
fn is_literal_free(analysis: &Analysis) -> bool {
    matches!(analysis.statements.as_slice(), [one] if one.literal_free && one.unknown.is_none() && !one.stale)
}
