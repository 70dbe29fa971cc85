//! Running programs: what is being done and why stands on the terminal while it is done; its output is kept and shown
//! when it fails.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Color, Style};
use indicatif::{ProgressBar, ProgressStyle};

/// Something went wrong.
pub(crate) const BAD: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Red))).bold();
const GOOD: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green)));
const DIM: Style = Style::new().dimmed();

/// Why a command of ours ended without success; said to the user as it is.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// A line about what happens next.
pub(crate) fn say(text: &str) {
    anstream::println!("{DIM}{text}{DIM:#}");
}

/// Runs `command`, its last line of output shown while it runs; the whole output is in the error when it fails.
pub(crate) fn quietly(what: &str, command: &mut Command) -> Result<()> {
    let start = Instant::now();
    let (reader, writer) = std::io::pipe().map_err(|e| format!("no pipe: {e}"))?;
    let error_writer = writer.try_clone().map_err(|e| format!("no pipe: {e}"))?;
    let mut child =
        command.stdin(Stdio::null()).stdout(writer).stderr(error_writer).spawn().map_err(|e| {
            format!("{what}: `{}` could not be started: {e}", command.get_program().display())
        })?;
    // The command holds the write end until it is given another; the reader must see its end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let output = follow(what, reader)?;
    let status = child.wait().map_err(|e| format!("{what}: {e}"))?;
    let seconds = start.elapsed().as_secs_f32();
    if status.success() {
        anstream::println!("{GOOD}✓{GOOD:#} {what} {DIM}({seconds:.1} s){DIM:#}");
        return Ok(());
    }
    anstream::println!("{BAD}✗ {what}{BAD:#} {DIM}({seconds:.1} s){DIM:#}");
    Err(format!("{what} failed ({status}):\n{output}"))
}

/// Runs `command` with the terminal in its hands.
pub(crate) fn openly(what: &str, command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .map_err(|e| format!("{what}: `{}` could not be started: {e}", command.get_program().display()))?;
    if status.success() { Ok(()) } else { Err(format!("{what} failed ({status})")) }
}

/// What `command` prints; empty when it fails or is not there.
pub(crate) fn ask(command: &mut Command) -> String {
    command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

/// A command that needs root: by sudo where we are not.
pub(crate) fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

fn follow(what: &str, reader: impl Read + Send + 'static) -> Result<String> {
    let shown = std::io::stderr().is_terminal();
    if !shown {
        anstream::println!("{DIM}… {what}{DIM:#}");
    }
    let bar = if shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}")
        .map_err(|e| format!("progress bar: {e}"))?;
    bar.set_style(style);
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    let (lines, received) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            if lines.send(text).is_err() {
                return;
            }
        }
    });
    let mut output = String::new();
    for line in received {
        bar.set_message(line.trim_end().to_owned());
        output.push_str(&line);
    }
    bar.finish_and_clear();
    Ok(output)
}
