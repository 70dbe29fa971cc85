//! A person at a keyboard: a shell in a session of its own on a real pseudo-terminal, into which lines are typed and from
//! which the screen is read back.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{SigSet, SigmaskHow};

use crate::command::{patient, within};
use crate::stage::Stage;
use crate::world::World;
use crate::world::people::Person;
use crate::{Context, Failure, Result};

/// What a step may take before it counts as hung. Generous: CI machines are slow, and a step that waits is one that fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// Stands around the exit status before each prompt of the shell; no program prints it.
const STATUS: char = '\u{1e}';
/// Wide enough that readline on a dumb terminal need not scroll a line sideways.
const SIZE: Winsize = Winsize { ws_row: 200, ws_col: 400, ws_xpixel: 0, ws_ypixel: 0 };

#[derive(Default)]
struct Screen {
    text: Vec<u8>,
    gone: bool,
}

type Shared = Arc<(Mutex<Screen>, Condvar)>;

/// A terminal with a shell of one person in it.
pub struct Terminal {
    who: &'static str,
    keyboard: File,
    screen: Shared,
    /// Up to where the screen was shown or taken.
    read: usize,
    /// The prompt at the end of what was shown: the next line typed is shown behind it.
    prompt: String,
    /// The last line typed, which the terminal echoes.
    typed: String,
    shell: Child,
}

/// What a command at the shell's prompt printed, and its exit status.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Both outputs, as on the screen.
    pub text: String,
    /// Exit status.
    pub status: i32,
}

impl Terminal {
    /// The person sits down: a login's environment, a session and a terminal of her own, inside the guarded cgroup.
    pub fn open(world: &World, person: &Person) -> Result<Terminal> {
        let cgroup = world.guarded().join(person.name);
        std::fs::create_dir_all(&cgroup)?;
        Terminal::open_in(&cgroup, person)
    }

    /// The same on a host that nothing guards: the direct side of a comparison.
    pub fn open_outside(world: &World, person: &Person) -> Result<Terminal> {
        let cgroup = world.outside().join(person.name);
        std::fs::create_dir_all(&cgroup)?;
        Terminal::open_in(&cgroup, person)
    }

    fn open_in(cgroup: &Path, person: &Person) -> Result<Terminal> {
        let pty = openpty(Some(&SIZE), None).context("failed to open a pseudo-terminal")?;
        let line: OwnedFd = pty.slave;
        // What a login does: the terminal belongs to who sits at it (sudo and ssh look at that).
        nix::unistd::fchown(&line, Some(person.uid.into()), None)?;
        // The harness hears SIGINT by waiting for it, with the signal blocked; a child inherits that, and Ctrl-C would
        // do nothing to what people run.
        let blocked = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let shell = within(cgroup, "setsid")
            .args(["--ctty", "setpriv"])
            .arg(format!("--reuid={}", person.uid))
            .arg(format!("--regid={}", person.uid))
            .args(["--init-groups", "--", "bash", "--noprofile", "--norc", "--noediting", "-i"])
            .env_clear()
            .envs(person.environment())
            .env("PS1", format!("{}@bastion:~$ ", person.name))
            .env("PROMPT_COMMAND", format!("printf '{STATUS}%d{STATUS}' $?"))
            .env("HISTFILE", "")
            .current_dir(&person.home)
            .stdin(line.try_clone()?)
            .stdout(line.try_clone()?)
            .stderr(line)
            .spawn();
        blocked.thread_set_mask()?;
        let shell = shell.context(format!("failed to start a shell for {}", person.name))?;
        let keyboard = File::from(pty.master);
        let screen = Shared::default();
        watch(keyboard.try_clone()?, Arc::clone(&screen));
        let mut terminal = Terminal {
            who: person.name,
            keyboard,
            screen,
            read: 0,
            prompt: format!("{}@bastion:~$ ", person.name),
            typed: String::new(),
            shell,
        };
        terminal.wait_for("the shell's prompt", shell_prompt)?;
        terminal.read = terminal.length();
        Ok(terminal)
    }

    /// Types a command at the shell's prompt and waits until it has ended.
    pub fn run(&mut self, stage: &Stage, command: &str) -> Result<Ran> {
        self.type_line(command)?;
        self.prompt(stage)
    }

    /// Waits until the shell asks for the next command.
    pub fn prompt(&mut self, stage: &Stage) -> Result<Ran> {
        let from = self.read;
        let status = self.wait_for("the end of a command", shell_prompt)?;
        let text = self.take(stage, from);
        Ok(Ran { text, status })
    }

    /// Types a statement at psql's prompt and waits for the next prompt.
    pub fn statement(&mut self, stage: &Stage, sql: &str) -> Result<String> {
        self.type_line(sql)?;
        self.psql_prompt(stage)
    }

    /// Waits for psql's prompt; gives what was printed before it.
    pub fn psql_prompt(&mut self, stage: &Stage) -> Result<String> {
        let from = self.read;
        self.wait_for("the prompt of psql", psql_prompt)?;
        Ok(self.take(stage, from))
    }

    /// Types a line and does not wait.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        self.typed = line.to_owned();
        writeln!(self.keyboard, "{line}").context(format!("{} can't type", self.who))
    }

    /// Ctrl-C at the keyboard: the line discipline makes the signal, as it would for a person.
    pub fn interrupt(&mut self) -> Result<()> {
        self.keyboard.write_all(b"\x03").context(format!("{} can't type", self.who))
    }

    /// Another key, or several, as bytes.
    pub fn press(&mut self, keys: &[u8]) -> Result<()> {
        self.keyboard.write_all(keys).context(format!("{} can't type", self.who))
    }

    /// The window has another size; whoever is in the foreground is told.
    pub fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let mut stty = std::process::Command::new("stty");
        stty.args(["rows", &rows, "cols", &columns]).stdin(self.keyboard.try_clone()?);
        let status = stty.status().context("stty")?;
        if status.success() { Ok(()) } else { Err(Failure::new("the window could not be resized")) }
    }

    /// Waits until `part` is on the screen, behind what was read; gives the screen up to now without taking it.
    pub fn see(&mut self, part: &str) -> Result<String> {
        self.wait_for(&format!("`{part}` on the screen"), |text| text.contains(part).then(|| text.to_owned()))
    }

    /// Waits until `find` finds something on the screen, behind what was read. A word at the very end may be half a word:
    /// `find` must look for what stands behind it, too.
    pub fn find<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        self.wait_for(what, find)
    }

    /// What is on the screen behind what was read.
    pub fn unread(&self) -> String {
        self.text_from(self.read)
    }

    /// Takes and shows what is on the screen so far.
    pub fn show(&mut self, stage: &Stage) -> String {
        self.take(stage, self.read)
    }

    /// Pid of the shell: leader of the session.
    pub fn pid(&self) -> u32 {
        self.shell.id()
    }

    fn wait_for<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + patient(PATIENCE);
        let (lock, changed) = &*self.screen;
        let mut screen = lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let text = readable(screen.text.get(self.read..).unwrap_or_default());
            if let Some(found) = find(&text) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || screen.gone {
                let why = if screen.gone { "the terminal closed" } else { "waited in vain" };
                return Err(Failure::new(format!("{}: {why} for {what}; on the screen:\n{text}", self.who)));
            }
            screen = changed.wait_timeout(screen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn take(&mut self, stage: &Stage, from: usize) -> String {
        let text = self.text_from(from);
        self.read = self.length();
        let (body, prompt) = text.rsplit_once('\n').map_or((&*text, ""), |(body, prompt)| (body, prompt));
        stage.screen(self.who, &format!("{}{body}", self.prompt));
        self.prompt = prompt.to_owned();
        // The echo is no answer: a claim must not hold or fail by what was typed.
        let echoed =
            !self.typed.is_empty() && body.lines().next().is_some_and(|line| line.ends_with(&self.typed));
        self.typed.clear();
        if echoed {
            body.split_once('\n').map_or("", |(_, answer)| answer).to_owned()
        } else {
            body.to_owned()
        }
    }

    fn length(&self) -> usize {
        self.screen.0.lock().unwrap_or_else(PoisonError::into_inner).text.len()
    }

    fn text_from(&self, from: usize) -> String {
        let screen = self.screen.0.lock().unwrap_or_else(PoisonError::into_inner);
        without_status(&readable(screen.text.get(from..).unwrap_or_default()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // As when the window is closed: the shell gets SIGHUP when the last keyboard is gone; it is also told.
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

fn watch(mut master: File, screen: Shared) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16384];
        // EIO: the last program at the terminal has gone.
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            let (lock, changed) = &*screen;
            lock.lock().unwrap_or_else(PoisonError::into_inner).text.extend_from_slice(&buffer[..count]);
            changed.notify_all();
        }
        let (lock, changed) = &*screen;
        lock.lock().unwrap_or_else(PoisonError::into_inner).gone = true;
        changed.notify_all();
    });
}

/// Text of the screen: lines end with `\n`, and readline's switching of modes is left out.
fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .replace("\r\n", "\n")
        .replace("\u{1b}[?2004h", "")
        .replace("\u{1b}[?2004l", "")
        .replace('\r', "")
}

fn without_status(text: &str) -> String {
    text.split(STATUS).step_by(2).collect()
}

/// The exit status, when the shell has asked for the next command.
fn shell_prompt(text: &str) -> Option<i32> {
    let (before, prompt) = text.rsplit_once(STATUS)?;
    let (_, status) = before.rsplit_once(STATUS)?;
    if prompt.ends_with("bastion:~$ ") { status.parse().ok() } else { None }
}

/// psql waits for a statement: its prompt stands at the end of the screen.
fn psql_prompt(text: &str) -> Option<()> {
    let line = text.lines().last()?;
    let line = line.trim_start();
    (line.starts_with("shop") && line.len() < 16 && (line.ends_with("> ") || line.ends_with("# ")))
        .then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_known_only_when_it_stands_at_the_end() {
        assert_eq!(shell_prompt("ls\nfile\n\u{1e}0\u{1e}alice@bastion:~$ "), Some(0));
        assert_eq!(shell_prompt("ls\nfile\n\u{1e}0\u{1e}alice@bas"), None);
        assert_eq!(shell_prompt("\u{1e}0\u{1e}alice@bastion:~$ sleep 9\n"), None);
        assert_eq!(psql_prompt("shop=> select 1;\n ...\nshop=> "), Some(()));
        assert_eq!(psql_prompt("shop=> select 1;\n"), None);
        assert_eq!(psql_prompt("shop-*> "), Some(()));
    }
}
