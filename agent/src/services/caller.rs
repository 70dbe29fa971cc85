//! The kernel's word on a connection, and for how long its person has proven who he is: the same for every protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use sluice_api::common::{self, Process};
use sluice_api::record;
use sluice_config::{Mode, Target};
use sluice_policy::Context;

use crate::app::House;
use crate::gate::{EndReason, now_us};
use crate::identity::{self, BoundLogin, Login};
use crate::intake::Peer;

/// Who connected, and where he wants to go.
pub(super) struct Caller {
    pub(super) peer: Peer,
    pub(super) destination: SocketAddr,
    pub(super) lineage: Vec<Process>,
    pub(super) target: Arc<Target>,
    /// Where it came through a session of ours.
    pub(super) via: Option<Via>,
}

/// The session that carries a connection, and whose it is: nobody logs in twice.
#[derive(Clone)]
pub struct Via {
    /// Its person's.
    pub login: Login,
    /// The same, where it is bound to a kernel session.
    pub bound: Option<Arc<BoundLogin>>,
    /// Its number.
    pub session: String,
}

impl Caller {
    /// Where the service is: what was asked for, or the loopback side of a service of this host.
    pub(super) fn dial(&self) -> SocketAddr {
        match self.target.mode {
            Mode::Egress => self.destination,
            Mode::Ingress { address } => SocketAddr::new(address, self.destination.port()),
        }
    }

    /// The login of the session that carries the connection, else of the caller's own kernel session.
    pub(super) fn logged_in(&self, house: &House) -> Option<(Login, Option<Arc<BoundLogin>>)> {
        if let Some(via) = &self.via {
            return Some((via.login.clone(), via.bound.clone()));
        }
        let bound = house.bindings.find(&self.lineage)?;
        Some((bound.login.clone(), Some(bound)))
    }

    /// The beginning of a recording. `attributes` are the protocol's own.
    pub(super) fn opened(
        &self,
        login: &Login,
        protocol: &str,
        attributes: &[(&str, &str)],
        house: &House,
    ) -> record::Opened {
        let via = self.via.iter().map(|via| ("via", via.session.as_str()));
        let attributes = attributes.iter().copied().chain(via);
        record::Opened {
            session: String::new(),
            principal: Some(identity::message(&login.principal)),
            origin: Some(self.origin()),
            lineage: self.lineage.clone(),
            target: self.target.name.clone(),
            protocol: protocol.to_owned(),
            address: self.destination.ip().to_string(),
            port: u32::from(self.destination.port()),
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            authenticated_by: login.how.to_owned(),
            policy_digest: house.gate.policy_digest(),
        }
    }

    /// What policies may look at. `how` he was known, and what his client says that it is.
    pub(super) fn context(&self, how: &str, application: &str) -> Context {
        let process = self.lineage.first();
        Context {
            source: self.source(),
            uid: match &self.peer {
                Peer::Local(origin) | Peer::Unix(origin, _) => origin.uid,
                Peer::Remote(_) => u32::MAX,
            },
            tty: process.map(|p| p.tty.clone()).unwrap_or_default(),
            exe: process.map(|p| p.exe.clone()).unwrap_or_default(),
            authenticated_by: how.to_owned(),
            now_s: now_us() / 1_000_000,
            application: application.to_owned(),
        }
    }

    /// The address of a stranger.
    fn source(&self) -> String {
        match &self.peer {
            Peer::Local(_) | Peer::Unix(..) => String::new(),
            Peer::Remote(source) => source.ip().to_string(),
        }
    }

    /// As it stands in recordings and events.
    pub(super) fn origin(&self) -> common::Origin {
        crate::intake::origin_message(&self.peer, self.destination)
    }
}

/// Until when a login holds.
pub(super) struct Lives {
    pub(super) expires_at: SystemTime,
    /// It is bound to the caller's session and ends with it.
    pub(super) bound: Option<Arc<BoundLogin>>,
}

impl Lives {
    /// A session does not outlive its login.
    pub(super) async fn watch(self, house: Arc<House>, session: String) {
        let why = match &self.bound {
            Some(bound) => bound.ended().await,
            None => {
                let left = self.expires_at.duration_since(SystemTime::now()).unwrap_or_default();
                tokio::time::sleep(left).await;
                "expired"
            }
        };
        let reason = EndReason::LoginEnded(why.to_owned());
        house.gate.end_sessions(&reason, |facts, _| facts.session == session);
    }
}
