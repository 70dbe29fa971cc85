//! Live proof of each layer: a process in the guarded cgroup goes down every road, and what becomes of it is looked at.
//!
//! Nothing is concluded from a version or from what was attached. The canary's destination is a loopback address that
//! nobody uses; it is led to a listener of the loader's own, so that a probe never meets the proxy.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use sluice_abi::{CANARY, CANARY_ADDR, CANARY_SERVICE, Origin, Protection, seat};

use super::{Guard, maps, records, unregistered};
use crate::sys;

/// Where the canary wants to go.
const GOAL: Ipv4Addr = Ipv4Addr::new(127, 83, 76, 1);
const GOAL_PORT: u16 = 9;
/// Where it tries to sit on the proxy's port.
const SEAT: Ipv4Addr = Ipv4Addr::new(127, 83, 76, 2);
/// Where its own service sits, at the first of these ports that the configuration does not guard.
const SERVICE_PORTS: [u16; 3] = [9, 13, 19];
/// What the service says to whoever reaches it, and what the loader's listener says in its place.
const REACHED: &[u8; 1] = b"S";
const LED_AWAY: &[u8; 1] = b"L";
/// Longer than any of its roads takes.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a probe said of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// As [`sluice_config::Layer`] names it.
    pub(crate) name: &'static str,
    /// `enforced` or `absent`.
    pub(crate) state: &'static str,
    /// What the canary saw, or why the layer is absent.
    pub(crate) proof: String,
}

/// What the canary said, road by road, and whom the listener met.
#[derive(Default)]
struct Report {
    said: BTreeMap<String, String>,
    pid: u32,
    origins: Vec<Origin>,
    /// What arrived of its talk to no target: harmless, SSH.
    heard: Option<[bool; 2]>,
    failure: Option<String>,
}

/// Sends a canary.
pub(super) fn probe(guard: &mut Guard) -> Vec<Layer> {
    let cgroup = guard.cgroup.join(format!("sluice-canary-{}", std::process::id()));
    let mut report = Report::default();
    if let Err(error) = send(guard, &cgroup, &mut report) {
        report.failure = Some(error.to_string());
    }
    let place = maps::single(IpAddr::V4(GOAL), GOAL_PORT);
    // absent where `send` did not come that far
    let _ = guard.forget(place, false);
    if let Some(port) = service_port(guard) {
        let _ = guard.forget_port(port);
    }
    let lsm = guard.lsm.probe(&cgroup);
    remove(&cgroup);
    let mut layers = judge(&report);
    guard.look_at_devices();
    layers.push(lookup(&report, guard.no_lookup()));
    let (mode, ports) = &guard.strangers;
    let knocked = report.said.get("unregistered").map(String::as_str);
    layers.extend(unregistered::layer((*mode, ports.len()), knocked, report.heard));
    layers.push(guard.probe_established());
    layers.push(device(&report, guard.devices.count(), guard.devices.fault.as_deref()));
    layers.push(guard.lineage.probe());
    layers.push(guard.lineage.probe_hold());
    layers.push(lsm);
    layers
}

/// The canary speaks of the loopback device alone; that the others have the program is the loader's own word.
fn device(report: &Report, count: usize, fault: Option<&str>) -> Layer {
    let said = report.said.get("frame").map_or("the canary said nothing of it", String::as_str);
    let (state, proof) = match (said, fault) {
        ("refused", None) => (
            "enforced",
            format!("a canary's frame from a packet socket did not leave; {count} devices guarded"),
        ),
        ("no socket", None) => (
            "enforced",
            format!("nobody makes a packet socket (guard.packet_sockets); {count} devices guarded"),
        ),
        (_, Some(fault)) => ("absent", format!("packet sockets of root are not stopped: {fault}")),
        (said, None) => ("absent", format!("frame: expected `refused`, but saw `{said}`")),
    };
    Layer { name: "device", state, proof }
}

/// A port of the canary's own.
fn service_port(guard: &Guard) -> Option<u16> {
    SERVICE_PORTS.into_iter().find(|port| !guard.ports.iter().any(|(guarded, _)| guarded == port))
}

/// Whether a service's port leads to the proxy's place, also by its own address.
fn lookup(report: &Report, fault: Option<&str>) -> Layer {
    let said = report.said.get("service").map_or("the canary said nothing of it", String::as_str);
    let (state, proof) = match (said, fault) {
        (_, Some(fault)) => ("absent", format!("no port of this host can be guarded: {fault}")),
        ("led away", None) => (
            "enforced",
            "a canary's connect to the port of a listening service met the loader's own listener".to_owned(),
        ),
        (said, None) => ("absent", format!("service: expected `led away`, but saw `{said}`")),
    };
    Layer { name: "lookup", state, proof }
}

/// The canary's own service and the listener in its place.
struct Service {
    port: u16,
    sockets: [(TcpListener, &'static [u8; 1]); 2],
}

impl Service {
    fn start(guard: &mut Guard) -> io::Result<Option<Self>> {
        let Some(port) = service_port(guard).filter(|_| guard.no_lookup().is_none()) else { return Ok(None) };
        let service = TcpListener::bind((Ipv4Addr::from(CANARY_SERVICE), port))?;
        let instead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        for socket in [&service, &instead] {
            socket.set_nonblocking(true)?;
        }
        guard.take_seat(seat::CANARY, instead.as_fd()).map_err(io::Error::other)?;
        guard.set_port(port, Protection { target: u32::MAX, flags: CANARY }).map_err(io::Error::other)?;
        Ok(Some(Self { port, sockets: [(service, REACHED), (instead, LED_AWAY)] }))
    }

    fn answer(&self) {
        for (socket, word) in &self.sockets {
            while let Ok((mut met, _)) = socket.accept() {
                // the canary says what came of it
                let _ = met.write_all(*word);
            }
        }
    }
}

fn send(guard: &mut Guard, cgroup: &Path, report: &mut Report) -> io::Result<()> {
    fs::create_dir_all(cgroup)?;
    guard.ignore(fs::metadata(cgroup)?.ino());
    let listener = TcpListener::bind((Ipv4Addr::from(CANARY_ADDR), guard.port))?;
    listener.set_nonblocking(true)?;
    let place = maps::single(IpAddr::V4(GOAL), GOAL_PORT);
    guard.add(place, CANARY).map_err(io::Error::other)?;
    let service = Service::start(guard)?;
    let mut ear = unregistered::Ear::open()?;
    let mut child = Command::new("/proc/self/exe")
        .arg("canary")
        .arg(cgroup)
        .arg(guard.port.to_string())
        .arg(service.as_ref().map_or(0, |service| service.port).to_string())
        .arg(ear.port()?.to_string())
        .arg(guard.strangers.1.first().unwrap_or(&0).to_string())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    report.pid = child.id();
    let began = Instant::now();
    let ended = loop {
        if let Some(service) = &service {
            service.answer();
        }
        ear.accept();
        match listener.accept() {
            Ok((met, _)) => report.origins.extend(sluice_abi::user::origin(met.as_fd())),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if child.try_wait()?.is_some() {
                    break true;
                }
                if began.elapsed() > PATIENCE {
                    break false;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(e) => return Err(e),
        }
    };
    if !ended {
        child.kill()?;
        child.wait()?;
        return Err(io::Error::other("the canary did not come back in time"));
    }
    report.heard = Some(ear.heard());
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut said)?;
    }
    report.said = said
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(road, what)| (road.to_owned(), what.to_owned()))
        .collect();
    Ok(())
}

/// The kernel lets go of an ended process's cgroup a moment later.
fn remove(cgroup: &Path) {
    for _ in 0..50 {
        match fs::remove_dir(cgroup) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(Duration::from_millis(2)),
            _ => return,
        }
    }
}

fn judge(report: &Report) -> Vec<Layer> {
    let said = |road: &str| match (report.said.get(road), &report.failure) {
        (Some(what), _) => what.clone(),
        (None, Some(failure)) => format!("not tried: {failure}"),
        (None, None) => "the canary said nothing of it".to_owned(),
    };
    let layer = |name, roads: &[(&'static str, &str)], proof: &str| {
        let wrong = roads.iter().find(|(road, wanted)| said(road) != *wanted);
        match wrong {
            None => Layer { name, state: "enforced", proof: proof.to_owned() },
            Some((road, wanted)) => Layer {
                name,
                state: "absent",
                proof: format!("{road}: expected `{wanted}`, but saw `{}`", said(road)),
            },
        }
    };
    let mut origin = layer("origin", &[], "the accepted sockets named the canary and where it wanted to go");
    let right =
        |o: &Origin| (o.tgid, o.port, records::ip(o.addr)) == (report.pid, GOAL_PORT, IpAddr::V4(GOAL));
    if report.origins.len() != 2 || !report.origins.iter().all(right) {
        origin.state = "absent";
        origin.proof = format!(
            "{} of 2 accepted sockets named the canary",
            report.origins.iter().filter(|o| right(o)).count()
        );
    }
    vec![
        layer(
            "connect",
            &[("connect4", "led away"), ("connect6", "led away")],
            "a canary's connect met the loader's own listener, from an IPv4 and an IPv6 socket",
        ),
        layer("bind", &[("bind", "refused")], "a canary was refused the proxy's port"),
        layer("peername", &[("peername", "as asked for")], "getpeername gave the address that was asked for"),
        origin,
        layer(
            "egress",
            &[("raw", "refused"), ("datagram", "refused")],
            "a canary's packets to a protected address did not leave (raw socket, datagram)",
        ),
    ]
}

/// The canary itself: `sluice-loader canary CGROUP PORT SERVICE EAR WELL_KNOWN`. Says what became of it, road by road.
pub(crate) fn child(cgroup: &Path, port: u16, service: u16, (ear, well_known): (u16, u16)) -> io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")?;
    let goal = SocketAddr::from((GOAL, GOAL_PORT));
    let led = |stream: &io::Result<TcpStream>| match stream {
        Ok(_) => "led away".to_owned(),
        Err(error) => error.to_string(),
    };
    let four = TcpStream::connect_timeout(&goal, Duration::from_secs(1));
    println!("connect4={}", led(&four));
    let peer = four.as_ref().ok().and_then(|stream| stream.peer_addr().ok());
    println!("peername={}", if peer == Some(goal) { "as asked for".to_owned() } else { format!("{peer:?}") });
    let mapped = SocketAddr::from((GOAL.to_ipv6_mapped(), GOAL_PORT));
    println!("connect6={}", led(&TcpStream::connect_timeout(&mapped, Duration::from_secs(1))));
    let refused = |outcome: io::Result<()>| match outcome {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => "refused".to_owned(),
        Err(error) => error.to_string(),
        Ok(()) => "went through".to_owned(),
    };
    println!("bind={}", refused(TcpListener::bind((SEAT, port)).map(drop)));
    println!("raw={}", refused(raw()));
    let datagram = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.send_to(b"canary", goal));
    println!("datagram={}", refused(datagram.map(drop)));
    if service != 0 {
        println!("service={}", reach(service).unwrap_or_else(|error| error.to_string()));
    }
    unregistered::knock(ear, well_known);
    // the device's answer to whoever sent what it dropped
    println!(
        "frame={}",
        match frame() {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => "refused".to_owned(),
            // the layer `lsm` was faster
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => "no socket".to_owned(),
            Err(error) => error.to_string(),
            Ok(()) => "went through".to_owned(),
        }
    );
    Ok(())
}

/// Who answers at the port of the canary's service.
fn reach(port: u16) -> io::Result<String> {
    let at = SocketAddr::from((CANARY_SERVICE, port));
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut word = [0; 1];
    stream.read_exact(&mut word)?;
    Ok(match &word {
        LED_AWAY => "led away".to_owned(),
        REACHED => "the service answered".to_owned(),
        _ => "somebody else answered".to_owned(),
    })
}

/// A TCP segment without a TCP socket.
fn raw() -> io::Result<()> {
    let mut segment = [0u8; 20];
    segment[2..4].copy_from_slice(&GOAL_PORT.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = 2;
    sys::send_raw(libc::IPPROTO_TCP, &segment, GOAL)
}

/// The same as a frame, on the loopback device.
fn frame() -> io::Result<()> {
    let mut frame = [0u8; 54];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    // an IPv4 header of twenty bytes, forty in all, TCP
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6]);
    frame[26..30].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    frame[30..34].copy_from_slice(&GOAL.octets());
    frame[36..38].copy_from_slice(&GOAL_PORT.to_be_bytes());
    frame[46..48].copy_from_slice(&[5 << 4, 2]);
    sys::send_frame(nix::net::if_::if_nametoindex("lo")?, &frame)
}

impl Guard {
    /// What happens in this cgroup is a canary's doing and no event.
    fn ignore(&mut self, cgroup: u64) {
        if self.canaries.len() >= 16 {
            self.canaries.remove(0);
        }
        self.canaries.push(cgroup);
    }
}
