//! How far a connection has come, for the task that carries it and for the one that waits for its end.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::services::ssh::relay::Link;

/// Shared by both.
pub(super) struct Progress {
    /// The place among those who have not logged in; `None` once he has.
    waiting: Mutex<Option<OwnedSemaphorePermit>>,
    /// Keys were exchanged, and a login was asked for.
    greeted: AtomicBool,
    link: Mutex<Option<Arc<Link>>>,
    cut: Arc<Notify>,
}

impl Progress {
    pub(super) fn new(waiting: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::new(Some(waiting)),
            greeted: AtomicBool::new(false),
            link: Mutex::default(),
            cut: Arc::default(),
        })
    }

    /// The client wants to log in.
    pub(super) fn greeted(&self) {
        self.greeted.store(true, Ordering::Release);
    }

    pub(super) fn is_greeted(&self) -> bool {
        self.greeted.load(Ordering::Acquire)
    }

    /// Somebody has logged in.
    pub(super) fn known(&self) {
        self.waiting.lock().take();
    }

    pub(super) fn is_known(&self) -> bool {
        self.waiting.lock().is_none()
    }

    /// The session stands.
    pub(super) fn open(&self, link: &Arc<Link>) {
        *self.link.lock() = Some(Arc::clone(link));
    }

    /// The session, to end it.
    pub(super) fn take_link(&self) -> Option<Arc<Link>> {
        self.link.lock().take()
    }

    /// What is told when the connection has to end now, whatever the client does.
    pub(super) fn cutter(&self) -> Arc<Notify> {
        Arc::clone(&self.cut)
    }

    /// Waits for that. Cancel safe.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }
}
