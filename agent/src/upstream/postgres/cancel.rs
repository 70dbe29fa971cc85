//! Interrupts what a server does for a session: a CancelRequest on a connection of its own.
use std::{sync::Arc, time::Duration};

use sluice_protocol::postgres::wire::write;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use zeroize::Zeroizing;

use super::connect::Route;
use crate::upstream::UpstreamError;

/// A server that does not take the request by then is not going to.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server's key of one session, and the way back to it. Clones name the same session.
#[derive(Clone)]
pub struct UpstreamCancel(Arc<Key>);

struct Key {
    route: Arc<Route>,
    process: u32,
    // Whoever has it can interrupt the session.
    key: Zeroizing<Vec<u8>>,
}

impl UpstreamCancel {
    pub(super) fn new(route: Arc<Route>, process: u32, key: Vec<u8>) -> Self {
        Self(Arc::new(Key { route, process, key: Zeroizing::new(key) }))
    }

    /// The process id that the server gave for this session; 0 where it gave none.
    pub fn process(&self) -> u32 {
        self.0.process
    }

    /// Sends the request, by the same TLS as the session's. Like PostgreSQL, success only says that the server got
    /// it: whether something was running is not told.
    ///
    /// # Errors
    /// [`UpstreamError`] when the server could not be reached that way.
    pub async fn send(&self) -> Result<(), UpstreamError> {
        if self.0.key.is_empty() {
            return Ok(());
        }
        timeout(PATIENCE, self.request()).await.map_err(|_| UpstreamError::Late)?
    }

    async fn request(&self) -> Result<(), UpstreamError> {
        let route = &self.0.route;
        let mut stream = route.secure(route.dial().await?).await?;
        let mut out = Zeroizing::new(Vec::with_capacity(64));
        write::cancel_request(self.0.process, &self.0.key, &mut out);
        stream.write_all(&out).await.map_err(UpstreamError::Closed)?;
        stream.flush().await.map_err(UpstreamError::Closed)?;
        // The server closes when it has done it: only then is the next statement safe from this request.
        let _ = stream.read(&mut [0; 1]).await;
        Ok(())
    }
}
