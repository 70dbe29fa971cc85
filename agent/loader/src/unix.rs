//! Unix sockets of services of this host: nobody but their owner and root opens them.
//!
//! A socket's file is what the kernel asks for permission, by whatever way somebody comes to it: another name, a link, a
//! bind mount, a descriptor. Enters: the paths of the configuration. What must hold: the service keeps its path and its own
//! user keeps his way in (its maintenance); a socket that the service makes anew is taken care of at once; what was changed
//! is changed back when the guard goes.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use sluice_config::Config;

use crate::grounds;
use crate::kernel::Layer;

/// File under the state directory: what was changed, a line each: permissions, inode, path.
const KEPT: &str = "unix";
/// Permissions of everybody but the owner.
const OTHERS: u32 = 0o077;
/// A user that owns nothing, by the kernel's own convention (`overflowuid`).
const NOBODY: u32 = 65_534;

/// The sockets that the configuration names.
pub(crate) struct Sockets {
    paths: Vec<PathBuf>,
    inotify: Option<Inotify>,
    faults: BTreeMap<PathBuf, String>,
    /// Permissions and inode before, by path.
    before: BTreeMap<PathBuf, (u32, u64)>,
}

/// Every path of every target.
fn named(config: &Config) -> Vec<PathBuf> {
    let targets = config.targets.iter().filter_map(|target| target.postgres());
    targets.flat_map(|postgres| postgres.unix.iter().cloned()).collect()
}

fn remembered(config: &Config) -> BTreeMap<PathBuf, (u32, u64)> {
    let text = grounds::kept(config, KEPT).unwrap_or_default();
    let line = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
        let inode = parts.next()?.parse().ok()?;
        Some((PathBuf::from(parts.next()?), (mode, inode)))
    };
    text.lines().filter_map(line).collect()
}

/// The socket itself, not what a link at its place leads to.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.file_type().is_socket() {
        return Ok(file);
    }
    Err(io::Error::other("it is no socket"))
}

/// By the descriptor: the name may be another file's by now.
fn permit(socket: &File, mode: u32) -> io::Result<()> {
    fs::set_permissions(format!("/proc/self/fd/{}", socket.as_raw_fd()), Permissions::from_mode(mode))
}

impl Sockets {
    /// Closes them, and gives back those that the configuration no longer names: all of them, where nothing is enforced.
    pub(crate) fn guard(config: &Config, enforcing: bool) -> Self {
        let paths = if enforcing { named(config) } else { Vec::new() };
        let mut before = remembered(config);
        before.retain(|path, was| paths.contains(path) || !give_back(path, *was));
        let mut faults = BTreeMap::new();
        let inotify = watch(&paths, &mut faults);
        let mut sockets = Self { paths, inotify, faults, before };
        sockets.look(config);
        sockets
    }

    /// What is pollable when something has happened beside one of them.
    pub(crate) fn news(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(|inotify| inotify.as_fd())
    }

    /// It has: the service may have made its socket anew, or opened it.
    pub(crate) fn look(&mut self, config: &Config) {
        if let Some(inotify) = &self.inotify {
            // what has happened does not matter
            while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
        let mut changed = false;
        for path in &self.paths {
            match close(path) {
                Ok(Some(was)) => {
                    tracing::info!(socket = %path.display(), "closed to all but its owner and root");
                    changed |= self.before.insert(path.clone(), was) != Some(was);
                    self.faults.remove(path);
                }
                Ok(None) => drop(self.faults.remove(path)),
                // the service does not run
                Err(error) if error.kind() == io::ErrorKind::NotFound => drop(self.faults.remove(path)),
                Err(error) => {
                    tracing::error!(socket = %path.display(), %error, "it could not be closed");
                    self.faults.insert(path.clone(), error.to_string());
                }
            }
        }
        if changed && let Err(error) = self.keep(config) {
            tracing::warn!(%error, "the sockets' permissions could not be written down; a disarm leaves them closed");
        }
    }

    fn keep(&self, config: &Config) -> io::Result<()> {
        let line = |(path, (mode, inode)): (&PathBuf, &(u32, u64))| {
            // a path with a line's end in it is not given back
            let path = path.to_str().filter(|path| !path.contains('\n'))?;
            Some(format!("{mode:o}\t{inode}\t{path}\n"))
        };
        grounds::keep(config, KEPT, &self.before.iter().filter_map(line).collect::<String>())
    }

    /// Whether somebody who is neither their owner nor root is refused, tried by a process of such a user. Nothing where no
    /// target names any.
    pub(crate) fn layer(&self) -> Option<Layer> {
        if self.paths.is_empty() {
            return None;
        }
        let (state, proof) = match (self.faults.iter().next(), self.send()) {
            (Some((path, fault)), _) => ("absent", format!("{}: {fault}", path.display())),
            (None, Ok(proof)) => ("enforced", proof),
            (None, Err(proof)) => ("absent", proof),
        };
        Some(Layer { name: "unix", state, proof })
    }

    fn send(&self) -> Result<String, String> {
        let said = Command::new("/proc/self/exe")
            .arg("unix-canary")
            .args(&self.paths)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("the canary did not start: {error}"))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        match lines.iter().find(|line| !matches!(**line, "refused" | "not there")) {
            Some(line) => Err((*line).to_owned()),
            None if lines.len() != self.paths.len() => Err("the canary did not try all of them".to_owned()),
            None if lines.contains(&"refused") => Ok(format!(
                "a canary of another user was refused {} socket(s); their owner and root are not",
                lines.iter().filter(|line| **line == "refused").count()
            )),
            None => Ok("no service has made its socket yet; it will be closed as soon as one has".to_owned()),
        }
    }
}

/// Closes one; what it was before, where that was open.
fn close(path: &Path) -> io::Result<Option<(u32, u64)>> {
    let socket = open(path)?;
    let meta = socket.metadata()?;
    let mode = meta.mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(None);
    }
    permit(&socket, mode & !OTHERS)?;
    Ok(Some((mode, meta.ino())))
}

/// Whether there is nothing more to do about it.
fn give_back(path: &Path, (mode, inode): (u32, u64)) -> bool {
    let outcome = open(path).and_then(|socket| {
        // one that was made anew is the service's own affair
        if socket.metadata()?.ino() == inode { permit(&socket, mode) } else { Ok(()) }
    });
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(socket = %path.display(), %error, "its permissions could not be given back");
            false
        }
        _ => true,
    }
}

/// Gives all of them back: the host is no longer guarded.
pub(crate) fn disarm(config: &Config) {
    for (path, was) in remembered(config) {
        give_back(&path, was);
    }
}

fn watch(paths: &[PathBuf], faults: &mut BTreeMap<PathBuf, String>) -> Option<Inotify> {
    if paths.is_empty() {
        return None;
    }
    let fault = |error: nix::Error| format!("a new socket would not be noticed: {error}");
    let inotify = match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
        Ok(inotify) => inotify,
        Err(error) => {
            faults.extend(paths.iter().map(|path| (path.clone(), fault(error))));
            return None;
        }
    };
    let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB;
    for path in paths {
        if let Err(error) = inotify.add_watch(path.parent().unwrap_or(Path::new("/")), flags) {
            faults.insert(path.clone(), fault(error));
        }
    }
    Some(inotify)
}

/// `sluice-loader unix-canary PATH…`: a line each, what becomes of somebody who is neither owner nor root.
pub(crate) fn canary(paths: &[PathBuf]) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    for path in paths {
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => println!("refused"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => println!("not there"),
            Err(error) => println!("{}: expected to be refused, but saw `{error}`", path.display()),
            Ok(_) => println!("{}: a canary of another user has connected", path.display()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_is_closed_and_given_back_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(close(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let _listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        let was = close(&path).unwrap().unwrap();
        assert_eq!((was.0, mode(&path)), (0o777, 0o700));
        assert_eq!(close(&path).unwrap(), None);
        assert!(give_back(&path, (0o777, was.1 + 1)) && mode(&path) == 0o700, "made anew");
        assert!(give_back(&path, was) && mode(&path) == 0o777);
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let before = mode(&file);
        assert!(close(&file).is_err() && close(&link).is_err());
        assert_eq!((mode(&file), mode(&path)), (before, 0o777));
    }
}
