//! `sluice replay` and `sluice watch` in a real pseudo-terminal, against a socket that answers as sluiced does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use rustix::termios::{LocalModes, tcgetattr};
use sluice_api::admin::{self, Request, Response, request, response};
use sluice_api::frame;
use sluice_api::record::{self, entry::Entry};

const PATIENCE: Duration = Duration::from_secs(20);

fn entry(time_us: i64, entry: Entry) -> response::Response {
    let entry = record::Entry { time_us, entry: Some(entry) };
    response::Response::Frame(admin::ReplayFrame { entry: Some(entry) })
}

fn output(time_us: i64, text: &str) -> response::Response {
    let data = record::Data { operation: 1, screen: text.into(), ..Default::default() };
    entry(time_us, Entry::Data(data))
}

fn session() -> Vec<response::Response> {
    let opened = record::Opened { target: "app".into(), session: "s1".into(), ..Default::default() };
    let terminal = record::Terminal { operation: 1, columns: 40, rows: 8, term: "xterm".into() };
    vec![
        entry(0, Entry::Opened(opened)),
        entry(0, Entry::Terminal(terminal)),
        output(100_000, "first\r\n\x1b]52;c;ZXZpbA==\x07\x1b]0;evil\x07\x1b[6n\x1b[c"),
        output(200_000, "second\r\n"),
        output(60_000_000, "third\r\n"),
        entry(61_000_000, Entry::Closed(record::Closed { reason: "done".into(), ..Default::default() })),
    ]
}

/// Takes one request and gives the answers; `more` come when they come.
fn serve(
    socket: &Path,
    answers: Vec<response::Response>,
    more: Option<Receiver<response::Response>>,
) -> std::thread::JoinHandle<request::Request> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        let asked = loop {
            let mut piece = [0; 1024];
            let n = stream.read(&mut piece).unwrap();
            assert!(n > 0, "no request");
            bytes.extend_from_slice(&piece[..n]);
            if let Some((request, _)) = frame::decode::<Request>(&bytes).unwrap() {
                break request.request.unwrap();
            }
        };
        for answer in answers {
            send(&mut stream, answer);
        }
        if let Some(more) = more {
            for answer in more {
                send(&mut stream, answer);
            }
            // held open: the conversation is the watching
            let _ = stream.read(&mut [0; 1]);
        } else {
            send(&mut stream, response::Response::Done(admin::Done::default()));
        }
        asked
    })
}

fn send(stream: &mut UnixStream, answer: response::Response) {
    let mut bytes = Vec::new();
    frame::encode(&Response { response: Some(answer) }, &mut bytes);
    // whoever has gone has seen enough
    let _ = stream.write_all(&bytes);
}

/// `sluice` with a terminal of its own.
struct Auditor {
    child: Child,
    keyboard: File,
    written: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Auditor {
    fn sits_down(socket: &Path, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 12, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .arg("--socket")
            .arg(socket)
            .args(arguments)
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let keyboard = File::from(pty.master);
        let mut screen = keyboard.try_clone().unwrap();
        let (sender, written) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut piece) {
                if sender.send(piece[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard, written, seen: Vec::new() }
    }

    /// Waits until this was written after what was waited for before.
    fn sees(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !String::from_utf8_lossy(&self.seen).contains(text) {
            match self.written.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no {text:?} in {:?}", String::from_utf8_lossy(&self.seen));
                }
            }
        }
    }

    fn presses(&mut self, key: &str) {
        self.seen.clear();
        self.keyboard.write_all(key.as_bytes()).unwrap();
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.keyboard).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    fn leaves(&mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_terminal_is_played_by_keys() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    let server = serve(&socket, session(), None);
    let mut auditor = Auditor::sits_down(&socket, &["replay", "s1"]);
    auditor.sees("\x1b[?1049h");
    auditor.sees("second");
    assert!(!auditor.echoes());
    let written = String::from_utf8_lossy(&auditor.seen).into_owned();
    assert!(written.contains("first") && !written.contains("third"), "{written:?}");
    for evil in ["\x1b]", "\x07", "\x1b[6n", "\x1b[c", "52;", "evil"] {
        assert!(!written.contains(evil), "{evil:?} in {written:?}");
    }
    auditor.presses(" ");
    auditor.sees("paused");
    for _ in 0..5 {
        auditor.presses("\x1b[C");
        auditor.sees("paused 0:00:");
    }
    auditor.presses("\x1b[C");
    auditor.sees("third");
    auditor.sees("end 0:01:00");
    // back to where it was not written yet: its line is wiped
    auditor.presses("\x1b[D");
    auditor.sees("0:00:50");
    auditor.sees("\x1b[3;1H\x1b[0m\x1b[K\x1b[0m");
    auditor.presses("q");
    auditor.sees("\x1b[?1049l");
    assert_eq!(auditor.leaves(), 0);
    assert!(auditor.echoes(), "the terminal is as it was");
    assert!(matches!(server.join().unwrap(), request::Request::Replay(asked) if asked.id == "s1"));
}

#[test]
fn a_live_terminal_is_followed_and_its_moderator_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    let (more, coming) = channel();
    let watching = admin::Watching { moderating_for: "leads".into(), ..Default::default() };
    let mut answers = vec![response::Response::Watching(watching)];
    answers.extend(session().into_iter().take(3));
    let server = serve(&socket, answers, Some(coming));
    let mut auditor = Auditor::sits_down(&socket, &["watch", "s1", "--moderate"]);
    auditor.sees("you are the moderator");
    auditor.sees("first");
    more.send(output(200_000, "second\x1b[5n\r\n")).unwrap();
    auditor.sees("second");
    assert!(!String::from_utf8_lossy(&auditor.seen).contains("\x1b[5n"));
    auditor.presses("q");
    auditor.sees("you have left");
    assert_eq!(auditor.leaves(), 0);
    drop(more);
    assert!(matches!(server.join().unwrap(), request::Request::Watch(asked) if asked.moderate));
}

#[test]
fn where_there_is_no_terminal_it_is_text_and_files_are_asciicast() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    let run = |arguments: &[&str]| {
        let _ = std::fs::remove_file(&socket);
        let server = serve(&socket, session(), None);
        let out = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .arg("--socket")
            .arg(&socket)
            .args(arguments)
            .output()
            .unwrap();
        server.join().unwrap();
        (out.status.success(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (done, text, _) = run(&["replay", "s1"]);
    assert!(done && text.contains("     first\n") && text.contains("     third\n"), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\x07'));
    let cast = dir.path().join("s1.cast");
    let (done, text, said) = run(&["replay", "s1", "--asciicast", cast.to_str().unwrap()]);
    assert!(done && text.is_empty(), "{said}");
    let written = std::fs::read_to_string(&cast).unwrap();
    assert!(written.starts_with("{\"version\":2,\"width\":40,\"height\":8,"), "{written}");
    assert!(written.ends_with("[60.000000, \"o\", \"third\\r\\n\"]\n"), "{written}");
    // a file that is there is not written over
    let (done, _, said) = run(&["replay", "s1", "--asciicast", cast.to_str().unwrap()]);
    assert!(!done && said.contains("exists"), "{said}");
    let (done, text, _) = run(&["replay", "s1", "--asciicast", "-"]);
    assert!(done && text == written);
}
