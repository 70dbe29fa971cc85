//! The guard: Sluice's programs in the kernel, their maps and pins.
//!
//! Enters: the object, a cgroup, places to protect. Leaves: events, and the proof of each layer. What must hold: what
//! was pinned goes on without this process; programs are replaced in their links, so that there is no moment without
//! one; a place is added before an old one is taken away.

mod attach;
mod btf;
mod canary;
mod costs;
mod device;
mod established;
mod integrity;
mod lookup;
mod maps;
mod records;
mod unregistered;
mod without;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use ipnet::IpNet;
use sluice_abi::{ABI_VERSION, Listener, Proxy};
use sluice_config::Unregistered;

use crate::lineage::Lineage;
use crate::lsm::{Lsm, Wish};
use crate::mode::Mode;

pub(crate) use canary::{Layer, child as canary_child};
pub(crate) use costs::run as costs;
pub(crate) use integrity::{Finding, Found};
pub(crate) use lookup::Port;
pub(crate) use records::Event;

/// Why the guard does not stand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError {
    /// The object with the programs.
    #[error("{path}: {reason}")]
    Object { path: PathBuf, reason: String },
    /// The verifier or the kernel refused a program.
    #[error("the kernel refused the program {program}: {reason}")]
    Program { program: String, reason: String },
    /// A map could not be made, read or written.
    #[error("the kernel's table {map}: {reason}")]
    Map { map: &'static str, reason: String },
    /// A path (cgroup, pins).
    #[error("{act} {path}: {source}")]
    Path {
        act: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A pinned link guards another cgroup.
    #[error(
        "{pins} guards another cgroup than {cgroup}: run `sluice-loader disarm` with the old configuration first"
    )]
    Elsewhere { pins: PathBuf, cgroup: PathBuf },
    /// The directory of pins is on another file system.
    #[error(
        "{pins} (guard.pins) is on no bpffs, where alone programs outlive the loader: mount -t bpf bpf /sys/fs/bpf"
    )]
    Bpffs { pins: PathBuf },
    /// The same of a network namespace.
    #[error("{pins} guards the ports of another network namespace: run `sluice-loader disarm` there first")]
    Namespace { pins: PathBuf },
}

pub(crate) fn at(act: &'static str, path: &Path) -> impl Fn(io::Error) -> GuardError {
    let path = path.to_owned();
    move |source| GuardError::Path { act, path: path.clone(), source }
}

/// Somewhere that is reached through the proxy alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Addresses.
    pub(crate) network: IpNet,
    /// Port; 0: every port.
    pub(crate) port: u16,
    /// Index of the target in the configuration.
    pub(crate) target: u32,
}

/// The programs, loaded; attached by [`Guard::attach`].
pub(crate) struct Guard {
    ebpf: Ebpf,
    pins: PathBuf,
    cgroup: PathBuf,
    links: Vec<attach::Seat>,
    devices: device::Devices,
    lookup: lookup::Lookup,
    lineage: Lineage,
    lsm: Lsm,
    ring: aya::maps::RingBuf<aya::maps::MapData>,
    places: BTreeSet<Place>,
    /// Guarded ports of this host.
    ports: BTreeSet<Port>,
    port: u16,
    /// What becomes of destinations that no target names, and by which ports they are told.
    strangers: (Unregistered, Vec<u16>),
    /// Why older connections could not be ended.
    no_destroy: Option<String>,
    /// Cgroups of canaries.
    canaries: Vec<u64>,
    integrity: integrity::Integrity,
}

impl Guard {
    /// Loads the object; maps that were pinned before, with what stands in them, are taken over.
    pub(crate) fn load(object: &Path, cgroup: &Path, pins: &Path) -> Result<Self, GuardError> {
        let maps = pins.join(format!("maps-{ABI_VERSION}"));
        on_bpffs(pins)?;
        fs::create_dir_all(&maps).map_err(at("making the directory of pins", &maps))?;
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(pins, fs::Permissions::from_mode(0o700)).map_err(at("closing", pins))?;
        let bytes = fs::read(object).map_err(at("reading the kernel programs", object))?;
        let offsets = btf::offsets(Path::new(btf::VMLINUX));
        // what a kernel tells of network namespaces is tried, not concluded
        let whole = u32::from(is_root(cgroup));
        let mut ebpf = open(object, &bytes, &offsets, &maps, (Cookies::Everywhere, whole))?;
        if attach::load(&mut ebpf).is_err() {
            ebpf = open(object, &bytes, &offsets, &maps, (Cookies::OfSockets, whole))?;
            if attach::load(&mut ebpf).is_err() {
                ebpf = open(object, &bytes, &offsets, &maps, (Cookies::Nowhere, whole))?;
                attach::load(&mut ebpf)?;
            }
        }
        let integrity = integrity::Integrity::of(&ebpf, pins);
        let lookup = lookup::Lookup::new(pins, lookup::load(&mut ebpf));
        let devices = device::Devices::new(pins, device::load(&mut ebpf));
        let mut lineage = Lineage::start(&mut ebpf, pins, &maps, whole == 1)
            .map_err(|reason| maps::fault("MEMBERS_OF", &reason))?;
        let lsm = Lsm::load(&mut ebpf, pins, &maps, cgroup)
            .map_err(|reason| maps::fault("LSM_SETTINGS", &reason))?;
        lineage.answer(lsm.judging());
        let map = ebpf.take_map("EVENTS").ok_or_else(|| maps::fault("EVENTS", &"not in the object"))?;
        let ring = map.try_into().map_err(|e| maps::fault("EVENTS", &e))?;
        let mut guard = Self {
            ebpf,
            pins: pins.to_owned(),
            cgroup: cgroup.to_owned(),
            links: Vec::new(),
            devices,
            lookup,
            lineage,
            lsm,
            ring,
            places: BTreeSet::new(),
            ports: BTreeSet::new(),
            port: 0,
            strangers: (Unregistered::Allow, Vec::new()),
            no_destroy: None,
            canaries: Vec::new(),
            integrity,
        };
        guard.places = guard.known_places()?;
        guard.ports = guard.known_ports()?;
        Ok(guard)
    }

    /// Puts the programs in force: into the pinned links, or into new ones at the cgroup.
    pub(crate) fn attach(&mut self) -> Result<(), GuardError> {
        self.links = attach::attach(&self.ebpf, &self.cgroup, &self.pins)?;
        self.lookup.attach(&self.ebpf, &self.pins)?;
        self.devices.attach(&mut self.ebpf, &self.cgroup)
    }

    /// What root may not do to us, from now on. This process is the registered binder by now.
    pub(crate) fn defend(&mut self, wish: Wish) {
        self.lsm.attach(&mut self.ebpf);
        self.wish(wish);
    }

    /// The same, of another configuration.
    pub(crate) fn wish(&mut self, wish: Wish) {
        if let Err(error) = self.lsm.apply(wish) {
            tracing::error!(error, "guard.self_protection and guard.packet_sockets are not in force");
        }
    }

    /// Nobody but the loader and the proxy connects to these Unix sockets (layer `lsm`).
    pub(crate) fn seal_sockets(&mut self, sockets: &[PathBuf]) -> Result<(), String> {
        self.lsm.services(sockets)
    }

    /// What is pollable when network devices have come or gone.
    pub(crate) fn device_news(&self) -> Option<BorrowedFd<'_>> {
        self.devices.news()
    }

    /// They have, or their addresses: puts the program at those that are new.
    pub(crate) fn look_at_devices(&mut self) {
        self.look_at_addresses();
        self.devices.look(&self.ebpf);
    }

    /// From now on this process may bind the proxy's port, and nobody else.
    pub(crate) fn register_binder(&mut self) -> Result<(), GuardError> {
        let pid = std::process::id();
        let start_ticks = crate::process::start_ticks(pid).unwrap_or(0);
        let binder = Proxy { cgroup: 0, start_ticks, tgid: pid, pad: 0 };
        self.set_array("BINDER", records::proxy(&binder))
    }

    /// Where connects are taken to. In which network namespace that is the bind program tells, at the latest once the
    /// listeners are bound: to be said again then. Before, nobody is taken anywhere.
    pub(crate) fn listen_at(&mut self, port: u16) -> Result<(), GuardError> {
        self.port = port;
        let netns = self.array::<8>("HOME").map_or(0, u64::from_ne_bytes);
        self.lead(netns)
    }

    /// Whether these maps are those that a loader before this one has bound its listeners under.
    pub(crate) fn goes_on(&self) -> bool {
        self.array::<8>("HOME").is_some_and(|home| u64::from_ne_bytes(home) != 0)
    }

    fn lead(&mut self, netns: u64) -> Result<(), GuardError> {
        let addr6 = std::net::Ipv6Addr::LOCALHOST.octets();
        let listener =
            Listener { netns, addr4: Ipv4Addr::LOCALHOST.octets(), addr6, port: self.port, pad: 0 };
        self.set_array("LISTENER", records::listener(&listener))?;
        self.changed()
    }

    /// The proxy: its sockets towards protected places pass.
    pub(crate) fn admit(&mut self, pid: u32, start_ticks: u64, cgroup: u64) -> Result<(), GuardError> {
        self.set_array("PROXY", records::proxy(&Proxy { cgroup, start_ticks, tgid: pid, pad: 0 }))
    }

    /// Whether the service manager has made this proxy; nothing where nobody keeps account of that.
    pub(crate) fn is_of_manager(&self, pid: u32, start_ticks: u64) -> Option<bool> {
        self.lsm.is_of_manager(pid, start_ticks)
    }

    /// There is no proxy.
    pub(crate) fn dismiss(&mut self) -> Result<(), GuardError> {
        self.set_array("PROXY", [0; size_of::<Proxy>()])
    }

    /// Enforce, or tell and let pass.
    pub(crate) fn set_mode(&mut self, mode: Mode) -> Result<(), GuardError> {
        self.set_array("MODE", mode.number().to_ne_bytes())
    }

    /// What is pollable while events wait.
    pub(crate) fn events(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring lives as long as `self`, and so does its descriptor.
        #[expect(unsafe_code, reason = "aya's ring has no AsFd, only AsRawFd")]
        unsafe {
            BorrowedFd::borrow_raw(self.ring.as_raw_fd())
        }
    }

    /// The next try that a program saw.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        loop {
            let item = self.ring.next()?;
            // a record of another size is of another version: it can't come from our own programs
            if let Some(event) = Event::parse(&item).filter(|event| !self.canaries.contains(&event.cgroup)) {
                return Some(event);
            }
        }
    }

    /// Events that did not fit into the ring, since the maps were pinned.
    pub(crate) fn dropped(&self) -> u64 {
        self.array::<8>("DROPPED").map_or(0, u64::from_ne_bytes)
    }

    /// How long this host has been guarded without a break.
    pub(crate) fn armed_for(&self) -> Duration {
        let first = fs::metadata(attach::links(&self.pins)).and_then(|m| m.modified());
        first.ok().and_then(|t| SystemTime::now().duration_since(t).ok()).unwrap_or_default()
    }

    /// What keeps guarding this host.
    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// What sessions on this host execute.
    pub(crate) fn lineage(&mut self) -> &mut Lineage {
        &mut self.lineage
    }

    /// What is pollable while it has something to tell.
    pub(crate) fn lineage_news(&self) -> BorrowedFd<'_> {
        self.lineage.news()
    }

    /// What is pollable while programs wait for a decision.
    pub(crate) fn waiting(&self) -> Option<BorrowedFd<'_>> {
        self.lineage.waiting()
    }

    /// What says by POLLPRI that something was mounted where programs wait for a decision.
    pub(crate) fn mounted(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.lineage.mounted()
    }

    /// Sends a canary down every road and says what became of it.
    pub(crate) fn probe(&mut self) -> Vec<Layer> {
        canary::probe(self)
    }

    /// Takes everything away. Afterwards nothing is guarded.
    pub(crate) fn disarm(pins: &Path) -> Result<(), GuardError> {
        match fs::remove_dir_all(pins) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at("removing", pins)(e)),
            _ => Ok(()),
        }
    }
}

/// A [`Proxy`] as the maps keep it.
pub(crate) fn registered(proxy: &Proxy) -> [u8; size_of::<Proxy>()] {
    records::proxy(proxy)
}

/// Where a kernel tells programs the cookie of a network namespace.
#[derive(Clone, Copy)]
enum Cookies {
    /// Linux 6.15 and later: for packets too.
    Everywhere,
    /// 5.15 and later: in the hooks of sockets.
    OfSockets,
    /// Before.
    Nowhere,
}

/// Whether a loader has made this directory: its links or maps are in it, and it is on a bpffs.
pub(crate) fn is_pins(pins: &Path) -> bool {
    let bpffs =
        nix::sys::statfs::statfs(pins).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC);
    bpffs && (attach::links(pins).is_dir() || pins.join(format!("maps-{ABI_VERSION}")).is_dir())
}

/// What is pinned anywhere else is not kept.
fn on_bpffs(pins: &Path) -> Result<(), GuardError> {
    // the first of them that is there
    let there = pins.ancestors().find(|path| path.exists()).unwrap_or(pins);
    match nix::sys::statfs::statfs(there) {
        Ok(fs) if fs.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC => Ok(()),
        Ok(_) => Err(GuardError::Bpffs { pins: pins.to_owned() }),
        Err(error) => Err(at("asking", there)(error.into())),
    }
}

/// The root of cgroup v2 alone has no type: nobody on this host is outside of it.
fn is_root(cgroup: &Path) -> bool {
    !cgroup.join("cgroup.type").exists()
}

fn open(
    object: &Path,
    bytes: &[u8],
    offsets: &btf::Offsets,
    pins: &Path,
    (cookies, whole_host): (Cookies, u32),
) -> Result<Ebpf, GuardError> {
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::DEBUG).allow_unsupported_maps();
    let (netns_cookie, packet_netns): (u32, u32) = match cookies {
        Cookies::Everywhere => (1, 1),
        Cookies::OfSockets => (1, 0),
        Cookies::Nowhere => (0, 0),
    };
    loader.override_global("HAS_NETNS_COOKIE", &netns_cookie, true);
    loader.override_global("HAS_PACKET_NETNS", &packet_netns, true);
    loader.override_global("WHOLE_HOST", &whole_host, true);
    for (name, offset) in offsets {
        loader.override_global(name, offset, true);
    }
    for name in maps::NAMES {
        loader.map_pin_path(name, pins.join(name));
    }
    let fault = |e: aya::EbpfError| GuardError::Object { path: object.to_owned(), reason: words(&e) };
    let ebpf = loader.load(bytes).map_err(fault)?;
    maps::are_ours(&ebpf)?;
    Ok(ebpf)
}

/// An error with its causes.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
