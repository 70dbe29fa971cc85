//! Files that change: the configuration and the policies.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Watches directories, since editors and package managers replace files by renaming.
pub(crate) struct Watch {
    inotify: Inotify,
    since: Option<Instant>,
}

impl Watch {
    /// Watches the directories of the configuration and of the policies.
    pub(crate) fn start(config: &Path, policies: &Path) -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB;
        for dir in [config.parent().unwrap_or(Path::new("/")), policies] {
            inotify.add_watch(dir, flags)?;
        }
        Ok(Self { inotify, since: None })
    }

    /// To be polled.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Takes what has happened. Only configuration and policies count.
    pub(crate) fn noticed(&mut self) {
        while let Ok(events) = self.inotify.read_events() {
            let counts = |name: &std::ffi::OsStr| {
                let name = Path::new(name);
                name.extension().is_some_and(|e| e == "toml" || e == "cedar")
            };
            // without a name it is the directory itself
            if events.iter().any(|event| event.name.as_deref().is_none_or(counts)) {
                self.since = Some(Instant::now());
            }
        }
    }

    /// When something happened last that was not dealt with.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether something has happened and nothing since; said once.
    pub(crate) fn calm_for(&mut self, calm: Duration) -> bool {
        let calm = self.since.is_some_and(|since| since.elapsed() >= calm);
        if calm {
            self.since = None;
        }
        calm
    }
}
