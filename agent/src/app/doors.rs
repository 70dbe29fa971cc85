//! Where connections come from: the proxy's ports, and the Unix sockets of services of this host.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sluice_api::common::Process;
use sluice_api::handover::Socket;
use sluice_config::{Mode, Protocol, Target};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::House;
use super::run::{chain, most_connections};
use crate::audit;
use crate::intake::{self, Inbound, NoEntry};
use crate::services::Service as _;
use crate::services::ssh::Ssh;

/// The Unix sockets that are served; closed with the value.
#[derive(Default)]
pub(super) struct UnixDoors(Vec<JoinHandle<()>>);

impl UnixDoors {
    /// From now on these, and no others.
    pub(super) fn replace(&mut self, house: &Arc<House>, sockets: Vec<(Socket, OwnedFd)>) {
        self.close();
        for (socket, descriptor) in sockets {
            let listener = match intake::unix_listener(descriptor) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(%error, path = socket.path, "nobody is answered at this socket");
                    continue;
                }
            };
            let (house, target, path) =
                (Arc::clone(house), Arc::<str>::from(socket.target), Arc::<str>::from(socket.path));
            let serve =
                move |stream| over_unix(Arc::clone(&house), Arc::clone(&target), Arc::clone(&path), stream);
            self.0.push(tokio::spawn(intake::accept(listener, Arc::new(serve))));
        }
    }

    fn close(&mut self) {
        self.0.drain(..).for_each(|door| door.abort());
    }
}

impl Drop for UnixDoors {
    fn drop(&mut self) {
        self.close();
    }
}

/// A connection that the kernel brought here.
pub(super) async fn connection(house: Arc<House>, stream: TcpStream) {
    let Some(_place) = place(&house) else { return turn_away(house, stream).await };
    let inbound = match Inbound::identify(stream, &house.link, house.own_port).await {
        Ok(inbound) => inbound,
        Err(error) => return refused(&house, "", &chain(&error), &[]),
    };
    let Some(target) = house.target_of(&inbound) else {
        let why = format!("no target is configured at {}", inbound.destination);
        return refused(&house, "", &why, &inbound.lineage);
    };
    serve(inbound, target, house).await;
}

/// One that came by a service's Unix socket.
async fn over_unix(house: Arc<House>, name: Arc<str>, path: Arc<str>, stream: UnixStream) {
    let Some(_place) = place(&house) else { return turn_away_over_unix(house, &name, path, stream).await };
    let Some((target, destination)) = service_of(&house, &name, &path) else {
        return refused(&house, &name, "no such service of this host is configured", &[]);
    };
    let inbound = Inbound::over_unix(stream, path, destination, &house.link, house.ticks_per_second).await;
    match inbound {
        Ok(inbound) => serve(inbound, target, house).await,
        // whoever tries whether somebody listens
        Err(NoEntry::Gone) => {}
        Err(error) => refused(&house, &target.name, &chain(&error), &[]),
    }
}

/// There is no room. As far as there is room for that, a client is told in its protocol; and whoever only wants to cancel
/// what his session does is heard.
async fn turn_away(house: Arc<House>, stream: TcpStream) {
    let Ok(_place) = Arc::clone(&house.turned_away).try_acquire_owned() else { return };
    let Ok(inbound) = Inbound::identify(stream, &house.link, house.own_port).await else { return };
    let Some(target) = house.target_of(&inbound) else { return };
    tell_of_no_room(&house, inbound, &target).await;
}

async fn turn_away_over_unix(house: Arc<House>, name: &str, path: Arc<str>, stream: UnixStream) {
    let Ok(_place) = Arc::clone(&house.turned_away).try_acquire_owned() else { return };
    let Some((target, destination)) = service_of(&house, name, &path) else { return };
    let inbound = Inbound::over_unix(stream, path, destination, &house.link, house.ticks_per_second).await;
    if let Ok(inbound) = inbound {
        tell_of_no_room(&house, inbound, &target).await;
    }
}

async fn tell_of_no_room(house: &Arc<House>, inbound: Inbound, target: &Arc<Target>) {
    if target.protocol() == Protocol::Postgres {
        let most = most_connections(&house.settings.load().config);
        let why = format!("Sluice has as many connections as it may have at one time ({most})");
        let hint = "Close sessions that are not needed; the administrator of this host can raise limits.connections.";
        Arc::clone(&house.postgres).turn_away(inbound, target, house, (&why, hint)).await;
    }
}

/// The target of this name, and where the service is whose Unix socket has this path.
fn service_of(house: &House, name: &str, path: &str) -> Option<(Arc<Target>, SocketAddr)> {
    let target = house.settings.load().target(name).cloned()?;
    let destination = service(&target, path)?;
    Some((target, destination))
}

/// Where the service is reached whose Unix socket has this path: PostgreSQL's ends with the port.
fn service(target: &Target, path: &str) -> Option<SocketAddr> {
    let Mode::Ingress { address } = target.mode else { return None };
    let said = path.rsplit('.').next().and_then(|port| port.parse().ok());
    let port = said.filter(|port| target.ports.contains(port)).or_else(|| target.ports.first().copied())?;
    Some(SocketAddr::new(address, port))
}

fn place(house: &House) -> Option<tokio::sync::OwnedSemaphorePermit> {
    let place = Arc::clone(&house.connections).try_acquire_owned();
    place.inspect_err(|_| tracing::warn!("limits.connections is reached: a connection was closed")).ok()
}

fn refused(house: &House, target: &str, why: &str, lineage: &[Process]) {
    tracing::warn!(target, why, "a connection was refused");
    if let Err(error) = house.audit.record_now(&audit::session_refused(target, None, why, lineage)) {
        tracing::error!(%error, "audit");
    }
}

async fn serve(inbound: Inbound, target: Arc<Target>, house: Arc<House>) {
    match target.protocol() {
        Protocol::Postgres => Arc::clone(&house.postgres).serve(inbound, target, house).await,
        Protocol::Ssh => Arc::new(Ssh).serve(inbound, target, house).await,
    }
}
