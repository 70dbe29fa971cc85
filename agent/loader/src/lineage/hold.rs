//! Programs that wait for a decision before they run (fanotify, `FAN_OPEN_EXEC_PERM`).
//!
//! A thread of its own answers, so that nobody's exec waits for the loop: at once for whoever belongs to no judged
//! session, and by the proxy's word for the others. Without a proxy, and for what it can't make out, the answer is no.
//!
//! A dynamically linked program brings its loader (`ld-linux…`) with it, which the kernel opens behind it: that passes
//! once behind each program that was let through. By itself it would run any file as a program without an exec of it,
//! and is refused; what gets there by a race is seen by the exec's own record, and ended.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{HashMap as KernelMap, MapData};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use sluice_abi::lineage::{Member, Session};

use super::{Members, records};

/// The session of the canary that is refused whatever it executes.
pub(super) const REFUSED: Session = [0xff; 16];
/// Executions that may wait at one time; those beyond are refused.
const MAX_PENDING: usize = 4096;
/// Processes that were let through and have not opened their loader: a static program never does.
const MAX_EXPECTED: usize = 8192;
/// File systems without programs.
const NO_PROGRAMS: [&str; 16] = [
    "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "bpf", "tracefs", "debugfs", "securityfs",
    "pstore", "efivarfs", "configfs", "fusectl", "autofs", "nsfs",
];

/// Somebody waits.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: u64,
    pub(crate) session: Session,
    pub(crate) pid: u32,
    pub(crate) path: String,
}

enum Order {
    Decided(u64, bool),
    /// No to everybody of this session, or to all.
    Refuse(Option<Session>),
}

/// The loop's side.
pub(crate) struct Hold {
    group: Arc<Fanotify>,
    judged: Arc<Mutex<HashSet<Session>>>,
    asked: Receiver<Asked>,
    news: OwnedFd,
    orders: Sender<Order>,
    wake: fs::File,
    /// File systems, or mounts, that are looked at.
    marked: HashSet<(u64, PathBuf)>,
}

/// The thread's side.
struct Watcher {
    group: Arc<Fanotify>,
    members: Members,
    judged: Arc<Mutex<HashSet<Session>>>,
    asked: Sender<Asked>,
    tell: fs::File,
    orders: Receiver<Order>,
    woken: fs::File,
    pending: HashMap<u64, (Asked, FanotifyEvent)>,
    expected: HashSet<u32>,
    next: u64,
}

fn is_loader(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with("ld-linux") || name.starts_with("ld-musl") || name.starts_with("ld.so") || name.starts_with("ld-2.")
}

/// Whether a record of an exec is of what would have been refused, had it been seen in time.
pub(super) fn slipped(executed: &records::Executed) -> bool {
    executed.has(sluice_abi::lineage::flag::UNLINKED) || is_loader(&executed.file)
}

impl Hold {
    /// Starts the thread.
    ///
    /// # Errors
    /// In words: no program can be held here.
    pub(super) fn start(members: &Path) -> Result<Self, String> {
        let fault = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let flags = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let group = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC | EventFFlags::O_LARGEFILE)
            .map_err(|error| format!("fanotify: {error}"))?;
        let data = MapData::from_pin(members).map_err(|error| format!("{}: {error}", members.display()))?;
        let members: KernelMap<_, _, _> =
            aya::maps::Map::HashMap(data).try_into().map_err(|error: aya::maps::MapError| error.to_string())?;
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(io::Error::from);
        let ((news, tell), (woken, wake)) = (pipe().map_err(fault("pipe"))?, pipe().map_err(fault("pipe"))?);
        let (asked_in, asked) = channel();
        let (orders, orders_out) = channel();
        let (group, judged) = (Arc::new(group), Arc::<Mutex<HashSet<Session>>>::default());
        let watcher = Watcher {
            group: Arc::clone(&group),
            members,
            judged: Arc::clone(&judged),
            asked: asked_in,
            tell: tell.into(),
            orders: orders_out,
            woken: woken.into(),
            pending: HashMap::new(),
            expected: HashSet::new(),
            next: 1,
        };
        std::thread::Builder::new()
            .name("exec".to_owned())
            .spawn(move || watcher.run())
            .map_err(fault("starting the thread that answers"))?;
        Ok(Self { group, judged, asked, news, orders, wake: wake.into(), marked: HashSet::new() })
    }

    /// From now on programs that this process and its children execute wait for a decision.
    ///
    /// # Errors
    /// In words: some could run without one.
    pub(super) fn judge(&mut self, session: Session, pid: u32, whole_host: bool) -> Result<(), String> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).insert(session);
        self.mark(pid, whole_host)
    }

    /// Looks at every place that the process can execute from. On a host that is guarded as a whole that is its file
    /// systems, by whatever mount; else the mounts that it sees, so that the rest of the host does not wait for us.
    fn mark(&mut self, pid: u32, whole_host: bool) -> Result<(), String> {
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).map_err(|error| error.to_string())?;
        let namespace = fs::metadata(format!("/proc/{pid}/ns/mnt")).map_or(0, |found| found.ino());
        for place in places(&text) {
            let (flag, key) = match whole_host {
                true => (MarkFlags::FAN_MARK_FILESYSTEM, (0, PathBuf::from(&place.device))),
                false => (MarkFlags::FAN_MARK_MOUNT, (namespace, place.at.clone())),
            };
            if self.marked.contains(&key) {
                continue;
            }
            let path = root.join(place.at.strip_prefix("/").unwrap_or(&place.at));
            let marked = self.group.mark(
                MarkFlags::FAN_MARK_ADD | flag,
                MaskFlags::FAN_OPEN_EXEC_PERM,
                nix::fcntl::AT_FDCWD,
                Some(&path),
            );
            match marked {
                Ok(()) => drop(self.marked.insert(key)),
                // hidden by another mount: nobody gets there by this path
                Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => {}
                Err(error) => return Err(format!("{} ({}): {error}", place.at.display(), place.kind)),
            }
        }
        Ok(())
    }

    /// Looks at one file alone.
    pub(super) fn mark_file(&self, path: &Path) -> io::Result<()> {
        let (flags, mask) = (MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_EXEC_PERM);
        Ok(self.group.mark(flags, mask, nix::fcntl::AT_FDCWD, Some(path))?)
    }

    /// Nobody of this session is left.
    pub(super) fn forget(&self, session: Session) {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }

    pub(super) fn is_judged(&self, session: Session) -> bool {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).contains(&session)
    }

    /// What is pollable while somebody waits.
    pub(crate) fn news(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// Who waits and was not told of yet.
    pub(crate) fn asked(&mut self) -> Vec<Asked> {
        let mut bytes = [0; 512];
        // a byte each; what is left is read the next time
        let _ = nix::unistd::read(&self.news, &mut bytes);
        self.asked.try_iter().collect()
    }

    /// The proxy has decided.
    pub(crate) fn decided(&mut self, request: u64, allowed: bool) {
        self.order(Order::Decided(request, allowed));
    }

    /// Nobody can say yes any more: for one session, or for all.
    pub(crate) fn refuse(&mut self, session: Option<Session>) {
        self.order(Order::Refuse(session));
    }

    fn order(&mut self, order: Order) {
        // the thread ends with this process
        let _ = self.orders.send(order);
        let _ = self.wake.write(&[1]);
    }
}

impl Watcher {
    fn run(mut self) {
        loop {
            let mut fds = [
                PollFd::new(self.group.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return tracing::error!(%error, "nobody answers whoever wants to execute"),
            }
            let mut bytes = [0; 512];
            let _ = self.woken.read(&mut bytes);
            self.obey();
            match self.group.read_events() {
                Ok(events) => events.into_iter().for_each(|event| self.look(event)),
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
                Err(error) => tracing::error!(%error, "fanotify"),
            }
        }
    }

    fn obey(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Decided(request, allowed) => {
                    if let Some((asked, event)) = self.pending.remove(&request) {
                        self.settle(&asked, &event, allowed);
                    }
                }
                Order::Refuse(session) => {
                    let whose = |asked: &Asked| session.is_none_or(|session| session == asked.session);
                    let gone: Vec<_> = self.pending.extract_if(|_, (asked, _)| whose(asked)).collect();
                    gone.iter().for_each(|(_, (asked, event))| self.settle(asked, event, false));
                }
            }
        }
    }

    fn settle(&mut self, asked: &Asked, event: &FanotifyEvent, allowed: bool) {
        if allowed {
            self.expect(asked.pid);
        }
        self.answer(event, allowed);
    }

    fn expect(&mut self, pid: u32) {
        if self.expected.len() >= MAX_EXPECTED {
            self.expected.clear();
        }
        self.expected.insert(pid);
    }

    fn answer(&self, event: &FanotifyEvent, allowed: bool) {
        let Some(fd) = event.fd() else { return };
        let response = if allowed { Response::FAN_ALLOW } else { Response::FAN_DENY };
        if let Err(error) = self.group.write_response(FanotifyResponse::new(fd, response)) {
            tracing::error!(%error, "an exec could not be answered");
        }
    }

    fn look(&mut self, event: FanotifyEvent) {
        let pid = event.pid().unsigned_abs();
        let Some(session) = self.members.get(&pid, 0).ok().map(|m: [u8; size_of::<Member>()]| records::owner(m))
        else {
            return self.answer(&event, true);
        };
        if session == REFUSED {
            return self.answer(&event, false);
        }
        if !self.judged.lock().unwrap_or_else(PoisonError::into_inner).contains(&session) {
            return self.answer(&event, true);
        }
        let Some(path) = event.fd().and_then(path) else { return self.answer(&event, false) };
        if is_loader(&path) {
            let behind = self.expected.remove(&pid);
            return self.answer(&event, behind);
        }
        let request = self.next;
        self.next += 1;
        let asked = Asked { request, session, pid, path: path.clone() };
        let full = self.pending.len() >= MAX_PENDING;
        if full || self.asked.send(Asked { request, session, pid, path }).is_err() {
            return self.answer(&event, false);
        }
        self.pending.insert(request, (asked, event));
        // a full pipe is readable
        let _ = self.tell.write(&[1]);
    }
}

/// What the kernel's descriptor is of.
fn path(fd: BorrowedFd<'_>) -> Option<String> {
    let path = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    path.to_str().map(str::to_owned)
}

/// A mount that programs can be on.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    at: PathBuf,
    device: String,
    kind: String,
}

/// Those of a `mountinfo`: proc_pid_mountinfo(5).
fn places(text: &str) -> Vec<Mounted> {
    let mount = |line: &str| {
        let (before, behind) = line.split_once(" - ")?;
        let fields: Vec<&str> = before.split(' ').collect();
        let (device, at, options) = (fields.get(2)?, fields.get(4)?, fields.get(5)?);
        let kind = behind.split(' ').next()?;
        let runs = !options.split(',').any(|option| option == "noexec") && !NO_PROGRAMS.contains(&kind);
        runs.then(|| Mounted {
            at: PathBuf::from(unescaped(at)),
            device: (*device).to_owned(),
            kind: kind.to_owned(),
        })
    };
    text.lines().filter_map(mount).collect()
}

/// Blank, tab, newline and backslash stand as octal numbers.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (octal, character)| text.replace(octal, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_programs_can_be() {
        let text = "26 1 8:1 / / rw,relatime - ext4 /dev/root rw\n\
                    27 26 0:5 / /proc rw - proc proc rw\n\
                    28 26 0:9 / /a\\040b rw shared:1 - tmpfs t rw\n\
                    29 26 0:10 / /dev/shm rw,noexec - tmpfs t rw\nnonsense\n";
        let at: Vec<_> = places(text).into_iter().map(|place| place.at).collect();
        assert_eq!(at, [PathBuf::from("/"), PathBuf::from("/a b")]);
        assert!(is_loader("/lib64/ld-linux-x86-64.so.2") && !is_loader("/usr/bin/ld"));
    }
}
