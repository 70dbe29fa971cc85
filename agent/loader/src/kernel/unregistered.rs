//! Destinations that no target names: the tables behind `guard.unregistered`, and the layer's proof.
//!
//! What must hold: a port that is refused stays so across loaders, and a mode is written before a port that it is about.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use aya::maps::{HashMap, MapData};
use nix::sys::socket::{setsockopt, sockopt};
use sluice_abi::unregistered::{DENY, OBSERVE};
use sluice_abi::{Addr, CANARY_NET};
use sluice_config::Unregistered;

use super::{Guard, GuardError, canary::Layer, maps, records};

/// Where the canary's destinations are.
const GOAL: Ipv4Addr = Ipv4Addr::new(CANARY_NET[0], CANARY_NET[1], CANARY_NET[2], 5);
/// What it says there: nothing that is recognised, and something that is.
const HARMLESS: &[u8] = b"a canary that speaks no protocol";
const SSH: &[u8] = b"SSH-2.0-canary\r\n";
/// On loopback a packet that is not dropped has arrived by then.
const ARRIVED: Duration = Duration::from_millis(60);

fn number(mode: Unregistered) -> u32 {
    match mode {
        Unregistered::Deny => DENY,
        Unregistered::Observe => OBSERVE,
        Unregistered::Allow => 0,
    }
}

/// Addresses of this network namespace, as the programs know them.
fn own_addresses() -> io::Result<BTreeSet<Addr>> {
    let listed = nix::ifaddrs::getifaddrs()?;
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
    };
    Ok(listed.filter_map(|device| device.address.and_then(ip)).map(records::addr).collect())
}

impl Guard {
    /// From now on this becomes of connections to what no target names.
    pub(crate) fn unregistered(&mut self, mode: Unregistered, ports: &[u16]) -> Result<(), GuardError> {
        self.look_at_addresses();
        self.strangers = (mode, ports.to_vec());
        self.set_array("SPOKEN", number(mode).to_ne_bytes())?;
        let wanted: BTreeSet<u32> = match mode {
            Unregistered::Allow => BTreeSet::new(),
            _ => ports.iter().map(|port| u32::from(*port)).collect(),
        };
        let fault = |e: aya::maps::MapError| maps::fault("WELL_KNOWN", &e);
        let mut table: HashMap<&mut MapData, u32, [u8; 4]> = self.hash("WELL_KNOWN")?;
        for port in &wanted {
            table.insert(port, number(mode).to_ne_bytes(), 0).map_err(fault)?;
        }
        let old: Vec<u32> = table.keys().collect::<Result<_, _>>().map_err(fault)?;
        for port in old.iter().filter(|port| !wanted.contains(port)) {
            table.remove(port).map_err(fault)?;
        }
        self.changed()
    }

    /// Addresses have come or gone. Without a list the old one stays: what is missing in it is refused.
    pub(super) fn look_at_addresses(&mut self) {
        let outcome = own_addresses().map_err(|e| maps::fault("LOCALS", &e)).and_then(|own| {
            let fault = |e: aya::maps::MapError| maps::fault("LOCALS", &e);
            let mut table: HashMap<&mut MapData, Addr, u32> = self.hash("LOCALS")?;
            let old: BTreeSet<Addr> = table.keys().collect::<Result<_, _>>().map_err(fault)?;
            for gone in old.difference(&own) {
                table.remove(gone).map_err(fault)?;
            }
            own.difference(&old).try_for_each(|new| table.insert(new, 1, 0).map_err(fault))
        });
        if let Err(error) = outcome {
            tracing::warn!(%error, "this host's own addresses are not known; connects to them may be refused");
        }
    }

    fn hash<'a, K: aya::Pod, V: aya::Pod>(
        &'a mut self,
        name: &'static str,
    ) -> Result<HashMap<&'a mut MapData, K, V>, GuardError> {
        let map = self.ebpf.map_mut(name).ok_or_else(|| maps::fault(name, &"not in the object"))?;
        HashMap::try_from(map).map_err(|e| maps::fault(name, &e))
    }
}

/// The loader's end of the canary's talk.
pub(super) struct Ear {
    listener: TcpListener,
    met: Vec<TcpStream>,
}

impl Ear {
    pub(super) fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((GOAL, 0))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, met: Vec::new() })
    }

    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            // one that blocks would be heard at the end alone
            if stream.set_nonblocking(true).is_ok() {
                self.met.push(stream);
            }
        }
    }

    /// What arrived of what the canary said.
    pub(super) fn heard(&mut self) -> [bool; 2] {
        self.accept();
        let mut heard = [false; 2];
        for stream in &mut self.met {
            let mut said = [0; 64];
            if let Ok(length) = stream.read(&mut said) {
                let said = said.get(..length).unwrap_or_default();
                heard = [heard[0] || said == HARMLESS, heard[1] || said == SSH];
            }
        }
        heard
    }
}

/// The canary's part: knocks at a well-known port, and talks at another.
pub(super) fn knock(ear: u16, well_known: u16) {
    let say = |text: &[u8]| {
        let stream = TcpStream::connect_timeout(&SocketAddr::from((GOAL, ear)), Duration::from_secs(1))?;
        // what is dropped would be sent again and again behind a socket that is closed
        let reset = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&stream.as_fd(), sockopt::Linger, &reset)?;
        (&stream).write_all(text)?;
        Ok::<_, io::Error>(stream)
    };
    let talks = [say(HARMLESS), say(SSH)];
    if well_known != 0 {
        let at = SocketAddr::from((GOAL, well_known));
        let said = match TcpStream::connect_timeout(&at, Duration::from_secs(1)) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => "refused".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => "went through".to_owned(),
            Err(error) => error.to_string(),
            Ok(_) => "went through".to_owned(),
        };
        println!("unregistered={said}");
    }
    std::thread::sleep(ARRIVED);
    drop(talks);
}

/// What the canary's tries say of the layer; nothing where the configuration does not want it.
pub(super) fn layer(
    (mode, ports): (Unregistered, usize),
    knocked: Option<&str>,
    heard: Option<[bool; 2]>,
) -> Option<Layer> {
    let knocked = knocked.unwrap_or(if ports == 0 { "no port is listed" } else { "it was not tried" });
    let (state, proof) = match (mode, knocked, heard) {
        (Unregistered::Allow, ..) => return None,
        (Unregistered::Deny, "refused", Some([true, false])) => (
            "enforced",
            format!(
                "a canary was refused a well-known port ({ports} of them) that is no target's, and at another port what it \
                 said as SSH did not arrive"
            ),
        ),
        (Unregistered::Deny, "no port is listed", Some([true, false])) => {
            ("enforced", "what a canary said as SSH did not arrive; no port is listed".to_owned())
        }
        (Unregistered::Observe, "went through" | "no port is listed", Some([true, true])) => (
            "observed",
            format!(
                "guard.unregistered = \"observe\": told of and let through, at {ports} ports and by what is said"
            ),
        ),
        (_, knocked, heard) => {
            let heard = match heard {
                None => "was not tried",
                Some([false, _]) => "could not be told: nothing arrived",
                Some([true, true]) => "arrived",
                Some([true, false]) => "did not arrive",
            };
            ("absent", format!("a well-known port: {knocked}; what was said as SSH {heard}"))
        }
    };
    Some(Layer { name: "unregistered", state, proof })
}
