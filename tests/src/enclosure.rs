//! The room around the world: a cgroup of its own, a mount and a network namespace of its own, and a janitor.
//!
//! Entered: a program that is to run inside. Left: nothing. Everything that the world starts lives in one cgroup
//! `sluice-demo-PID` under the root of cgroup v2 (never at the root itself); everything that it mounts, pins or connects
//! lives in namespaces that end with the last process of that cgroup. The janitor is a shell in a session of its own that
//! waits for the end of a pipe whose other end this process alone holds: it cleans up after an orderly end and after
//! `kill -9` alike, by the same road.
//!
//! The pid namespace stays the machine's: the kernel programs report the pids of the first one.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};

use crate::command::within;
use crate::{Context, Failure, Result};

/// Carries [`Room`] as JSON to the process inside.
const INSIDE: &str = "SLUICE_WORLD_INSIDE";

/// What the process inside must know of its room.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Room {
    /// The cgroup that everything lives in.
    pub cgroup: PathBuf,
    /// A directory under `target` that ends with the room.
    pub directory: PathBuf,
    /// Kept from run to run: the database's template, the provider's modules.
    pub cache: PathBuf,
    /// Where `sluice`, `sluiced`, `sluice-loader` and `sluice-ebpf.o` were built.
    pub binaries: PathBuf,
}

const JANITOR: &str = r#"
trap '' INT TERM HUP QUIT
read -r _
if ! echo 1 > "$1/cgroup.kill"; then
    for procs in "$1"/cgroup.procs "$1"/*/cgroup.procs "$1"/*/*/cgroup.procs; do
        while read -r pid; do kill -9 "$pid"; done < "$procs"
    done
fi
tries=0
while [ -d "$1" ] && [ $tries -lt 100 ]; do
    find "$1" -depth -type d -exec rmdir {} \;
    [ -d "$1" ] && sleep 0.05
    tries=$((tries + 1))
done
rm -rf "$2"
rmdir "$3"
"#;

impl Room {
    /// The room that this process is in; nothing outside of one.
    pub fn current() -> Result<Option<Room>> {
        match std::env::var(INSIDE) {
            Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
            Err(_) => Ok(None),
        }
    }

    /// Makes a room and runs this very program in it again, with `arguments`. Returns when nothing of it is left.
    pub fn run_again(arguments: &[OsString]) -> Result<ExitStatus> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Failure::new("namespaces, cgroups and kernel programs need root: run it with sudo"));
        }
        let room = Room::plan()?;
        fs::create_dir_all(&room.directory)
            .context(format!("failed to create `{}`", room.directory.display()))?;
        fs::create_dir_all(&room.cache).context(format!("failed to create `{}`", room.cache.display()))?;
        let janitor = room.janitor()?;
        let outcome = room.inside(arguments);
        finish(janitor)?;
        if room.cgroup.exists() {
            return Err(Failure::new(format!("`{}` could not be removed", room.cgroup.display())));
        }
        outcome
    }

    fn plan() -> Result<Room> {
        let binaries = binaries()?;
        let demo = binaries.parent().unwrap_or(&binaries).join("demo");
        let name = format!("sluice-demo-{}", std::process::id());
        Ok(Room {
            cgroup: unified()?.join(&name),
            directory: demo.join("worlds").join(&name),
            cache: demo.join("cache"),
            binaries,
        })
    }

    fn janitor(&self) -> Result<Child> {
        for part in ["harness", "guarded", "outside"] {
            let path = self.cgroup.join(part);
            fs::create_dir_all(&path).context(format!("failed to create the cgroup `{}`", path.display()))?;
        }
        Command::new("setsid")
            .args(["/bin/sh", "-c", JANITOR, "sluice-janitor"])
            .arg(&self.cgroup)
            .arg(&self.directory)
            .arg(self.directory.parent().unwrap_or(&self.directory))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start the janitor")
    }

    fn inside(&self, arguments: &[OsString]) -> Result<ExitStatus> {
        let program = std::env::current_exe()?;
        // Ctrl-C reaches the process inside by the terminal; here it must not end the one who cleans up.
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGHUP);
        signals.thread_block()?;
        let mut child = within(&self.cgroup.join("harness"), "unshare")
            .args(["--mount", "--net", "--uts", "--propagation", "private", "--"])
            .arg(program)
            .args(arguments)
            .env(INSIDE, serde_json::to_string(self)?)
            .spawn()
            .context("failed to enter namespaces of its own")?;
        let kill = self.cgroup.join("cgroup.kill");
        std::thread::spawn(move || {
            if signals.wait().is_ok() {
                // A moment for the process inside to say goodbye by itself; then everything in the room ends.
                std::thread::sleep(std::time::Duration::from_millis(500));
                drop(fs::write(&kill, "1"));
            }
        });
        child.wait().context("failed to wait for the process inside")
    }
}

fn finish(mut janitor: Child) -> Result<()> {
    drop(janitor.stdin.take());
    janitor.wait().context("failed to wait for the janitor").map(drop)
}

/// Where cgroup v2 is mounted: `/sys/fs/cgroup`, or `…/unified` on hybrid hosts.
fn unified() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let at = fields.next()?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(at))
        })
        .next()
        .context("cgroup v2 is not mounted: `mount -t cgroup2 none DIR` first")
}

/// The directory that cargo put the binaries into: `SLUICE_BINARIES`, else the one this program stands in.
fn binaries() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("SLUICE_BINARIES") {
        return Ok(PathBuf::from(given));
    }
    let program = std::env::current_exe()?;
    let directory = program.parent().context("the program has no directory")?;
    // Test programs stand in `deps` below it.
    let directory =
        if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    Ok(directory.to_owned())
}

/// Runs `body` in a world of its own; for tests. `test` is the test's full name as libtest knows it.
///
/// # Panics
/// When the room can't be made or `body` fails: it is a test.
#[expect(clippy::panic, reason = "the assertion of a test")]
pub fn in_room(test: &str, body: impl FnOnce(Room) -> Result<()>) {
    let result = Room::current().and_then(|room| match room {
        Some(room) => body(room),
        None => {
            let arguments = ["--exact", test, "--nocapture", "--include-ignored"].map(OsString::from);
            let status = Room::run_again(&arguments)?;
            if status.success() {
                Ok(())
            } else {
                Err(Failure::new(format!("the test inside ended with {status}")))
            }
        }
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
