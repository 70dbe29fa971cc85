//! Unix sockets of services of this host: whoever connects there meets the proxy.
//!
//! The proxy's socket stands at the service's path (`place.rs` puts it there), and the service's own in a directory beside
//! it. Where a file system can't exchange them the permissions stand alone: a socket's file is what the kernel asks for
//! permission, by whatever way somebody comes to it. Enters: the paths of the configuration. What must hold: nobody but the
//! service's own user, where the configuration leaves him his maintenance, and root comes to the service's own socket; a
//! socket that the service makes anew is taken care of at once; what was changed is changed back when the guard goes.

mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use sluice_config::{Config, UnixMaintenance};

use self::place::{Place, Standing, give_back};
use crate::grounds;
use crate::kernel::Layer;

/// File under the state directory: what was changed, a line each: permissions, inode, path.
const KEPT: &str = "unix";
/// A user that owns nothing, by the kernel's own convention (`overflowuid`).
const NOBODY: u32 = 65_534;

/// The sockets that the configuration names.
#[derive(Default)]
pub(crate) struct Sockets {
    places: Vec<Place>,
    inotify: Option<Inotify>,
    faults: BTreeMap<PathBuf, String>,
    /// Why the proxy does not stand there.
    unserved: BTreeMap<PathBuf, String>,
    /// Permissions and inode before, by path.
    before: BTreeMap<PathBuf, (u32, u64)>,
    /// The listeners that the proxy was given.
    given: BTreeSet<(u64, u64)>,
}

/// A listener for the proxy: the name of its target, the path.
pub(crate) type Served = (String, PathBuf, OwnedFd);

/// Every path of every target.
fn named(config: &Config) -> Vec<Place> {
    let targets = config.targets.iter().filter_map(|target| Some((target, target.postgres()?)));
    let places = targets.flat_map(|(target, postgres)| {
        postgres.unix.iter().map(|path| Place::new(&target.name, path, postgres.unix_maintenance))
    });
    places.collect()
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

impl Sockets {
    /// Takes care of them, and gives back those that the configuration no longer names: all of them, where nothing is
    /// enforced. `earlier`: whose listeners go on.
    pub(crate) fn guard(config: &Config, enforcing: bool, earlier: Option<Self>) -> Self {
        let mut places = if enforcing { named(config) } else { Vec::new() };
        if let Some(mut earlier) = earlier {
            places.iter_mut().for_each(|place| place.inherit(&mut earlier.places));
        }
        let mut before = remembered(config);
        before.retain(|path, was| {
            places.iter().any(|place| place.path == *path) || !returned(path, Some(*was))
        });
        if !enforcing {
            for place in named(config) {
                returned(&place.path, None);
            }
        }
        let (faults, unserved) = (BTreeMap::new(), BTreeMap::new());
        let mut sockets = Self { places, inotify: None, faults, unserved, before, given: BTreeSet::new() };
        sockets.inotify = sockets.watch();
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
        for place in &mut self.places {
            let path = place.path.clone();
            // as it is now: it is written down before it is changed
            let now = fs::symlink_metadata(&path).ok().filter(|now| now.mode() & place::OTHERS != 0);
            let now = now.filter(|now| Some((now.dev(), now.ino())) != place.proxys());
            if let Some(now) = now {
                let was = (now.mode() & 0o7777, now.ino());
                changed |= self.before.insert(path.clone(), was) != Some(was);
            }
            self.unserved.remove(&path);
            match place.look(self.before.get(&path).copied()) {
                Ok(Standing::Nothing | Standing::Proxy) => drop(self.faults.remove(&path)),
                Ok(Standing::Service(why)) => {
                    self.faults.remove(&path);
                    tracing::warn!(socket = %path.display(), why, "closed to all but its owner and root, and not served");
                    self.unserved.insert(path, why);
                }
                Err(error) => {
                    tracing::error!(socket = %path.display(), %error, "it could not be closed");
                    self.faults.insert(path, error.to_string());
                }
            }
        }
        self.watch_own();
        if changed && let Err(error) = self.keep(config) {
            tracing::warn!(%error, "the sockets' permissions could not be written down; a disarm may leave them closed");
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

    /// The listeners, where they are others than the proxy has; `anew`: where it has none yet.
    pub(crate) fn news_for_proxy(&mut self, anew: bool) -> Option<Vec<Served>> {
        let now: BTreeSet<_> = self.places.iter().filter_map(Place::proxys).collect();
        if !anew && now == self.given {
            return None;
        }
        self.given = now;
        let one = |place: &Place| match place.listener()? {
            Ok(listener) => Some((place.target.clone(), place.path.clone(), listener)),
            Err(error) => {
                tracing::error!(socket = %place.path.display(), %error, "the proxy is not given its listener");
                None
            }
        };
        Some(self.places.iter().filter_map(one).collect())
    }

    /// The services' own, to which nobody but the loader and the proxy may connect at all (layer `lsm`).
    pub(crate) fn sealed(&self, config: &Config) -> Vec<PathBuf> {
        let of = |name: &str| config.targets.iter().find(|target| target.name == name)?.postgres();
        let places = self.places.iter();
        let sealed = places.filter(|place| {
            of(&place.target).is_some_and(|postgres| postgres.unix_maintenance == UnixMaintenance::Nobody)
        });
        sealed.map(Place::own).collect()
    }

    /// Whether somebody who is neither their owner nor root meets the proxy, tried by a process of such a user. Nothing
    /// where no target names any.
    pub(crate) fn layer(&self) -> Option<Layer> {
        if self.places.is_empty() {
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
        let mut command = Command::new("/proc/self/exe");
        command.arg("unix-canary");
        for place in &self.places {
            let (_, inode) = place.proxys().unwrap_or_default();
            command.arg(&place.path).arg(place.own()).arg(inode.to_string());
        }
        let said = command
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("the canary did not start: {error}"))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        let count = |word: &str| lines.iter().filter(|line| **line == word).count();
        let (led, refused, absent) = (count("led"), count("refused"), count("not there"));
        if let Some(line) = lines.iter().find(|line| !matches!(**line, "led" | "refused" | "not there")) {
            return Err((*line).to_owned());
        }
        if lines.len() != self.places.len() {
            return Err("the canary did not try all of them".to_owned());
        }
        if absent == lines.len() {
            return Ok(
                "no service has made its socket yet; it will be taken care of as soon as one has".to_owned()
            );
        }
        let mut proof = format!("a canary of another user was led to the proxy at {led} socket(s)");
        if refused > 0 {
            proof = format!("{proof}, and refused at {refused}");
        }
        if let Some((path, why)) = self.unserved.iter().next() {
            let path = path.display();
            proof = format!("{proof}; {path} is closed to all but its owner and root, and not served: {why}");
        }
        Ok(proof)
    }

    /// Their owner may open the services' own again.
    fn watch_own(&self) {
        let Some(inotify) = &self.inotify else { return };
        for place in &self.places {
            // one that is not there yet is watched at the next look
            let _ =
                inotify.add_watch(place.own().parent().unwrap_or(Path::new("/")), AddWatchFlags::IN_ATTRIB);
        }
    }

    fn watch(&mut self) -> Option<Inotify> {
        if self.places.is_empty() {
            return None;
        }
        let fault = |error: nix::Error| format!("a new socket would not be noticed: {error}");
        let inotify = match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
            Ok(inotify) => inotify,
            Err(error) => {
                self.faults.extend(self.places.iter().map(|place| (place.path.clone(), fault(error))));
                return None;
            }
        };
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB;
        for place in &self.places {
            let directory = place.path.parent().unwrap_or(Path::new("/"));
            if let Err(error) = inotify.add_watch(directory, flags) {
                self.faults.insert(place.path.clone(), fault(error));
            }
        }
        Some(inotify)
    }
}

/// Whether there is nothing more to do about it.
fn returned(path: &Path, was: Option<(u32, u64)>) -> bool {
    let outcome = give_back(path, was);
    if let Err(error) = &outcome {
        tracing::warn!(socket = %path.display(), %error, "it could not be given back");
    }
    outcome.is_ok()
}

/// Gives all of them back: the host is no longer guarded.
pub(crate) fn disarm(config: &Config) {
    let mut all = remembered(config);
    for place in named(config) {
        let was = all.remove(&place.path);
        returned(&place.path, was);
    }
    for (path, was) in all {
        returned(&path, Some(was));
    }
}

/// `sluice-loader unix-canary (PATH OWN INODE)…`: a line each, what becomes of somebody who is neither owner nor root. PATH
/// is to lead to the file INODE, OWN to nobody.
pub(crate) fn canary(arguments: &[PathBuf]) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    for [path, own, inode] in arguments.as_chunks::<3>().0 {
        match UnixStream::connect(own) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => {}
            Err(error) => {
                println!("{}: expected to be refused, but saw `{error}`", own.display());
                continue;
            }
            Ok(_) => {
                println!("{}: a canary of another user has connected", own.display());
                continue;
            }
        }
        match fs::metadata(path) {
            // by the file, so that a probe never meets the proxy
            Ok(found) if Some(found.ino().to_string().as_str()) == inode.to_str() => println!("led"),
            Ok(_) => match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => println!("refused"),
                Err(error) => println!("{}: expected to be refused, but saw `{error}`", path.display()),
                Ok(_) => println!("{}: a canary of another user has connected", path.display()),
            },
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => println!("refused"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => println!("not there"),
            Err(error) => println!("{}: expected to be refused, but saw `{error}`", path.display()),
        }
    }
    Ok(())
}
