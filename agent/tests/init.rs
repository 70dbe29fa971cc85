//! `sluice init` at a real pseudo-terminal: what is asked, what is shown, what is written, and what Ctrl-C leaves behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use rustix::termios::{LocalModes, tcgetattr};

const PATIENCE: Duration = Duration::from_secs(20);

struct Terminal {
    master: File,
    slave: File,
    shown: String,
    child: Child,
}

impl Terminal {
    fn init(config: &Path) -> Self {
        let pair = openpty(None, None).unwrap();
        let (master, slave) = (File::from(pair.master), File::from(pair.slave));
        let end = || Stdio::from(slave.try_clone().unwrap());
        // a session of its own, with this terminal as the one that /dev/tty is
        let child = Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_sluice"), "--color", "never", "--config"])
            .arg(config)
            .arg("init")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self { master, slave, shown: String::new(), child }
    }

    /// Waits for a question, and answers it.
    fn answer(&mut self, question: &str, answer: &str) {
        let began = Instant::now();
        while !self.shown.contains(question) {
            assert!(began.elapsed() < PATIENCE, "no `{question}` in:\n{}", self.shown);
            self.read();
        }
        self.master.write_all(answer.as_bytes()).unwrap();
    }

    fn read(&mut self) {
        use std::os::fd::AsFd as _;
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(50u8)).unwrap() > 0 {
            let mut piece = [0; 4096];
            let n = self.master.read(&mut piece).unwrap();
            self.shown.push_str(&String::from_utf8_lossy(&piece[..n]));
        }
    }

    fn ended(&mut self) -> bool {
        let began = Instant::now();
        loop {
            self.read();
            if let Some(status) = self.child.try_wait().unwrap() {
                self.read();
                return status.success();
            }
            assert!(began.elapsed() < PATIENCE, "it goes on:\n{}", self.shown);
        }
    }
}

#[test]
fn secrets_are_asked_for_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("sluice/sluice.toml");
    let mut terminal = Terminal::init(&config);
    for (question, answer) in [
        ("Issuer", "https://id.example.com\n"),
        ("Client id", "\n"),
        ("Client secret", "f1rst s3cret\n"),
        ("Name of the first target", "client\n"),
        ("What is spoken there", "\n"),
        ("Its names", "db.internal 10.0.0.0/28\n"),
        ("Role or account", "app\n"),
        ("Its password", "s3cond s3cret\n"),
        ("Group of the people", "\n"),
        ("Group that approves", "\n"),
        ("Only observe", "\n"),
    ] {
        terminal.answer(question, answer);
    }
    assert!(terminal.ended(), "{}", terminal.shown);
    assert!(!terminal.shown.contains("s3cret"), "{}", terminal.shown);
    let read = |name: &str| std::fs::read_to_string(dir.path().join("sluice/secrets").join(name)).unwrap();
    assert_eq!(
        (read("client").as_str(), read("client-target").as_str()),
        ("f1rst s3cret\n", "s3cond s3cret\n")
    );
    let written = sluice_config::Config::load(&config).unwrap();
    assert_eq!((written.targets.len(), written.targets[0].hosts.len()), (1, 2));
    assert!(written.policy_sources().is_ok());
    assert_eq!(written.guard.mode, sluice_config::GuardMode::Observe);
}

#[test]
fn whoever_has_enough_gets_his_terminal_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("sluice/sluice.toml");
    let mut terminal = Terminal::init(&config);
    terminal.answer("Issuer", "https://id.example.com\n");
    terminal.answer("Client id", "\n");
    terminal.answer("Client secret", "half a s3cr\x03");
    assert!(!terminal.ended());
    let modes = tcgetattr(&terminal.slave).unwrap().local_modes;
    assert!(modes.contains(LocalModes::ECHO | LocalModes::ISIG), "{modes:?}");
    assert!(!config.exists() && !terminal.shown.contains("s3cr"), "{}", terminal.shown);
}
