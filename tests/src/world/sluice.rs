//! Sluice as it is installed: configuration, policy, `sluice-loader` and whoever restarts it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{HOME, World, mounts, own};
use crate::command::{Said, hear, until, within};
use crate::enclosure::Room;
use crate::{Context, Failure, Result};

/// The configuration, with `@NAME@` where the world decides.
pub(super) const CONFIG: &str = include_str!("../../fixtures/sluice.toml");
/// The policy of the tour: the shop, and the application server.
const POLICY: [(&str, &str); 2] = [
    ("tour.cedar", include_str!("../../fixtures/policy/tour.cedar")),
    ("ssh.cedar", include_str!("../../fixtures/policy/ssh.cedar")),
];
/// The default of `agent.run_dir`; in the room it is on a file system of its own, so plain `sluice` finds the socket.
const RUN: &str = "/run/sluice";

/// A guarded host.
pub struct Sluice {
    /// `sluice.toml`.
    pub config: PathBuf,
    /// Recordings and keys.
    pub state: PathBuf,
    /// `events.jsonl`.
    pub log: PathBuf,
    supervisor: Arc<Supervisor>,
    watcher: Option<JoinHandle<()>>,
    cgroup: PathBuf,
    guarded: PathBuf,
}

/// What systemd does: starts the loader, and starts it again whenever it ends.
struct Supervisor {
    program: PathBuf,
    config: PathBuf,
    state: PathBuf,
    cgroup: PathBuf,
    output: PathBuf,
    pid: AtomicU32,
    starts: AtomicU32,
    held: AtomicBool,
    stopping: AtomicBool,
    last_words: Mutex<String>,
}

impl Sluice {
    /// Writes configuration and policy, starts the loader, and returns when the host is guarded.
    pub fn start(world: &World) -> Result<Sluice> {
        let missing = mounts::missing(&world.room);
        if !missing.is_empty() {
            return Err(Failure::new(format!("not built yet: {missing:?}; `cargo xtask build` builds them")));
        }
        let etc = Path::new(HOME).join("sluice");
        let state = Path::new(HOME).join("lib");
        let log = Path::new(HOME).join("log");
        for directory in [&etc, &etc.join("policy"), &etc.join("secrets"), &state, &log, Path::new(RUN)] {
            fs::create_dir_all(directory)?;
        }
        for directory in [&state, &log, Path::new(RUN)] {
            own(directory, world.people.sluice.name)?;
        }
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700))?;
        fs::set_permissions(etc.join("secrets"), fs::Permissions::from_mode(0o700))?;
        let key = fs::read_to_string(&world.app.key)?;
        for (name, text) in [("shop", &world.postgres.password), ("app", &key)] {
            let secret = etc.join("secrets").join(name);
            fs::write(&secret, text)?;
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        }
        for (name, text) in POLICY {
            fs::write(etc.join("policy").join(name), text)?;
        }
        let config = etc.join("sluice.toml");
        fs::write(&config, configuration(world, &etc, &state, &log)?)?;

        let cgroup = world.guarded().join("agent");
        fs::create_dir_all(&cgroup)?;
        let supervisor = Arc::new(Supervisor {
            program: Path::new(HOME).join("bin/sluice-loader"),
            config: config.clone(),
            state: state.clone(),
            cgroup: cgroup.clone(),
            output: log.join("loader.stderr"),
            pid: AtomicU32::new(0),
            starts: AtomicU32::new(0),
            held: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            last_words: Mutex::default(),
        });
        let watching = Arc::clone(&supervisor);
        let watcher = Some(std::thread::spawn(move || watching.watch()));
        let guarded = world.guarded();
        let sluice = Sluice { config, state, log, supervisor, watcher, cgroup, guarded };
        sluice.wait_guarding(&world.room)?;
        Ok(sluice)
    }

    /// Returns when the proxy answers on its socket.
    pub fn wait_guarding(&self, room: &Room) -> Result<()> {
        until("sluice says that it guards", Duration::from_secs(60), || {
            if self.supervisor.starts.load(Ordering::SeqCst) > 20 {
                return Err(Failure::new("the loader ended twenty times"));
            }
            self.answers(room)
        })
        .context(format!("Sluice does not start:\n{}", self.words()))
    }

    /// Whether the proxy answers, and knows which layers stand. (`sluice status` ends with 1 where one is absent, as the LSM
    /// is in most containers: that is for people to read.)
    pub fn answers(&self, room: &Room) -> Result<bool> {
        let said = self.tool(room, &["status", "--json"])?;
        let report: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_default();
        Ok(report.get("layers").and_then(|layers| layers.as_array()).is_some_and(|layers| !layers.is_empty()))
    }

    /// `sluice` as root, in the guarded cgroup.
    pub fn tool(&self, room: &Room, arguments: &[&str]) -> Result<Said> {
        let mut command = within(&room.cgroup.join("guarded"), Path::new(HOME).join("bin/sluice"));
        command.args(arguments).env_clear().env("PATH", super::people::PATH).env("HOME", HOME);
        command.env("SLUICE_CONFIG", &self.config);
        hear(&mut command)
    }

    /// Pid of the loader that runs now.
    pub fn loader(&self) -> Option<u32> {
        Some(self.supervisor.pid.load(Ordering::SeqCst)).filter(|pid| *pid != 0)
    }

    /// Pids of the proxy, found by what they execute.
    pub fn proxies(&self) -> Vec<u32> {
        processes(&self.guarded).into_iter().filter(|pid| executes(*pid, "sluiced")).collect()
    }

    /// Pids of what people run by this name in the guarded cgroup.
    pub fn running(&self, program: &str) -> Vec<u32> {
        processes(&self.guarded).into_iter().filter(|pid| executes(*pid, program)).collect()
    }

    /// How often the loader was started.
    pub fn starts(&self) -> u32 {
        self.supervisor.starts.load(Ordering::SeqCst)
    }

    /// While held, nobody restarts the loader: as between a crash and systemd's next attempt, only longer.
    pub fn hold_restarts(&self, held: bool) {
        self.supervisor.held.store(held, Ordering::SeqCst);
    }

    /// The audit events so far, one JSON object each.
    pub fn events(&self) -> Result<Vec<serde_json::Value>> {
        let text = fs::read_to_string(self.log.join("events.jsonl")).unwrap_or_default();
        text.lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).map_err(Failure::from))
            .collect()
    }

    /// What loader and proxy said to their standard error.
    pub fn words(&self) -> String {
        let text = fs::read_to_string(&self.supervisor.output).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
        format!("{last}\n{}", self.supervisor.last_words.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The loader's own cgroup.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }
}

impl Drop for Sluice {
    fn drop(&mut self) {
        self.supervisor.stopping.store(true, Ordering::SeqCst);
        if let Some(pid) = self.loader() {
            // It may have ended by itself just now.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
        }
        if let Some(watcher) = self.watcher.take() {
            drop(watcher.join());
        }
    }
}

impl Supervisor {
    fn watch(&self) {
        while !self.stopping.load(Ordering::SeqCst) {
            if self.held.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            if let Err(failure) = self.once() {
                *self.last_words.lock().unwrap_or_else(PoisonError::into_inner) = failure.to_string();
            }
            // systemd's default RestartSec.
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn once(&self) -> Result<()> {
        let output = fs::File::options().create(true).append(true).open(&self.output)?;
        self.starts.fetch_add(1, Ordering::SeqCst);
        let mut child = within(&self.cgroup, &self.program)
            .arg("--config")
            .arg(&self.config)
            .arg("--state")
            .arg(&self.state)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("failed to start sluice-loader")?;
        self.pid.store(child.id(), Ordering::SeqCst);
        let status = child.wait()?;
        self.pid.store(0, Ordering::SeqCst);
        Err(Failure::new(format!("the loader ended with {status}")))
    }
}

fn configuration(world: &World, etc: &Path, state: &Path, log: &Path) -> Result<String> {
    let values = [
        ("@USER@", world.people.sluice.name.to_owned()),
        ("@STATE@", state.to_string_lossy().into_owned()),
        ("@RUN@", RUN.to_owned()),
        ("@LOG@", log.to_string_lossy().into_owned()),
        ("@CGROUP@", world.guarded().to_string_lossy().into_owned()),
        ("@PINS@", format!("{}/sluice", mounts::BPF)),
        ("@ISSUER@", world.provider.issuer.clone()),
        ("@CA@", format!("{HOME}/certificates/ca.pem")),
        ("@ETC@", etc.to_string_lossy().into_owned()),
        ("@HOST_KEY@", world.app.host_key()?),
    ];
    Ok(values.iter().fold(world.configuration.to_owned(), |text, (name, value)| text.replace(name, value)))
}

/// Pids of everything in a cgroup and below it.
pub fn processes(cgroup: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![cgroup.to_owned()];
    while let Some(here) = open.pop() {
        let procs = fs::read_to_string(here.join("cgroup.procs")).unwrap_or_default();
        found.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
        if let Ok(entries) = fs::read_dir(&here) {
            open.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
    }
    found
}

fn executes(pid: u32, program: &str) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| {
        exe.file_name().is_some_and(|name| name.to_string_lossy().trim_end_matches(" (deleted)") == program)
    })
}
