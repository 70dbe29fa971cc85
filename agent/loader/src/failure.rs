//! What becomes of the host where the guard can't stand: a configuration that can't be read, a kernel that refuses.
//!
//! Must hold: by default what the configuration says is protected can't be reached. In this order, the first that works:
//! what is pinned since this boot holds already; those programs that the kernel takes refuse every connect; routes
//! prohibit the addresses. Somebody at the console is told what happened and the way back (`sluice-loader disarm`), and
//! that way works without the configuration.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use nix::unistd::Gid;
use sluice_config::{Config, OnFailure};

use crate::kernel::Guard;
use crate::mode::{self, Mode};
use crate::names::{self, Known, now_s, wanted};
use crate::serve::places;
use crate::{grounds, proxy, route};

/// The last configuration with which a guard stood, in a directory of its own under the state directory.
const GOOD: &str = "good/sluice.toml";
/// Names are waited for so long.
const RESOLVE: Duration = Duration::from_secs(5);
/// What agetty(8) shows above its prompt.
const ISSUE: &str = "/run/issue.d/sluice.issue";

/// A configuration, and where it came from.
pub(crate) struct Served {
    pub(crate) config: Config,
    /// The file that the proxy is to read.
    pub(crate) path: PathBuf,
    /// Why it is not the file that was named; empty: it is.
    pub(crate) degraded: String,
    /// Under which the copy is kept.
    pub(crate) state: PathBuf,
}

/// The configuration, or the last good copy of it.
///
/// # Errors
/// What is wrong with the file, where there is no copy either.
pub(crate) fn configuration(path: &Path, state: &Path) -> Result<Served, String> {
    let words = |wrong: Vec<sluice_config::Diagnostic>| {
        wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let wrong = match Config::load(path) {
        Ok(config) => {
            return Ok(Served {
                config,
                path: path.to_owned(),
                degraded: String::new(),
                state: state.to_owned(),
            });
        }
        Err(wrong) => words(wrong),
    };
    let copy = state.join(GOOD);
    match Config::load(&copy) {
        Ok(config) => {
            tracing::error!("{wrong}\nthe last good copy serves: {}", copy.display());
            let degraded = format!("{wrong}\nthe last good copy serves ({})", copy.display());
            Ok(Served { config, path: copy, degraded, state: state.to_owned() })
        }
        Err(_) => Err(wrong),
    }
}

/// Keeps a copy of the file that a guard has just stood with. That there is none is said, and no reason not to guard.
pub(crate) fn keep(path: &Path, config: &Config, state: &Path) {
    // what has been written since is for the next time
    if Config::load(path).is_ok_and(|now| now == *config)
        && let Err(error) = copy(path, &state.join(GOOD), config)
    {
        tracing::warn!(%error, "no copy of the configuration could be kept in {}", state.display());
    }
}

fn copy(from: &Path, to: &Path, config: &Config) -> io::Result<()> {
    let bytes = fs::read(from)?;
    let dir = to.parent().ok_or_else(|| io::Error::other("no directory to keep it in"))?;
    let group = directory(dir, config)?;
    put(to, &bytes, group)
}

/// A directory that the proxy may read and root alone may write; the proxy's group.
fn directory(dir: &Path, config: &Config) -> io::Result<Gid> {
    let Ok(account) = grounds::account(config) else {
        return Err(io::Error::other("nobody to keep it for"));
    };
    if fs::metadata(dir.parent().unwrap_or(dir))?.uid() != 0 {
        return Err(io::Error::other("the directory is not root's"));
    }
    fs::create_dir_all(dir)?;
    nix::unistd::chown(dir, Some(0.into()), Some(account.gid))?;
    fs::set_permissions(dir, Permissions::from_mode(0o750))?;
    Ok(account.gid)
}

/// Writes a file, whole or not at all: the proxy has to read it, and nobody else has a use for it.
fn put(to: &Path, bytes: &[u8], group: Gid) -> io::Result<()> {
    let new = to.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&new)?;
    file.write_all(bytes)?;
    nix::unistd::fchown(&file, Some(0.into()), Some(group))?;
    fs::set_permissions(&new, Permissions::from_mode(0o640))?;
    file.sync_all()?;
    fs::rename(new, to)
}

/// Keeps a copy of the policy that the proxy has accepted, if it still is what it was before the proxy read it: `before`.
pub(crate) fn keep_policy(config: &Config, before: Option<Texts>) {
    let (Some(before), Some(now)) = (before, policy(config)) else { return };
    if before == now
        && let Err(error) = copy_policy(config, &now)
    {
        tracing::warn!(%error, "no copy of the policy could be kept in {}", config.agent.state_dir.display());
    }
}

/// Path and text of each file of the policy.
pub(crate) type Texts = Vec<(String, String)>;

/// The policy's files as they are; nothing where one can't be read.
pub(crate) fn policy(config: &Config) -> Option<Texts> {
    config.policy_sources().ok()
}

fn copy_policy(config: &Config, texts: &Texts) -> io::Result<()> {
    let home = sluice_config::good_policy(&config.agent.state_dir);
    let named: Vec<(&OsStr, &str)> =
        texts.iter().filter_map(|(path, text)| Some((Path::new(path).file_name()?, text.as_str()))).collect();
    let same =
        |(name, text): &(&OsStr, &str)| fs::read(home.join(name)).is_ok_and(|there| there == text.as_bytes());
    let count = fs::read_dir(&home).map_or(0, Iterator::count);
    if count == named.len() && named.iter().all(same) {
        return Ok(());
    }
    // a directory at a time, so that a copy is never of two policies
    let (new, old) = (home.with_extension("new"), home.with_extension("old"));
    for left in [&new, &old] {
        match fs::remove_dir_all(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    directory(new.parent().unwrap_or(&new), config)?;
    let group = directory(&new, config)?;
    for (name, text) in named {
        put(&new.join(name), text.as_bytes(), group)?;
    }
    match fs::rename(&home, &old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(&new, &home)?;
    // what was good before is of no use any more
    let _ = fs::remove_dir_all(&old);
    Ok(())
}

/// The guard does not stand, for this reason.
pub(crate) fn answer(config: &Config, why: &str) {
    let standing = mode::read(&config.agent.state_dir, config.guard.mode, now_s());
    if standing.mode != Mode::Enforce {
        return say(why, "Nothing is enforced, as somebody has said before.");
    }
    if config.guard.on_failure == OnFailure::Open {
        // what an earlier loader has pinned would still refuse
        if let Err(error) = open(&config.guard.pins, Mode::Observe) {
            tracing::error!(error, "what is pinned could not be opened");
        }
        return say(why, "guard.on_failure is \"open\": everybody reaches everything directly.");
    }
    let held = close(config);
    say(why, &held);
}

/// Closes by what there is; in words, by what.
fn close(config: &Config) -> String {
    const BACK: &str = "The way back in, as root on this console: sluice-loader disarm --reason TEXT";
    if Guard::holds(&config.guard.pins) {
        return format!("What stands in the kernel keeps what is protected closed. {BACK}");
    }
    let mut known = Known::read(config);
    // what was known before is closed whether anybody answers or not
    known.update(&names::round(wanted(config), RESOLVE), config, now_s());
    let places = places(config, &known);
    let object = proxy::beside("sluice-ebpf.o");
    let denied = grounds::cgroup(config).and_then(|cgroup| {
        Guard::deny(&object, &cgroup, &config.guard.pins, &places).map_err(|e| e.to_string())
    });
    let first = match denied {
        Ok(programs) => {
            return format!(
                "What is protected can't be reached: {} programs refuse it. {BACK}",
                programs.len()
            );
        }
        Err(error) => error,
    };
    let mut failed = Vec::new();
    let mut networks: Vec<IpNet> = places.iter().map(|place| place.network).collect();
    networks.dedup();
    for network in &networks {
        if let Err(error) = route::prohibit(*network) {
            failed.push(format!("{network}: {error}"));
        }
    }
    tracing::error!(error = first, "the kernel takes none of the programs");
    if failed.is_empty() && !networks.is_empty() {
        return format!(
            "What is protected can't be reached: routes prohibit {} addresses. {BACK}",
            networks.len()
        );
    }
    format!("NOT CLOSED: neither programs nor routes could be put there ({}). {BACK}", failed.join("; "))
}

/// The guard stands again: what stood in its place goes.
pub(crate) fn over() {
    if let Err(error) = route::allow() {
        tracing::error!(%error, "routes that prohibit stay");
    }
    // absent where nothing was said
    let _ = fs::remove_file(ISSUE);
}

/// Lets everything pass without a loader: by the pinned table, and without the routes.
pub(crate) fn open(pins: &Path, mode: Mode) -> Result<(), String> {
    let routes = route::allow().map_err(|error| format!("routes: {error}"));
    Guard::open(pins, mode).map_err(|error| error.to_string()).and(routes)
}

fn say(why: &str, what: &str) {
    let text = format!("\nSluice does not guard this host: {why}\n{what}\n\n");
    tracing::error!("{what}");
    let plain: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    let console =
        OpenOptions::new().write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open("/dev/console");
    // a machine without one has nobody there
    let _ = console.and_then(|mut console| console.write_all(plain.replace('\n', "\r\n").as_bytes()));
    let shown = Path::new(ISSUE).parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        // a backslash would be a command of agetty's
        fs::write(ISSUE, plain.replace('\\', "/"))
    });
    if let Err(error) = shown {
        tracing::warn!(%error, "{ISSUE}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_copy_the_file_s_own_fault_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sluice.toml");
        fs::write(&path, "[agent]\nuser = \"x\"\nuser = \"y\"\n").unwrap();
        let Err(wrong) = configuration(&path, dir.path()) else { panic!("a duplicate key") };
        assert!(wrong.contains("sluice.toml:3:1"), "{wrong}");
    }

    #[test]
    fn a_copy_serves_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("sluice.toml"), dir.path().join(GOOD));
        let good = include_str!("../../../packaging/example/sluice.toml");
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(&copy, good).unwrap();
        fs::write(&path, format!("\u{feff}{good}")).unwrap();
        let served = configuration(&path, dir.path()).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert!(served.degraded.contains("byte order mark"), "{}", served.degraded);
        assert_eq!(served.path, copy);
        fs::write(&path, good).unwrap();
        assert!(configuration(&path, dir.path()).is_ok_and(|served| served.degraded.is_empty()));
    }
}
