//! Running the programs that the world is made of.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Context, Failure, Result};

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit status; 128 + signal when a signal ended it, as shells count.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// It ended with status 0.
    pub fn ok(&self) -> bool {
        self.status == 0
    }

    /// Both outputs, for claims that do not care which.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

/// Runs to the end and takes what it says, whatever its status.
pub fn hear(command: &mut Command) -> Result<Said> {
    use std::os::unix::process::ExitStatusExt;
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().context(format!("failed to run `{name}`"))?;
    let status = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
    Ok(Said {
        status,
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs to the end; a status other than 0 is a failure that carries what was said.
pub fn run(command: &mut Command) -> Result<String> {
    let said = hear(command)?;
    if said.ok() {
        return Ok(said.out);
    }
    let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    Err(Failure::new(format!(
        "`{} {}` ended with status {}: {}",
        command.get_program().to_string_lossy(),
        arguments.join(" "),
        said.status,
        said.all().trim()
    )))
}

/// `run` for a program and its arguments.
pub fn sh<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    run(Command::new(program).args(arguments))
}

/// The command, moved into the cgroup `into` before its program starts.
pub fn within(into: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg("echo $$ > \"$0/cgroup.procs\" && exec \"$@\"")
        .arg(into.as_os_str())
        .arg(program.as_ref());
    command
}

/// Asks `probe` until it says yes. Waits on a state and never for a time: `what` is named when the state does not come.
pub fn until(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<bool>) -> Result<()> {
    let (start, limit) = (Instant::now(), patient(limit));
    loop {
        if probe()? {
            return Ok(());
        }
        if start.elapsed() > limit {
            return Err(Failure::new(format!("waited {} s in vain: {what}", limit.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A limit on this machine: `SLUICE_PATIENCE` times as long where that is set, since emulated machines are slow.
pub fn patient(limit: Duration) -> Duration {
    let factor = std::env::var("SLUICE_PATIENCE").ok().and_then(|text| text.parse().ok());
    limit * factor.unwrap_or(1)
}
