//! Which processes belong to an SSH session on this host, and what they execute.
//!
//! Enters: the two ends of a connection that the proxy has made to a server here, before it proves itself; records of
//! the kernel programs. Leaves: executions with the session's id, in the order in which the kernel saw them. What must
//! hold: whoever can run something in a session is marked before the proxy goes on; what could not be noted is counted
//! under its session; a mark is never another process's.

mod attach;
mod canary;
mod hold;
mod holders;
mod mounts;
mod records;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;

use aya::Ebpf;
use aya::maps::{HashMap as KernelMap, MapData, RingBuf};
use nix::unistd::{Uid, User};
use sluice_abi::lineage::{Member, Session, Tally, flag};
use sluice_api::common;
use sluice_api::handover::Execution;

use crate::kernel::Found;
use crate::lsm::Judging;
use crate::process;
use crate::queue::Queue;
use crate::tell::wall_us;

pub(crate) use canary::child as canary_child;
pub(crate) use hold::Hold;
use records::Executed;

/// Executions that are kept while no proxy takes them.
const MAX_KEPT: usize = 16_384;
/// Looks for holders until one finds nobody new; more rounds than this only somebody has who forks on purpose.
const MAX_ROUNDS: usize = 16;
/// Nanoseconds in a clock tick, as the kernel programs compare start times.
const TICK_NS: u64 = 10_000_000;
/// Names of users that are remembered.
const MAX_NAMES: usize = 1024;

type Members = KernelMap<MapData, u32, [u8; size_of::<Member>()]>;
type Tallies = KernelMap<MapData, Session, [u8; size_of::<Tally>()]>;

/// The programs and what they have told.
pub(crate) struct Lineage {
    ring: RingBuf<MapData>,
    members: Members,
    tallies: Tallies,
    /// Why the programs are not attached.
    fault: Option<String>,
    hold: Result<Hold, String>,
    /// Ties judged sessions to this process, where the kernel has the layer `lsm`.
    judging: Option<Judging>,
    /// The root of cgroup v2 is guarded, and with it every process.
    whole_host: bool,
    /// Read from the ring while a canary was looked for.
    ahead: VecDeque<Executed>,
    queue: Queue<Execution>,
    names: HashMap<u32, String>,
}

/// A connection of the proxy's.
pub(crate) struct Ends {
    pub(crate) target: SocketAddr,
    pub(crate) proxy: SocketAddr,
    /// The proxy's pid.
    pub(crate) of: u32,
}

/// What is left of a session.
pub(crate) struct Rest {
    pub(crate) remaining: u32,
    pub(crate) lost: Tally,
}

impl Lineage {
    /// Loads and attaches the programs. That they are refused is no reason not to guard by the other layers.
    ///
    /// # Errors
    /// In words: the object lacks the tables.
    pub(crate) fn start(ebpf: &mut Ebpf, pins: &Path, maps: &Path, whole_host: bool) -> Result<Self, String> {
        let fault = attach::attach(ebpf, pins).err();
        let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| format!("no map {name} in the object"));
        let words = |error: aya::maps::MapError| error.to_string();
        Ok(Self {
            ring: map("EXECUTED")?.try_into().map_err(words)?,
            members: map("MEMBERS_OF")?.try_into().map_err(words)?,
            tallies: map("TALLIES")?.try_into().map_err(words)?,
            hold: Hold::start(&maps.join("MEMBERS_OF")),
            judging: None,
            whole_host,
            fault,
            ahead: VecDeque::new(),
            queue: Queue::new(MAX_KEPT, usize::MAX),
            names: HashMap::new(),
        })
    }

    /// From now on judged sessions execute nothing without this process.
    pub(crate) fn answer(&mut self, judging: Option<Judging>) {
        self.judging = judging;
    }

    /// Looks whether the programs are still at their tracepoints, and puts them back where not.
    pub(crate) fn inspect(&self, ebpf: &mut Ebpf, pins: &Path, found: &mut Found) {
        if self.fault.is_none() {
            attach::inspect(ebpf, pins, found);
        }
    }

    /// Marks every process that serves the connection; gives how many there are.
    ///
    /// # Errors
    /// In words: nothing of this session can be seen.
    pub(crate) fn follow(
        &mut self,
        session: Session,
        Ends { target, proxy, of }: Ends,
        judged: bool,
    ) -> Result<u32, String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        // the proxy's word is no reason to follow anybody: it follows its own connections
        if canary::is_own(session) || !holders::has_end(of, proxy, target) {
            return Err("the proxy has no such connection".to_owned());
        }
        let found = holders::socket(target, proxy)?;
        self.tallies
            .insert(session, [0; size_of::<Tally>()], 0)
            .map_err(|e| format!("too many sessions: {e}"))?;
        let mut marked = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let before = marked.len();
            for pid in holders::holders(&found) {
                if !marked.contains(&pid) && self.mark(session, pid, &found)? {
                    marked.push(pid);
                }
            }
            // whoever was made meanwhile by one that was not marked yet is found by the next look
            if marked.len() == before {
                if judged {
                    self.judge(session, &marked)?;
                }
                return match u32::try_from(marked.len()) {
                    Ok(0) | Err(_) => Err("no process of its own serves this connection".to_owned()),
                    Ok(count) => Ok(count),
                };
            }
        }
        Err("the server's processes multiply while they are looked for".to_owned())
    }

    fn judge(&mut self, session: Session, marked: &[u32]) -> Result<(), String> {
        let hold = self.hold.as_mut().map_err(|fault| fault.clone())?;
        if let Some(judging) = &mut self.judging {
            judging.add(session)?;
        }
        for pid in marked {
            hold.judge(session, *pid, self.whole_host)?;
        }
        Ok(())
    }

    /// Where programs wait for a decision; nothing where none can be held.
    pub(crate) fn hold(&mut self) -> Option<&mut Hold> {
        self.hold.as_mut().ok()
    }

    /// What is pollable while some do.
    pub(crate) fn waiting(&self) -> Option<BorrowedFd<'_>> {
        self.hold.as_ref().ok().map(Hold::news)
    }

    /// What says by POLLPRI that something was mounted there.
    pub(crate) fn mounted(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.hold.iter().flat_map(Hold::mounted)
    }

    /// `false`: it has ended meanwhile.
    fn mark(&mut self, session: Session, pid: u32, found: &holders::Found) -> Result<bool, String> {
        let Some(ticks) = process::start_ticks(pid) else { return Ok(false) };
        let member = Member { session, start_ns: ticks * TICK_NS };
        self.members
            .insert(pid, records::member(&member), 0)
            .map_err(|error| format!("there is no room for its processes: {error}"))?;
        // still the same one, or the mark would be another's
        if process::start_ticks(pid) == Some(ticks) && holders::holds(pid, found) {
            return Ok(true);
        }
        let _ = self.members.remove(&pid);
        Ok(false)
    }

    /// What is pollable while records wait.
    pub(crate) fn news(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring lives as long as `self`, and so does its descriptor.
        #[expect(unsafe_code, reason = "aya's ring has no AsFd, only AsRawFd")]
        unsafe {
            BorrowedFd::borrow_raw(self.ring.as_raw_fd())
        }
    }

    /// Takes up to so many records out of the ring.
    pub(crate) fn read(&mut self, most: usize) {
        for _ in 0..most {
            let Some(executed) = self.ahead.pop_front().or_else(|| self.next()) else { return };
            self.end_slipped(&executed);
            let execution = self.message(executed);
            self.queue.push(execution);
        }
    }

    /// In a judged session: ends what runs although nobody could be asked, as soon as it is seen.
    fn end_slipped(&self, executed: &Executed) {
        let judged = self.hold.as_ref().is_ok_and(|hold| hold.is_judged(executed.session));
        let still = || process::start_ticks(executed.pid) == Some(executed.start_ns / TICK_NS);
        if judged && hold::slipped(executed) && still() {
            let pid = nix::unistd::Pid::from_raw(executed.pid.cast_signed());
            let outcome = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            tracing::warn!(pid = executed.pid, ?outcome, "a program that nobody was asked for was ended");
        }
    }

    fn next(&mut self) -> Option<Executed> {
        loop {
            // a record of another size is of another version: it can't come from our own programs
            if let Some(executed) = Executed::parse(&self.ring.next()?) {
                return Some(executed);
            }
        }
    }

    /// What waits for the proxy.
    pub(crate) fn queue(&mut self) -> &mut Queue<Execution> {
        &mut self.queue
    }

    /// What is left of a session, after everything that it executed was read.
    pub(crate) fn settle(&mut self, session: Session) -> Rest {
        self.read(MAX_KEPT);
        let lost = self.tallies.get(&session, 0).map(records::tally);
        let remaining = self.count(session);
        if remaining == 0 {
            // absent where there was nobody to follow
            let _ = self.tallies.remove(&session);
            if let Ok(hold) = &mut self.hold {
                hold.forget(session);
            }
            if let Some(judging) = &mut self.judging {
                judging.remove(session);
            }
        }
        Rest { remaining, lost: lost.unwrap_or(Tally { records: 0, forks: 0 }) }
    }

    fn count(&self, session: Session) -> u32 {
        let members = self.members.iter().filter_map(Result::ok);
        let own = members.filter(|(pid, member)| {
            records::owner(*member) == session && Path::new("/proc").join(pid.to_string()).exists()
        });
        u32::try_from(own.count()).unwrap_or(u32::MAX)
    }

    fn message(&mut self, executed: Executed) -> Execution {
        let (pid, uid) = (executed.pid, executed.uid);
        let user = self.name(uid);
        let (truncated, unreadable) = (executed.truncated(), executed.has(flag::UNREADABLE));
        let (unlinked, by_descriptor) = (executed.has(flag::UNLINKED), executed.has(flag::BY_DESCRIPTOR));
        let message = common::Executed {
            pid,
            parent: executed.parent,
            uid,
            euid: executed.euid,
            user,
            executable: executable(&executed),
            program: executed.program,
            interpreter: executed.interpreter,
            arguments: executed.arguments,
            truncated,
            unreadable,
            unlinked,
            by_descriptor,
            start_ns: executed.start_ns,
            time_us: wall_us(executed.time_ns),
        };
        Execution { session: text(executed.session), executed: Some(message) }
    }

    fn name(&mut self, uid: u32) -> String {
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        let look_up = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        self.names.entry(uid).or_insert_with(|| look_up().unwrap_or_default()).clone()
    }
}

/// The whole path of what runs, while the process still runs it: its last name is the kernel's word.
fn executable(executed: &Executed) -> String {
    let path = fs::read_link(format!("/proc/{}/exe", executed.pid)).unwrap_or_default();
    let path = path.to_string_lossy().into_owned();
    let plain = path.strip_suffix(" (deleted)").unwrap_or(&path);
    let same = plain.rsplit('/').next() == Some(executed.file.as_str())
        || (executed.file.starts_with("memfd:") && plain.ends_with(&executed.file));
    let still = process::start_ticks(executed.pid) == Some(executed.start_ns / TICK_NS);
    if same && still { path } else { String::new() }
}

/// A session's id as the proxy writes it.
pub(crate) fn session(text: &str) -> Option<Session> {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    if plain.len() != 32 || !plain.is_ascii() {
        return None;
    }
    let mut session = Session::default();
    for (byte, at) in session.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(plain.get(at..at + 2)?, 16).ok()?;
    }
    Some(session)
}

/// The same the other way round.
pub(crate) fn text(session: Session) -> String {
    let hex: String = session.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = "01890000-0000-7000-8000-0000000000ff";
        assert_eq!(session(id).map(text).as_deref(), Some(id));
        for bad in ["", "01890000-0000-7000-8000-0000000000f", "0189000g-0000-7000-8000-0000000000ff", "é"] {
            assert_eq!(session(bad), None, "{bad}");
        }
    }
}
