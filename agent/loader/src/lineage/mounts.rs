//! The places that judged sessions can execute programs from, also those that come after the login.
//!
//! A session's mount namespace is kept open for as long as the session lasts: its `mountinfo` says by POLLPRI that
//! something was mounted, and everything in it is marked anew. Marks are not remembered, since numbers of mounts and
//! devices are used again; to set one twice costs nothing.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::fanotify::{Fanotify, MarkFlags, MaskFlags};
use nix::sys::stat::Mode;
use sluice_abi::lineage::Session;

/// File systems without programs.
const NO_PROGRAMS: [&str; 16] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "mqueue",
    "bpf",
    "tracefs",
    "debugfs",
    "securityfs",
    "pstore",
    "efivarfs",
    "configfs",
    "fusectl",
    "autofs",
    "nsfs",
];

/// Mount namespaces of judged sessions, by inode.
#[derive(Default)]
pub(super) struct Mounts(HashMap<u64, View>);

/// What is mounted, as the processes of one namespace see it.
struct View {
    table: File,
    root: OwnedFd,
    /// Its file systems, by whatever mount; else the mounts alone, so that the rest of the host does not wait for us.
    whole_host: bool,
    sessions: HashSet<Session>,
}

impl Mounts {
    /// Looks at every place that the process can execute from, and at those to come.
    ///
    /// # Errors
    /// In words: some programs could run unasked.
    pub(super) fn watch(
        &mut self,
        group: &Fanotify,
        session: Session,
        pid: u32,
        whole_host: bool,
    ) -> Result<(), String> {
        let of = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
        let words = |error: io::Error| format!("the mounts of a session: {error}");
        let namespace = fs::metadata(of("ns/mnt")).map_err(words)?.ino();
        if let Some(view) = self.0.get_mut(&namespace) {
            view.sessions.insert(session);
            return view.mark(group);
        }
        // opened before it is read: what is mounted meanwhile is told
        let table = File::open(of("mountinfo")).map_err(words)?;
        let root = nix::fcntl::open(&of("root"), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|error| words(error.into()))?;
        let mut view = View { table, root, whole_host, sessions: HashSet::from([session]) };
        view.mark(group)?;
        self.0.insert(namespace, view);
        Ok(())
    }

    /// Nobody of this session is left.
    pub(super) fn forget(&mut self, session: Session) {
        self.0.retain(|_, view| {
            view.sessions.remove(&session);
            !view.sessions.is_empty()
        });
    }

    /// What says by POLLPRI that something was mounted, once each time.
    pub(super) fn news(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.values().map(|view| view.table.as_fd())
    }

    /// Something was.
    pub(super) fn look(&mut self, group: &Fanotify) {
        for view in self.0.values_mut() {
            if let Err(error) = view.mark(group) {
                tracing::error!(error, "programs on a new mount are not judged");
            }
        }
    }
}

impl View {
    fn mark(&mut self, group: &Fanotify) -> Result<(), String> {
        let mut text = String::new();
        self.table.rewind().and_then(|()| self.table.read_to_string(&mut text)).map_err(|e| e.to_string())?;
        let root = PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()));
        let kind = if self.whole_host { MarkFlags::FAN_MARK_FILESYSTEM } else { MarkFlags::FAN_MARK_MOUNT };
        let mut refused = Ok(());
        for place in places(&text) {
            let path = root.join(place.at.strip_prefix("/").unwrap_or(&place.at));
            let flags = MarkFlags::FAN_MARK_ADD | kind;
            match group.mark(flags, MaskFlags::FAN_OPEN_EXEC_PERM, AT_FDCWD, Some(path.as_path())) {
                // hidden by another mount: nobody gets there by this path
                Ok(()) | Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => {}
                Err(error) => refused = Err(format!("{} ({}): {error}", place.at.display(), place.kind)),
            }
        }
        refused
    }
}

/// Looks at one file alone.
pub(super) fn mark_file(group: &Fanotify, path: &Path) -> io::Result<()> {
    Ok(group.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_EXEC_PERM, AT_FDCWD, Some(path))?)
}

/// A mount that programs can be on.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    at: PathBuf,
    kind: String,
}

/// Those of a `mountinfo`: proc_pid_mountinfo(5).
fn places(text: &str) -> Vec<Mounted> {
    let mount = |line: &str| {
        let (before, behind) = line.split_once(" - ")?;
        let fields: Vec<&str> = before.split(' ').collect();
        let (at, options) = (fields.get(4)?, fields.get(5)?);
        let kind = behind.split(' ').next()?;
        let runs = !options.split(',').any(|option| option == "noexec") && !NO_PROGRAMS.contains(&kind);
        runs.then(|| Mounted { at: PathBuf::from(unescaped(at)), kind: kind.to_owned() })
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
    }
}
