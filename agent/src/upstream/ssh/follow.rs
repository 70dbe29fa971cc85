//! Before Sluice proves itself to a target, the kernel learns whose session it will be.
use sluice_api::record;
use sluice_config::Truth;
use tokio::net::TcpStream;

use super::SshError;
use crate::intake::link::LoaderLink;

/// Who is to be followed, and how badly that is wanted.
pub struct Follow<'a> {
    /// The way to the loader.
    pub link: &'a LoaderLink,
    /// The session's id.
    pub session: &'a str,
    /// What the target's configuration wants.
    pub truth: Truth,
}

impl Follow<'_> {
    /// Marks whoever serves this connection. The server has answered the key exchange: whoever will serve it has been
    /// started, and nothing of the session runs before we have proved ourselves.
    ///
    /// # Errors
    /// [`SshError::Unseen`] where the target's configuration demands it and the kernel can't tell.
    pub(super) async fn begin(&self, ends: Ends) -> Result<Option<record::Lineage>, SshError> {
        if self.truth == Truth::Off {
            return Ok(None);
        }
        let judged = self.truth == Truth::Judge;
        let followed = self.link.follow(self.session, ends, judged).await;
        let absent = match followed {
            Ok(followed) if followed.processes > 0 => {
                let processes = followed.processes;
                return Ok(Some(record::Lineage {
                    state: "followed".into(),
                    processes,
                    ..Default::default()
                }));
            }
            Ok(followed) => followed.absent,
            Err(error) => error.to_string(),
        };
        if self.truth.is_required() {
            return Err(SshError::Unseen(absent));
        }
        Ok(Some(record::Lineage { state: "absent".into(), message: absent, ..Default::default() }))
    }
}

/// Both ends of a connection to a target.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Ours.
    pub proxy: std::net::SocketAddr,
    /// The target's.
    pub target: std::net::SocketAddr,
}

impl Ends {
    pub(super) fn of(socket: &TcpStream) -> std::io::Result<Self> {
        Ok(Self { proxy: socket.local_addr()?, target: socket.peer_addr()? })
    }
}
