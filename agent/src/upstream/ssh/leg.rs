//! What russh asks and tells about the target's side.
//!
//! Channels that a target opens by itself are refused, but for those that a permitted request has asked for: they go to
//! whoever carries the session, who knows which those are.
use std::sync::Arc;

use russh::client::{ChannelOpenHandle, Handler, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelId, ChannelOpenFailure, Names};
use tokio::sync::mpsc;

use super::SshError;
use super::host::Expected;
use crate::ssh::Flows;

/// A channel that the target wants to open.
pub struct Incoming {
    /// What for.
    pub kind: IncomingKind,
    /// The channel, if it is accepted.
    pub channel: Channel<Msg>,
    /// Dropping it refuses.
    pub reply: ChannelOpenHandle,
}

/// What a target opens a channel for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncomingKind {
    /// Somebody has connected to a port that the target listens at for us.
    Tcp {
        /// Where it listens.
        address: String,
        /// At which port.
        port: u32,
        /// Who connected.
        originator: (String, u32),
    },
    /// The same, for a socket there.
    Socket(String),
    /// A program there asks the person's agent.
    Agent,
    /// A program there wants to draw on the person's screen.
    X11 {
        /// Where it connected from.
        originator: (String, u32),
    },
}

/// The client's side of russh.
pub struct Leg {
    pub(super) expected: Expected,
    pub(super) flows: Arc<Flows>,
    pub(super) incoming: mpsc::Sender<Incoming>,
}

impl Leg {
    async fn arrived(&self, channel: ChannelId, bytes: usize) -> Result<(), SshError> {
        self.flows.arrived(channel.number(), bytes).await.map_err(|_| russh::Error::Inconsistent.into())
    }

    async fn offer(&self, kind: IncomingKind, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        // nobody takes it: dropped, which refuses it
        let _ = self.incoming.send(Incoming { kind, channel, reply }).await;
    }
}

impl Handler for Leg {
    type Error = SshError;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, SshError> {
        self.expected.check(shown).map(|()| true)
    }

    async fn kex_done(&mut self, _: Option<&[u8]>, names: &Names, _: &mut Session) -> Result<(), SshError> {
        crate::ssh::check_strict(names).map_err(SshError::Terrapin)
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Result<(), SshError> {
        self.arrived(channel, data.len()).await
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _: u32,
        data: &[u8],
        _: &mut Session,
    ) -> Result<(), SshError> {
        self.arrived(channel, data.len()).await
    }

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        self.flows.window()
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        connected_address: &str,
        connected_port: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), SshError> {
        let kind = IncomingKind::Tcp {
            address: connected_address.to_owned(),
            port: connected_port,
            originator: (originator_address.to_owned(), originator_port),
        };
        self.offer(kind, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), SshError> {
        self.offer(IncomingKind::Socket(socket_path.to_owned()), channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), SshError> {
        self.offer(IncomingKind::Agent, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        channel: Channel<Msg>,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), SshError> {
        let kind = IncomingKind::X11 { originator: (originator_address.to_owned(), originator_port) };
        self.offer(kind, channel, reply).await;
        Ok(())
    }

    // what no server of ours has a reason to open; russh would accept these by itself

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), SshError> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), SshError> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), SshError> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
}
