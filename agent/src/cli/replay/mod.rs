//! `sluice replay`: what happened in a session, as its person saw it.

mod asciicast;
mod console;
mod emulator;
mod files;
mod player;
mod reel;
mod text;

use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use sluice_api::admin::{self, request::Request, response::Response};

use super::client::{Client, odd};
use super::terminal::{print, say};
use super::{Failure, print_json_line};
use files::Files;
use reel::Reel;

pub(super) use player::{Watched, follow};
pub(super) use text::Text;

/// Shows statements, commands, files, verdicts, approvals and results with their times. Results are shown as they were
/// shown to the person: masked. A session with a terminal is played where stdout is one, too.
#[derive(Args)]
#[command(
    after_help = "While it plays:\n  space   pause, go on\n  ← →     10 s back, 10 s on\n  < >     slower, faster\n  q       quit\n\n\
Nothing that the session wrote reaches your terminal as it is: the player draws what the session's terminal showed.\n\n\
Examples:\n  sluice replay 0199… --speed 4 --max-idle 2\n  sluice replay 0199… --text --search 'systemctl'\n  sluice replay 0199… --asciicast session.cast"
)]
pub(super) struct Replay {
    /// The session, as `sluice sessions` shows it.
    id: String,
    /// Only entries whose text has this in it (statements, tags, errors, lines of a terminal).
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// At most so many rows of each result; 0: all that were kept.
    #[arg(long, default_value_t = 20, value_name = "ROWS")]
    rows: usize,
    /// Print lines, do not play. What programs showed that take the whole screen is not in them.
    #[arg(long)]
    text: bool,
    /// How much faster than it was.
    #[arg(long, default_value_t = 1.0, value_name = "TIMES", value_parser = speed)]
    speed: f64,
    /// Make pauses no longer than this.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_idle: Option<f64>,
    /// Which terminal, where a session had several.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    terminal: usize,
    /// Write the terminal as asciicast v2, for asciinema's players; `-` for stdout. The bytes are the session's own.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "search", "speed"])]
    asciicast: Option<PathBuf>,
    /// Write the content of transfers into this directory, where it was kept (`recording.transfers`).
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["text", "search", "speed", "asciicast"])]
    files: Option<PathBuf>,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| (0.1..=1000.0).contains(speed));
    speed.ok_or_else(|| "a number from 0.1 to 1000".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=1e6).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds, e.g. 2 or 0.5".to_owned())
}

pub(super) fn replay(mut client: Client, command: Replay, json: bool) -> Result<(), Failure> {
    let quiet = command.asciicast.is_some() || command.files.is_some();
    let mut files = command.files.as_deref().map(Files::into).transpose()?;
    let plays = !json && !command.text && command.search.is_none() && can_draw();
    client.send(Request::Replay(admin::Replay { id: command.id.clone() }))?;
    let mut text = Text::new(command.rows);
    let mut reel = Reel::of(command.terminal);
    while let Some(answer) = client.next()? {
        let Response::Frame(frame) = answer else { return Err(odd()) };
        let Some(mut entry) = frame.entry else { continue };
        if json && !quiet {
            print_json_line(&entry)?;
            continue;
        }
        if let (Some(files), Some(what)) = (&mut files, &entry.entry) {
            files.take(what)?;
        }
        // what is played is not printed
        let taken = (plays || quiet) && reel.take(&mut entry);
        if taken || quiet {
            continue;
        }
        let Some(what) = &entry.entry else { continue };
        let shown = text.show(entry.time_us, what);
        let wanted = command.search.as_ref().is_none_or(|part| shown.contains(part.as_str()));
        if wanted && !shown.is_empty() {
            print(&shown)?;
        }
    }
    if let Some(files) = files {
        for file in files.written() {
            say(&format!("{}", file.display()));
        }
        return match files.written().len() {
            0 => Err(Failure::Failed("no content of files was kept in this session".to_owned())),
            _ => Ok(()),
        };
    }
    if let Some(file) = &command.asciicast {
        return export(&reel, file, &command);
    }
    if plays && reel.terminals() > 0 {
        present(reel, &command)?;
    }
    Ok(())
}

/// Whether stdout is a terminal whose cursor can be placed.
pub(super) fn can_draw() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    !dumb && std::io::stdout().is_terminal()
}

fn present(mut reel: Reel, command: &Replay) -> Result<(), Failure> {
    let terminals = reel.terminals();
    if reel.size.is_none() {
        return Err(missing(terminals, command.terminal));
    }
    if let Some(limit) = command.max_idle {
        reel.shorten(micros(limit));
    }
    player::play(&reel, command.speed)?;
    if terminals > 1 {
        say(&format!("the session had {terminals} terminals; another one: --terminal NUMBER"));
    }
    Ok(())
}

fn export(reel: &Reel, file: &Path, command: &Replay) -> Result<(), Failure> {
    if reel.size.is_none() {
        return Err(missing(reel.terminals(), command.terminal));
    }
    let cast = asciicast::asciicast(reel, command.max_idle.map(micros));
    if file == Path::new("-") {
        return Ok(std::io::stdout().write_all(cast.as_bytes())?);
    }
    let failed = |error| Failure::Failed(format!("failed to write `{}`: {error}", file.display()));
    // nobody else's eyes, and no file that was there before
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    out.write_all(cast.as_bytes()).map_err(failed)
}

fn missing(terminals: usize, wanted: usize) -> Failure {
    Failure::Failed(match terminals {
        0 => "this session had no terminal; `sluice replay` shows it as text, `--json` as JSON lines"
            .to_owned(),
        n => format!("this session had {n} terminals; there is no terminal {wanted}"),
    })
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}
