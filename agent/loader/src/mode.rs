//! Whether the guard enforces: `enforce`, `observe` (all is told as it would be, nothing is enforced) or `disarmed` (the
//! same, said loudly, by somebody with a reason).
//!
//! What stands is the last whole line of a journal under `agent.state_dir`, which root alone can write. Must hold: a change
//! is in the journal and on the disk before it takes effect; what can't be read counts as not said; where nothing was said
//! `guard.mode` decides, and that is `enforce` unless configured.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sluice_config::GuardMode;

/// File under the state directory.
const JOURNAL: &str = "modes";
/// The longest text in a field.
const MAX_TEXT: usize = 500;

/// What is done with what the programs find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Redirect, refuse, drop.
    Enforce,
    /// Tell what would be done.
    Observe,
    /// Likewise: somebody has taken the guard away for a while.
    Disarmed,
}

impl Mode {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
            Self::Disarmed => "disarmed",
        }
    }

    /// Of a name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        [Self::Enforce, Self::Observe, Self::Disarmed].into_iter().find(|mode| mode.name() == name)
    }

    /// As the kernel programs know it.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Enforce => sluice_abi::mode::ENFORCE,
            Self::Observe | Self::Disarmed => sluice_abi::mode::PASSIVE,
        }
    }
}

/// A mode, and who has said so why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) mode: Mode,
    /// Second since 1970; 0: nobody has said it.
    pub(crate) since: u64,
    /// Until when; then the guard enforces again. 0: until somebody says so.
    pub(crate) until: u64,
    pub(crate) by: String,
    /// Who has agreed.
    pub(crate) approved: String,
    pub(crate) reason: String,
}

impl Standing {
    fn of_config(mode: GuardMode) -> Self {
        let mode = match mode {
            GuardMode::Enforce => Mode::Enforce,
            GuardMode::Observe => Mode::Observe,
        };
        let none = String::new;
        Self { mode, since: 0, until: 0, by: none(), approved: none(), reason: none() }
    }

    fn line(&self) -> String {
        let Self { mode, since, until, by, approved, reason } = self;
        let words = [by, approved, reason].map(|text| plain(text));
        format!("{since}\t{}\t{until}\t{}\n", mode.name(), words.join("\t"))
    }
}

/// One line, whatever somebody has written.
fn plain(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Where the journal is.
pub(crate) fn journal(state: &Path) -> PathBuf {
    state.join(JOURNAL)
}

/// What stands now: the last that was said, unless its time is over.
pub(crate) fn read(state: &Path, configured: GuardMode, now: u64) -> Standing {
    let text = fs::read(journal(state)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // a line that a crash has cut was never in effect
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    match whole.lines().last() {
        Some(line) => parse(line, now).unwrap_or_else(|| Standing::of_config(configured)),
        None => Standing::of_config(configured),
    }
}

/// `None`: nothing was said, or nothing that is understood.
fn parse(line: &str, now: u64) -> Option<Standing> {
    let mut fields = line.split('\t');
    let (since, mode, until) = (fields.next()?, fields.next()?, fields.next()?);
    let mut word = || fields.next().unwrap_or_default().to_owned();
    let (mode, until) = (Mode::of(mode)?, until.parse().ok()?);
    let said =
        Standing { mode, since: since.parse().ok()?, until, by: word(), approved: word(), reason: word() };
    if until == 0 || until > now {
        return Some(said);
    }
    let (by, reason) = ("sluice-loader".to_owned(), format!("the time of `{}` was over", said.mode.name()));
    Some(Standing { mode: Mode::Enforce, since: until, until: 0, by, approved: String::new(), reason })
}

/// Writes it down; on the disk when this returns.
pub(crate) fn write(state: &Path, standing: &Standing) -> io::Result<()> {
    append(state, &standing.line())
}

/// Whatever was said before does not count any more: the package is taken away.
pub(crate) fn forget(state: &Path, now: u64) -> io::Result<()> {
    append(state, &format!("{now}\tremoved\t0\troot\t\tthe programs were taken away\n"))
}

fn append(state: &Path, line: &str) -> io::Result<()> {
    let path = journal(state);
    let options = || {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        options
    };
    let mut file = options().open(&path)?;
    // behind a cut line the next one would not be read
    let cut = fs::read(&path)?.last().is_some_and(|last| *last != b'\n');
    if cut {
        file.write_all(b"\n")?;
    }
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    File::open(state)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disarmed(until: u64) -> Standing {
        let text = |text: &str| text.to_owned();
        let (mode, by, approved) = (Mode::Disarmed, text("carol"), text("dan"));
        Standing { mode, since: 100, until, by, approved, reason: text("the\tdatabase\nis down") }
    }

    #[test]
    fn what_was_said_last_stands_and_a_cut_line_was_never_said() {
        let dir = tempfile::tempdir().unwrap();
        let read = |now| read(dir.path(), GuardMode::Observe, now);
        assert_eq!(read(1).mode, Mode::Observe, "nothing was said");
        write(dir.path(), &disarmed(0)).unwrap();
        let standing = read(1);
        assert_eq!((standing.mode, standing.reason.as_str()), (Mode::Disarmed, "the database is down"));
        let mut file = OpenOptions::new().append(true).open(journal(dir.path())).unwrap();
        file.write_all(b"101\tenfo").unwrap();
        assert_eq!(read(1).mode, Mode::Disarmed);
        write(dir.path(), &Standing { mode: Mode::Enforce, ..disarmed(0) }).unwrap();
        assert_eq!(read(1).mode, Mode::Enforce);
        forget(dir.path(), 200).unwrap();
        assert_eq!(read(1).mode, Mode::Observe, "what was said before does not count");
        fs::write(journal(dir.path()), b"nonsense\n\xff\n").unwrap();
        assert_eq!(read(1).mode, Mode::Observe);
    }

    #[test]
    fn it_ends_by_itself_where_somebody_has_said_so() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &disarmed(500)).unwrap();
        assert_eq!(read(dir.path(), GuardMode::Observe, 499).mode, Mode::Disarmed);
        let after = read(dir.path(), GuardMode::Observe, 500);
        assert_eq!((after.mode, after.since), (Mode::Enforce, 500));
    }
}
