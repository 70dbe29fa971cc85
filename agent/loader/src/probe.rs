//! `sluice-loader probe`: which layers this kernel has, before anything is guarded.
//!
//! The same programs and the same canary as in earnest, at a cgroup that nobody is in and in a network namespace of this
//! process's own. Must hold: no connection, packet or device of the host meets them, and nothing is left behind. The
//! tracepoints of the layer `lineage` see every fork, exec and exit meanwhile, and take note of the canary's alone.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use sluice_config::Unregistered;

use crate::kernel::{self, Guard, Layer, words};
use crate::lsm::Wish;
use crate::{grounds, proxy};
use sluice_config::{PacketSockets, SelfProtection};

/// Of the network namespace that nobody else is in.
const PORT: u16 = 15432;
/// A well-known port, for the layer `unregistered`.
const SSH: u16 = 22;

/// Says a line a layer: name, state, proof, with tabs between.
pub(crate) fn run() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can load kernel programs".to_owned());
    }
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
    let root = grounds::cgroup_mount(&mounts)
        .ok_or("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")?;
    let pid = std::process::id();
    let places = Places {
        cgroup: root.join(format!("sluice-probe-{pid}")),
        pins: PathBuf::from(format!("/sys/fs/bpf/sluice-probe-{pid}")),
    };
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("making a network namespace: {e}"))?;
    loopback_up().map_err(|e| format!("its loopback device: {e}"))?;
    fs::create_dir(&places.cgroup).map_err(|e| format!("making {}: {e}", places.cgroup.display()))?;
    // the programs see a socket's maker by its cgroup: whoever listens has to be in there
    let _inside = Inside::enter(&places.cgroup, &root)?;
    let object = proxy::beside("sluice-ebpf.o");
    for layer in layers(&object, &places)? {
        println!("{}\t{}\t{}", layer.name, layer.state, layer.proof.replace(['\t', '\n'], " "));
    }
    for words in Guard::strangers(&root) {
        println!("foreign\tseen\t{words}");
    }
    Ok(())
}

/// `sluice-loader costs`: the programs are loaded and attached nowhere, but for the tracepoints of the layer `lineage`.
pub(crate) fn costs(bounds: Option<&Path>) -> Result<(), String> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
    let root = grounds::cgroup_mount(&mounts).ok_or("cgroup v2 is not mounted")?;
    // a bpffs of this process's own, so that nothing is left behind and nobody's pins are in the way
    let fault = |error: nix::errno::Errno| format!("mounting a bpffs: {error}");
    unshare(CloneFlags::CLONE_NEWNS).map_err(fault)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(fault)?;
    mount(Some("none"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), none).map_err(fault)?;
    let pins = PathBuf::from("/sys/fs/bpf/costs");
    kernel::costs(&proxy::beside("sluice-ebpf.o"), &root, &pins, bounds)
}

fn layers(object: &Path, places: &Places) -> Result<Vec<Layer>, String> {
    let fault = |e| words(&e);
    let mut guard = Guard::load(object, &places.cgroup, &places.pins).map_err(fault)?;
    guard.register_binder().map_err(fault)?;
    guard.attach().map_err(fault)?;
    guard.defend(Wish { protection: SelfProtection::On, packets: PacketSockets::Allow });
    guard.listen_at(PORT).map_err(fault)?;
    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).map_err(|e| format!("listening: {e}"))?;
    guard.listen_at(PORT).map_err(fault)?;
    guard.unregistered(Unregistered::Deny, &[SSH]).map_err(fault)?;
    Ok(guard.probe())
}

/// A network namespace begins with its loopback device down. RTM_NEWLINK of rtnetlink(7): a header, an `ifinfomsg`.
fn loopback_up() -> io::Result<()> {
    const UP: u32 = libc::IFF_UP as u32;
    let mut message = Vec::new();
    message.extend_from_slice(&32u32.to_ne_bytes());
    message.extend_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    // sequence, port, then family, type and the index of the first device, which is always lo
    message.extend_from_slice(&[0; 12]);
    message.extend_from_slice(&1i32.to_ne_bytes());
    message.extend_from_slice(&UP.to_ne_bytes());
    message.extend_from_slice(&UP.to_ne_bytes());
    let route = SockProtocol::NetlinkRoute;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, route)?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(netlink.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
    let mut answer = [0u8; 64];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // nlmsgerr: the error stands behind the header, negative; 0 is the acknowledgement
    let code = answer.get(16..20).filter(|_| length >= 20).and_then(|code| code.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("the kernel gave no answer")),
    }
}

/// This process, in a cgroup that it does not belong to; on drop back in its own.
struct Inside {
    home: PathBuf,
}

impl Inside {
    fn enter(cgroup: &Path, root: &Path) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|e| format!("/proc/self/cgroup: {e}"))?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"));
        let own = own.ok_or("this process is in no cgroup v2")?;
        let inside = Self { home: root.join(own.trim_start_matches('/')).join("cgroup.procs") };
        fs::write(cgroup.join("cgroup.procs"), "0")
            .map_err(|e| format!("entering {}: {e}", cgroup.display()))?;
        Ok(inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.home, "0") {
            tracing::warn!(%error, "{}: this process can't go back", self.home.display());
        }
    }
}

/// What is made for the probe; gone with it.
struct Places {
    cgroup: PathBuf,
    pins: PathBuf,
}

impl Drop for Places {
    fn drop(&mut self) {
        // the links die with their pins, and the cgroup has no process any more
        let _ = fs::remove_dir_all(&self.pins);
        if let Err(error) = fs::remove_dir(&self.cgroup) {
            tracing::warn!(%error, "{} is left behind", self.cgroup.display());
        }
    }
}
