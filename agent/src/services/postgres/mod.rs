//! The PostgreSQL service: [`door`] establishes a session, [`relay`] carries it, [`catalogue`] knows the target.
pub mod catalogue;
pub(crate) mod classify;
mod door;
mod parameter;
mod preview;
pub mod relay;
mod tape;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use sluice_config::{Host, Target};
use sluice_protocol::postgres::sql::{Catalogue, Owner, VerdictCache, Vouched};
use tokio::sync::Notify;

use self::catalogue::{CatalogueError, Catalogues};
use self::door::CancelKeys;
use super::Service;
use crate::app::House;
use crate::gate::GatedSession;
use crate::intake::Inbound;
use crate::masking::MaskKey;
use crate::tls::{Names, Stream};
use crate::upstream::postgres::Aside;

/// Verdicts that are kept, of all targets.
const VERDICTS: usize = 8192;

/// What the sessions of this protocol share.
pub struct Postgres {
    keys: Arc<CancelKeys>,
    verdicts: Arc<VerdictCache>,
    /// By target and what its owner says of it: a reload that changes a class begins anew.
    catalogues: Mutex<HashMap<(String, String), Arc<Catalogues>>>,
}

impl Postgres {
    /// Without a session yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            keys: Arc::default(),
            verdicts: Arc::new(VerdictCache::new(VERDICTS)),
            catalogues: Mutex::default(),
        })
    }

    /// Tells a client that there is no room for its session, and what to do; a cancel request is heard all the same.
    pub async fn turn_away(
        self: Arc<Self>,
        inbound: Inbound,
        target: &Arc<Target>,
        house: &Arc<House>,
        words: (&str, &str),
    ) {
        door::turn_away(&self, inbound, target, house, words).await;
    }

    /// What is known of a database, where any session has been there lately: for `sluice explain`.
    pub async fn known_catalogue(&self, target: &Target, database: &str) -> Option<Arc<Catalogue>> {
        let (catalogues, _) = self.catalogues(target);
        catalogues.known(database).await
    }

    /// What is known of a database, read by way of `aside` where nobody has read it lately.
    pub(crate) async fn catalogue(
        &self,
        target: &Target,
        database: &str,
        aside: &Aside,
    ) -> Result<Arc<Catalogue>, CatalogueError> {
        let (catalogues, owner) = self.catalogues(target);
        catalogues.get(database, &owner, None, || aside.client()).await
    }

    /// Catalogues of a target, and what its owner says of it.
    fn catalogues(&self, target: &Target) -> (Arc<Catalogues>, Arc<Owner>) {
        let owner = target.postgres().map_or_else(Owner::default, |postgres| Owner {
            classes: postgres.classes.clone(),
            vouched: postgres
                .vouched
                .iter()
                .map(|v| Vouched { name: v.name.clone(), sha256: v.sha256.clone() })
                .collect(),
        });
        let mut all = self.catalogues.lock();
        let key = (target.name.clone(), format!("{owner:?}"));
        if !all.contains_key(&key) {
            // what the owner said before is of no use any more
            all.retain(|(name, _), _| *name != target.name);
        }
        (Arc::clone(all.entry(key).or_default()), Arc::new(owner))
    }
}

impl Service for Postgres {
    async fn serve(self: Arc<Self>, inbound: Inbound, target: Arc<Target>, house: Arc<House>) {
        door::enter(self, inbound, target, house).await;
    }
}

/// The names under which clients reach a target: what the certificate of the client's leg says.
pub fn names(target: &Target) -> Names {
    let mut names = Names { target: target.name.clone(), ..Names::default() };
    for host in &target.hosts {
        match host {
            Host::Name(name) => names.dns.push(name.to_ascii_lowercase()),
            Host::Network(network) => names.networks.push((network.network(), network.prefix_len())),
        }
    }
    names
}

/// Reads the catalogue of the session's database; the argument is the moment before which it must not have been read,
/// `None` when any recent one will do.
pub type ReadCatalogue = dyn Fn(Option<Instant>) -> Pin<Box<dyn Future<Output = Result<Arc<Catalogue>, CatalogueError>> + Send>>
    + Send
    + Sync;

/// Tells in words what a statement that waits would do; asked on a connection of its own.
pub type Preview = dyn Fn(preview::Questions) -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync;

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
    /// For whoever has to approve a statement.
    pub preview: Arc<Preview>,
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

    /// Ends what runs at the target, whatever is held beside it.
    pub(in crate::services::postgres) fn stop(&self) {
        (self.upstream)();
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
