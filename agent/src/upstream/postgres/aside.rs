//! Connections of Sluice's own to the place of a session: for reading the catalogue. The user's bytes never go there.
use std::sync::Arc;

use tokio::time::timeout;
use tokio_postgres::{Client, NoTls, config::SslMode};

use super::connect::Route;
use crate::upstream::{SESSION_PATIENCE, Secret, UpstreamError};

/// What the target sees as `application_name`.
const APPLICATION: &str = "sluice";

/// The way back to a session's target and database, under the permit that opened it. Clones are the same way.
#[derive(Clone)]
pub struct Aside {
    route: Arc<Route>,
    secret: Option<Arc<Secret>>,
    database: String,
}

impl Aside {
    pub(super) fn new(route: Arc<Route>, secret: Option<Arc<Secret>>, database: String) -> Self {
        Self { route, secret, database }
    }

    /// A connection by the same TLS and with the same credential; it ends when the client is dropped.
    ///
    /// # Errors
    /// [`UpstreamError`] as for a session.
    pub async fn client(&self) -> Result<Client, UpstreamError> {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.route.upstream.user)
            .dbname(&self.database)
            .application_name(APPLICATION)
            // TLS is around the stream already
            .ssl_mode(SslMode::Disable);
        if let Some(secret) = &self.secret {
            config.password(secret.expose());
        }
        let connect = async {
            let stream = self.route.secure(self.route.dial().await?).await?;
            let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(refused)?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::warn!(%error, "the connection for the catalogue broke");
                }
            });
            Ok(client)
        };
        timeout(SESSION_PATIENCE, connect).await.map_err(|_| UpstreamError::Late)?
    }
}

fn refused(error: tokio_postgres::Error) -> UpstreamError {
    match error.code() {
        Some(code) => UpstreamError::Refused { code: code.code().to_owned(), text: error.to_string() },
        None => UpstreamError::Protocol(error.to_string()),
    }
}
