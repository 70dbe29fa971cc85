//! Live proof of the layer: a throw-away process is marked, it starts another program by a child, and that is to be seen.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sluice_abi::lineage::{Member, Session};

use super::{Lineage, TICK_NS, hold, records};
use crate::kernel::Layer;
use crate::process;

/// The session of canaries: no UUID that the proxy makes.
const CANARY: Session = [0; 16];
/// Longer than it takes.
const PATIENCE: Duration = Duration::from_secs(3);
/// Status of a canary that was refused what it wanted to execute.
const REFUSED: Option<i32> = Some(77);
/// As [`sluice_config::Layer`] names it.
const NAME: &str = "lineage";

/// No proxy may name a session so.
pub(super) fn is_own(session: Session) -> bool {
    matches!(session, CANARY | hold::REFUSED | crate::lsm::CANARY)
}

impl Lineage {
    /// Sends a canary.
    pub(crate) fn probe(&mut self) -> Layer {
        if let Some(fault) = &self.fault {
            let proof = format!("what sessions on this host execute is not seen: {fault}");
            return Layer { name: NAME, state: "absent", proof };
        }
        let (state, proof) = match self.seen() {
            Ok(true) => {
                ("enforced", "the program that a marked process's child executed was seen".to_owned())
            }
            Ok(false) => {
                ("absent", "a marked process's child executed a program, and it was not seen".to_owned())
            }
            Err(error) => ("absent", format!("not tried: {error}")),
        };
        Layer { name: NAME, state, proof }
    }

    /// Sends another, which is to be refused what it executes.
    pub(crate) fn probe_hold(&mut self) -> Layer {
        let absent = |proof: String| Layer { name: "exec", state: "absent", proof };
        let why = match (&self.hold, &self.fault) {
            (Err(fault), _) | (_, Some(fault)) => Some(fault.clone()),
            (Ok(hold), None) => hold.mark_file(Path::new("/proc/self/exe")).err().map(|e| e.to_string()),
        };
        if let Some(why) = why {
            return absent(format!("no program can be held or refused before it runs: {why}"));
        }
        match self.child(hold::REFUSED) {
            Ok((_, REFUSED)) => Layer {
                name: "exec",
                state: "enforced",
                proof: "a marked process was refused the program that it wanted to execute".to_owned(),
            },
            Ok((_, code)) => absent(format!("a marked process was not refused a program (status {code:?})")),
            Err(error) => absent(format!("not tried: {error}")),
        }
    }

    fn seen(&mut self) -> io::Result<bool> {
        let (pid, code) = self.child(CANARY)?;
        let mut seen = false;
        while let Some(executed) = self.next() {
            match executed.session {
                CANARY => seen |= executed.parent == pid && executed.pid != pid,
                hold::REFUSED => {}
                _ => self.ahead.push_back(executed),
            }
        }
        Ok(seen && code == Some(0))
    }

    /// A process of this session, which executes itself again by a child; its pid and how it ended.
    fn child(&mut self, session: Session) -> io::Result<(u32, Option<i32>)> {
        let mut child = Command::new("/proc/self/exe")
            .args(["lineage-canary"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let pid = child.id();
        let start_ns = process::start_ticks(pid).unwrap_or(0) * TICK_NS;
        let marked = self.members.insert(pid, records::member(&Member { session, start_ns }), 0);
        if let Some(mut stdin) = child.stdin.take() {
            // it has ended: then it will not be seen either
            let _ = stdin.write_all(b"!");
        }
        let code = process::ended(&mut child, PATIENCE)?;
        marked.map_err(io::Error::other)?;
        Ok((pid, code))
    }
}

/// The canary itself: `sluice-loader lineage-canary`. Waits for its mark, then starts itself again as `--leaf`. Says by
/// its status what became of that.
pub(crate) fn child(leaf: bool) -> io::Result<()> {
    if leaf {
        return Ok(());
    }
    io::stdin().read_exact(&mut [0])?;
    match Command::new("/proc/self/exe").args(["lineage-canary", "--leaf"]).status() {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => std::process::exit(REFUSED.unwrap_or(1)),
        outcome => outcome.map(drop),
    }
}
