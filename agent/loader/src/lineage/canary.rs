//! Live proof of the layer: a throw-away process is marked, it starts another program by a child, and that is to be seen.

use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sluice_abi::lineage::{Member, Session};

use super::{Lineage, TICK_NS, records};
use crate::kernel::Layer;
use crate::process;

/// The session of canaries: no UUID that the proxy makes.
const CANARY: Session = [0; 16];
/// Longer than it takes.
const PATIENCE: Duration = Duration::from_secs(3);
/// As [`sluice_config::Layer`] names it.
const NAME: &str = "lineage";

impl Lineage {
    /// Sends a canary.
    pub(crate) fn probe(&mut self) -> Layer {
        if let Some(fault) = &self.fault {
            let proof = format!("what sessions on this host execute is not seen: {fault}");
            return Layer { name: NAME, state: "absent", proof };
        }
        let (state, proof) = match self.seen() {
            Ok(true) => ("enforced", "the program that a marked process's child executed was seen".to_owned()),
            Ok(false) => {
                ("absent", "a marked process's child executed a program, and it was not seen".to_owned())
            }
            Err(error) => ("absent", format!("not tried: {error}")),
        };
        Layer { name: NAME, state, proof }
    }

    fn seen(&mut self) -> io::Result<bool> {
        let mut child = Command::new("/proc/self/exe")
            .args(["lineage-canary"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let pid = child.id();
        let start_ns = process::start_ticks(pid).unwrap_or(0) * TICK_NS;
        let marked = self.members.insert(pid, records::member(&Member { session: CANARY, start_ns }), 0);
        if let Some(mut stdin) = child.stdin.take() {
            // it has ended: then it will not be seen either
            let _ = stdin.write_all(b"!");
        }
        let ended = ended(&mut child)?;
        let mut seen = false;
        while let Some(executed) = self.next() {
            match executed.session == CANARY {
                true => seen |= executed.parent == pid && executed.pid != pid,
                false => self.ahead.push_back(executed),
            }
        }
        marked.map_err(io::Error::other)?;
        Ok(seen && ended)
    }
}

fn ended(child: &mut std::process::Child) -> io::Result<bool> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

/// The canary itself: `sluice-loader lineage-canary`. Waits for its mark, then starts itself again as `--leaf`.
pub(crate) fn child(leaf: bool) -> io::Result<()> {
    if leaf {
        return Ok(());
    }
    io::stdin().read_exact(&mut [0])?;
    Command::new("/proc/self/exe").args(["lineage-canary", "--leaf"]).status().map(drop)
}
