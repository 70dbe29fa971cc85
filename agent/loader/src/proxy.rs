//! The proxy as a process: started without privilege (by this process, or by the service manager), spoken to over one
//! socket, ended when it misbehaves.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use prost::Message as _;
use sluice_api::handover::{FromLoader, FromProxy, from_loader, from_proxy};

use crate::door::Guest;
use crate::grounds::Account;
use crate::kernel::Guard;
use crate::{process, sys};

/// No packet is longer (handover.proto).
pub(crate) const MAX_PACKET: usize = 64 << 10;
/// Packets that may wait for a proxy that does not read; then it is ended.
const MAX_WAITING: usize = 4096;
/// The descriptor by which the proxy finds its end of the socket.
const PROXY_END: RawFd = 3;
/// How long it may take to end after it has closed its socket.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// What is on its way to the proxy.
struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// How its process is held.
enum Held {
    /// This process has made it.
    Child(Child),
    /// The service manager has ([`crate::door`]).
    Guest { pid: u32, process: OwnedFd },
}

impl Held {
    fn pid(&self) -> u32 {
        match self {
            Self::Child(child) => child.id(),
            Self::Guest { pid, .. } => *pid,
        }
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<String> {
        match self {
            Self::Child(child) => {
                let status = child.try_wait().ok()??;
                Some(match (status.code(), status.signal()) {
                    (Some(code), _) => format!("exit status {code}"),
                    (_, Some(signal)) => format!("signal {signal}"),
                    _ => "no status".to_owned(),
                })
            }
            // readable once it has ended; how is its parent's to know
            Self::Guest { process, .. } => {
                let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
                let ended = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
                ended.then(|| "the service manager knows how".to_owned())
            }
        }
    }

    fn kill(&mut self) {
        // it may have ended by itself just now
        match self {
            Self::Child(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::Guest { process, .. } => {
                let _ = sys::kill_process(process.as_fd());
            }
        }
    }
}

/// A running proxy.
pub(crate) struct Proxy {
    held: Held,
    socket: OwnedFd,
    waiting: VecDeque<Packet>,
    /// When it was started.
    pub(crate) since: Instant,
    /// It has answered the first message.
    pub(crate) ready: bool,
}

/// What came of reading.
pub(crate) enum Heard {
    /// A message.
    Message(from_proxy::Message),
    /// Nothing more for now.
    Nothing,
    /// It closed its end.
    Gone,
    /// It said what no proxy says: to be ended.
    Nonsense(String),
}

impl Proxy {
    /// Starts the proxy in a cgroup of its own and tells the guard which process it is. It does nothing before the first
    /// message, so that all of this is done before its first connect.
    pub(crate) fn start(
        program: &Path,
        config: &Path,
        account: Account,
        cgroup: &Path,
        guard: &mut Guard,
    ) -> Result<Self, String> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )
        .map_err(|e| format!("socketpair: {e}"))?;
        let mut command = Command::new(program);
        command
            .arg("--loader-fd")
            .arg(PROXY_END.to_string())
            .arg("--config")
            .arg(config)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .current_dir("/");
        for name in ["RUST_LOG", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        sys::before_exec(&mut command, account, theirs.as_raw_fd(), PROXY_END);
        let child = command.spawn().map_err(|e| format!("starting {}: {e}", program.display()))?;
        drop(theirs);
        let mut proxy = Self {
            held: Held::Child(child),
            socket: ours,
            waiting: VecDeque::new(),
            since: Instant::now(),
            ready: false,
        };
        proxy.settle(cgroup, guard).inspect_err(|_error| {
            proxy.kill();
        })?;
        // whoever may write cgroup.procs could put another process beside it; the pid and start time still differ
        tracing::info!(pid = proxy.pid(), "sluiced started");
        Ok(proxy)
    }

    /// Takes a proxy that the service manager has started, in a cgroup of its own, and tells the guard which process it is.
    pub(crate) fn welcome(guest: Guest, cgroup: &Path, guard: &mut Guard) -> Result<Self, String> {
        let Guest { pid, process, socket } = guest;
        let held = Held::Guest { pid, process };
        let proxy = Self { held, socket, waiting: VecDeque::new(), since: Instant::now(), ready: false };
        proxy.admit(cgroup, guard)?;
        tracing::info!(pid, "sluiced has come");
        Ok(proxy)
    }

    fn settle(&mut self, cgroup: &Path, guard: &mut Guard) -> Result<(), String> {
        fs::create_dir_all(cgroup)
            .and_then(|()| fs::write(cgroup.join("cgroup.procs"), self.pid().to_string()))
            .map_err(|e| format!("the proxy's cgroup {}: {e}", cgroup.display()))?;
        self.admit(cgroup, guard)
    }

    fn admit(&self, cgroup: &Path, guard: &mut Guard) -> Result<(), String> {
        let pid = self.pid();
        let id = process::cgroup_id(cgroup).ok_or("the proxy's cgroup has gone")?;
        let start = process::start_ticks(pid).ok_or("sluiced has ended at once")?;
        guard.admit(pid, start, id).map_err(|e| e.to_string())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.held.pid()
    }

    /// To be polled; writable only while something waits.
    pub(crate) fn socket(&self) -> (BorrowedFd<'_>, bool) {
        (self.socket.as_fd(), !self.waiting.is_empty())
    }

    /// Puts a message on its way. `false`: it has not read for so long that it has to be ended.
    pub(crate) fn send(&mut self, message: from_loader::Message, descriptors: Vec<OwnedFd>) -> bool {
        let bytes = FromLoader { message: Some(message) }.encode_to_vec();
        if bytes.len() > MAX_PACKET {
            tracing::error!(bytes = bytes.len(), "a message for sluiced is too long and was left out");
            return true;
        }
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        self.waiting.push_back(Packet { bytes, descriptors });
        self.flush()
    }

    /// Sends what waits. `false`: the socket is broken.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(packet) = self.waiting.front() {
            let raw: Vec<RawFd> = packet.descriptors.iter().map(|fd| fd.as_raw_fd()).collect();
            let rights = [ControlMessage::ScmRights(&raw)];
            let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
            let parts = [IoSlice::new(&packet.bytes)];
            match sendmsg::<()>(self.socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(_) => drop(self.waiting.pop_front()),
                Err(Errno::EAGAIN) => return true,
                Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "writing to sluiced failed");
                    return false;
                }
            }
        }
        true
    }

    /// Reads one message. What the proxy says is hostile until decoded; descriptors from it are not taken.
    pub(crate) fn hear(&mut self, buffer: &mut [u8]) -> Heard {
        let (length, cut) = {
            let mut parts = [IoSliceMut::new(buffer)];
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, None, MsgFlags::empty()) {
                Ok(got) => (got.bytes, got.flags.intersects(MsgFlags::MSG_TRUNC)),
                Err(Errno::EAGAIN | Errno::EINTR) => return Heard::Nothing,
                Err(_) => return Heard::Gone,
            }
        };
        if length == 0 {
            return Heard::Gone;
        }
        if cut {
            return Heard::Nonsense("a packet longer than any message".to_owned());
        }
        match FromProxy::decode(buffer.get(..length).unwrap_or_default()) {
            Ok(FromProxy { message: Some(message) }) => Heard::Message(message),
            Ok(_) => Heard::Nonsense("a message that this version does not know".to_owned()),
            Err(error) => Heard::Nonsense(error.to_string()),
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.held.ended()
    }

    /// It has closed its socket: a moment to end by itself, since its last words say why, and then no more.
    pub(crate) fn leave(&mut self) {
        let began = Instant::now();
        while began.elapsed() < LAST_WORDS {
            if self.held.ended().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
    }

    /// Ends it now.
    pub(crate) fn kill(&mut self) {
        self.held.kill();
    }
}

/// The binary: `agent.proxy`, or `sluiced` beside the loader's own.
pub(crate) fn program(configured: Option<&Path>) -> PathBuf {
    configured.map_or_else(|| beside("sluiced"), Path::to_owned)
}

/// A file beside this program's own.
pub(crate) fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().unwrap_or_else(|| Path::new("/usr/lib/sluice")).join(name)
}

/// Descriptors of files.
pub(crate) fn descriptors(files: Vec<File>) -> Vec<OwnedFd> {
    files.into_iter().map(OwnedFd::from).collect()
}
