//! The PostgreSQL service: `door` establishes a session, [`relay`] carries it, [`catalogue`] knows the target.
pub mod catalogue;
pub mod relay;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_protocol::postgres::sql::{Catalogue, VerdictCache};
use tokio::sync::Notify;

use self::catalogue::CatalogueError;
use crate::gate::GatedSession;
use crate::masking::MaskKey;
use crate::tls::Stream;

/// Reads the catalogue of the session's database; the argument is the generation that is too old, `None` when any
/// recent one will do.
pub type ReadCatalogue = dyn Fn(Option<u64>) -> Pin<Box<dyn Future<Output = Result<Arc<Catalogue>, CatalogueError>> + Send>>
    + Send
    + Sync;

/// A session on both legs, each past its ReadyForQuery: what the door hands to the relay. `R` is its recording.
pub struct Established<R> {
    /// The client's leg.
    pub client: Stream,
    /// Bytes that the client sent behind what the door has read.
    pub client_ahead: Vec<u8>,
    /// The target's leg.
    pub server: Stream,
    /// Bytes that the target sent behind its ReadyForQuery.
    pub server_ahead: Vec<u8>,
    /// The session at the gate.
    pub gated: GatedSession,
    /// Its recording, with everything of the start in it.
    pub recording: R,
    /// Definitions of the database, as of the start.
    pub catalogue: Arc<Catalogue>,
    /// Reads them again.
    pub read_catalogue: Arc<ReadCatalogue>,
    /// Verdicts that were found before, of all sessions.
    pub verdicts: Arc<VerdictCache>,
    /// Key of the joinable mask.
    pub mask_key: MaskKey,
    /// `SHOW search_path` at the target, as of the start.
    pub search_path: String,
    /// What the cancel listener knows this session by.
    pub cancel: Arc<Cancel>,
}

/// What a CancelRequest for a session leads to: a statement that waits for approval is withdrawn; everything else
/// is the target's affair.
pub struct Cancel {
    holds: AtomicBool,
    withdrawn: Notify,
    upstream: Box<dyn Fn() + Send + Sync>,
}

impl Cancel {
    /// `upstream` sends the session's CancelRequest to the target, without blocking.
    pub fn new(upstream: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            holds: AtomicBool::new(false),
            withdrawn: Notify::new(),
            upstream: Box::new(upstream),
        })
    }

    /// For the listener, once the key has proven to be that of this session.
    pub fn request(&self) {
        if self.holds.load(Ordering::Acquire) {
            self.withdrawn.notify_one();
        } else {
            (self.upstream)();
        }
    }

    /// From now on a request withdraws.
    pub(in crate::services::postgres) fn hold(&self) {
        self.holds.store(true, Ordering::Release);
    }

    /// From now on a request goes to the target again.
    pub(in crate::services::postgres) fn release(&self) {
        self.holds.store(false, Ordering::Release);
    }

    /// Waits for a request while something is held. Cancel safe.
    pub(in crate::services::postgres) async fn withdrawn(&self) {
        self.withdrawn.notified().await;
    }
}
