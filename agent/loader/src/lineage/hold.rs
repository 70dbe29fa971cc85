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
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{HashMap as KernelMap, MapData};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, Response};
use sluice_abi::lineage::{Member, Session};

use super::mounts::{self, Mounts};
use super::{Members, records};

/// The session of the canary that is refused whatever it executes.
pub(super) const REFUSED: Session = [0xff; 16];
/// Executions that may wait at one time; those beyond are refused.
const MAX_PENDING: usize = 4096;
/// Processes that were let through and have not opened their loader: a static program never does.
const MAX_EXPECTED: usize = 8192;
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
    mounts: Mounts,
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
    name.starts_with("ld-linux")
        || name.starts_with("ld-musl")
        || name.starts_with("ld.so")
        || name.starts_with("ld-2.")
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
        let group =
            Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC | EventFFlags::O_LARGEFILE)
                .map_err(|error| format!("fanotify: {error}"))?;
        let data = MapData::from_pin(members).map_err(|error| format!("{}: {error}", members.display()))?;
        let members: KernelMap<_, _, _> = aya::maps::Map::HashMap(data)
            .try_into()
            .map_err(|error: aya::maps::MapError| error.to_string())?;
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
        Ok(Self { group, judged, asked, news, orders, wake: wake.into(), mounts: Mounts::default() })
    }

    /// From now on programs that this process and its children execute wait for a decision.
    ///
    /// # Errors
    /// In words: some could run without one.
    pub(super) fn judge(&mut self, session: Session, pid: u32, whole_host: bool) -> Result<(), String> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).insert(session);
        self.mounts.watch(&self.group, session, pid, whole_host)
    }

    /// Looks at one file alone.
    pub(super) fn mark_file(&self, path: &Path) -> io::Result<()> {
        mounts::mark_file(&self.group, path)
    }

    /// Nobody of this session is left.
    pub(super) fn forget(&mut self, session: Session) {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
        self.mounts.forget(session);
    }

    /// What says by POLLPRI that something was mounted where judged sessions run.
    pub(crate) fn mounted(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.mounts.news()
    }

    /// Something was: programs there wait as well.
    pub(crate) fn look_at_mounts(&mut self) {
        self.mounts.look(&self.group);
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
        let Some(session) =
            self.members.get(&pid, 0).ok().map(|m: [u8; size_of::<Member>()]| records::owner(m))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_loader_is_called() {
        assert!(is_loader("/lib64/ld-linux-x86-64.so.2") && !is_loader("/usr/bin/ld"));
    }
}
