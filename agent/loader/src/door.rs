//! Where a proxy reports that the service manager has started (`sluiced.service`), and who is let in.
//!
//! Enters: connections to a socket that the proxy's user alone may open. Leaves: the one process that is the proxy, held by
//! a descriptor. What must hold: whoever comes in gets the listeners, the secrets and the way past the guard, so that each
//! of these is asked of the kernel and has to fit: the user, the unit's cgroup, where the service manager alone puts
//! processes, the program's file, that nobody traces it; and with BPF-LSM that the service manager has made it, and
//! nobody could touch it since ([`crate::lsm`]).

use std::fs::{self, Permissions};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, getsockopt, listen, socket, sockopt,
};

use crate::grounds::Account;
use crate::{process, sys};

/// In `agent.run_dir`.
const SOCKET: &str = "proxy.sock";

/// The socket, and who may come.
pub(crate) struct Door {
    listener: OwnedFd,
    account: Account,
    /// Directory of the unit's cgroup.
    pub(crate) cgroup: PathBuf,
}

/// Somebody who may come in.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) pid: u32,
    pub(crate) process: OwnedFd,
    pub(crate) socket: OwnedFd,
}

impl Door {
    /// Waits for the unit of this name, beside this process's own unit in `own`.
    pub(crate) fn open(run_dir: &Path, unit: &str, own: &Path, account: Account) -> Result<Self, String> {
        let path = run_dir.join(SOCKET);
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let cgroup =
            beside(own, unit).ok_or_else(|| format!("--proxy-unit {unit}: not the name of a unit"))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(&error)),
            _ => {}
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(|e| at(&e))?;
        let address = UnixAddr::new(&path).map_err(|e| at(&e))?;
        bind(listener.as_raw_fd(), &address).map_err(|e| at(&e))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(|e| at(&e))?;
        nix::unistd::chown(&path, Some(account.uid), Some(account.gid)).map_err(|e| at(&e))?;
        listen(&listener, Backlog::new(8).map_err(|e| at(&e))?).map_err(|e| at(&e))?;
        Ok(Self { listener, account, cgroup })
    }

    /// To be polled.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The next one who has come; in words, why he is none. `born`: whether the service manager has made the process with
    /// this number and start, where the kernel keeps account of that.
    pub(crate) fn next(
        &self,
        program: &Path,
        born: impl Fn(u32, u64) -> Option<bool>,
    ) -> Option<Result<Guest, String>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let descriptor = accept4(self.listener.as_raw_fd(), flags).ok()?;
        // SAFETY: fresh from the kernel, nobody else's.
        #[expect(unsafe_code, reason = "takes over what accept4(2) returned")]
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Some(self.look(socket, program, born))
    }

    fn look(
        &self,
        socket: OwnedFd,
        program: &Path,
        born: impl Fn(u32, u64) -> Option<bool>,
    ) -> Result<Guest, String> {
        let peer = getsockopt(&socket, sockopt::PeerCredentials).map_err(|e| format!("who has come: {e}"))?;
        let pid = u32::try_from(peer.pid()).ok().filter(|pid| *pid > 0).ok_or("a process of elsewhere")?;
        let process = sys::process(pid).map_err(|e| format!("process {pid}: {e}"))?;
        if peer.uid() != self.account.uid.as_raw() {
            return Err(format!("process {pid} is of uid {}", peer.uid()));
        }
        let cgroup = process::cgroup_of(pid).ok_or_else(|| format!("process {pid} is in no cgroup v2"))?;
        if cgroup != self.cgroup {
            return Err(format!(
                "process {pid} is in {}, not in {}",
                cgroup.display(),
                self.cgroup.display()
            ));
        }
        let exe = PathBuf::from(format!("/proc/{pid}/exe"));
        let file = |path: &Path| {
            let found = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, String>((found.dev(), found.ino()))
        };
        if file(&exe)? != file(program)? {
            return Err(format!("process {pid} runs another program than {}", program.display()));
        }
        if process::tracer(pid) != Some(0) {
            return Err(format!("process {pid} is traced"));
        }
        let start = process::start_ticks(pid).ok_or_else(|| format!("process {pid} has ended"))?;
        if born(pid, start) == Some(false) {
            return Err(format!(
                "process {pid} was not made by the service manager out of the loader's directory"
            ));
        }
        // all of that was asked by number: it holds if the process that is held still runs
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(0) => Ok(Guest { pid, process, socket }),
            _ => Err(format!("process {pid} has ended")),
        }
    }
}

/// The cgroup of a unit in the same slice.
fn beside(own: &Path, unit: &str) -> Option<PathBuf> {
    let plain = !unit.is_empty() && !unit.contains('/') && !unit.starts_with('.');
    plain.then(|| own.parent().map(|slice| slice.join(unit)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(dir: &Path, uid: nix::unistd::Uid, cgroup: PathBuf) -> Door {
        let account = Account { uid, gid: nix::unistd::Gid::current() };
        let mut door = Door::open(dir, "sluiced.service", Path::new("/x/y"), account).unwrap();
        door.cgroup = cgroup;
        door
    }

    fn come(door: &Door, dir: &Path, program: &Path, born: Option<bool>) -> Result<Guest, String> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        let address = UnixAddr::new(&dir.join(SOCKET)).unwrap();
        nix::sys::socket::connect(socket.as_raw_fd(), &address).unwrap();
        door.next(program, |_, _| born).unwrap()
    }

    #[test]
    fn the_unit_is_beside_the_loader_s_own() {
        let own = Path::new("/sys/fs/cgroup/system.slice/sluice-loader.service");
        let there = Path::new("/sys/fs/cgroup/system.slice/sluiced.service");
        assert_eq!(beside(own, "sluiced.service").as_deref(), Some(there));
        for unit in ["", "../x", "..", "a/b"] {
            assert_eq!(beside(own, unit), None, "{unit}");
        }
    }

    /// Each thing alone keeps somebody out.
    #[test]
    fn who_does_not_fit_stays_outside() {
        let dir = tempfile::tempdir().unwrap();
        let me = nix::unistd::Uid::current();
        let own = std::env::current_exe().unwrap();
        // a machine without cgroup v2 has nobody who could come
        let Some(here) = process::cgroup_of(std::process::id()) else { return };
        let fits = door(dir.path(), me, here.clone());
        assert_eq!(come(&fits, dir.path(), &own, Some(true)).unwrap().pid, std::process::id());
        assert!(come(&fits, dir.path(), &own, None).is_ok());
        assert!(come(&fits, dir.path(), &own, Some(false)).unwrap_err().contains("service manager"));
        let other = come(&fits, dir.path(), Path::new("/bin/true"), None).unwrap_err();
        assert!(other.contains("another program"), "{other}");
        let elsewhere = door(dir.path(), me, here.join("other"));
        assert!(come(&elsewhere, dir.path(), &own, None).unwrap_err().contains("not in"));
        let somebody = nix::unistd::Uid::from_raw(me.as_raw() + 1);
        let other = door(dir.path(), me, here);
        let other = Door { account: Account { uid: somebody, ..other.account }, ..other };
        assert!(come(&other, dir.path(), &own, None).unwrap_err().contains("uid"));
    }
}
