//! `sluice verify`: a road of its own that trusts public keys alone; sluiced is not asked.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use sluice_evidence::ledger::Standing;
use sluice_evidence::{Accept, PublicKey, Report};
use uuid::Uuid;

use super::prove;
use super::terminal::{BAD, GOOD, Table, print, safe, say, time};
use super::{Failure, print_json};
use crate::recorder::{read_public_key, verify_directory, verify_file};

/// A report is some 10 KB.
const MAX_REPORT: u64 = 16 << 20;

/// Checks chain, signatures and seals: of one file (a recording, or a report by `sluice prove`), of one session, or of
/// everything that this host has recorded, removed recordings included.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sluice verify\n  sluice verify 0199c1a2-…\n  sluice verify copy.slr --key bastion.pub"
)]
pub(super) struct Verify {
    /// A recording's file, a report's, or the id of a session; default: all of this host.
    what: Option<String>,
    /// Public key to trust; default: this host's own.
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
}

pub(super) fn verify(command: &Verify, config: &Path, json: bool) -> Result<(), Failure> {
    let state = || state_dir(config);
    let keys = if command.keys.is_empty() {
        vec![key(&state()?.join("keys/recording.pub"))?]
    } else {
        command.keys.iter().map(|path| key(path)).collect::<Result<_, _>>()?
    };
    match &command.what {
        None => all(&state()?.join("recordings"), &keys, json),
        Some(what) => match Uuid::parse_str(what) {
            Ok(id) => session(&state()?.join("recordings"), &id, &keys, json),
            Err(_) => file(Path::new(what), &keys, json),
        },
    }
}

fn state_dir(config: &Path) -> Result<PathBuf, Failure> {
    sluice_config::Config::load(config).map(|config| config.agent.state_dir).map_err(|wrong| {
        let text: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        Failure::Failed(text.join("\n"))
    })
}

fn key(path: &Path) -> Result<PublicKey, Failure> {
    read_public_key(path).map_err(|error| Failure::Failed(chain(&error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn file(path: &Path, keys: &[PublicKey], json: bool) -> Result<(), Failure> {
    if let Some(text) = text_of(path)? {
        return match prove::verify(&text, keys) {
            Ok((report, _)) if json => print_json(&report),
            Ok((_, summary)) => {
                say(&format!("{GOOD}sound{GOOD:#}: {summary}"));
                Ok(())
            }
            Err(why) => broken(path, &why, json),
        };
    }
    // a recording that is brought from elsewhere keeps its name, which says whose it is
    let named = path.file_stem().and_then(|stem| Uuid::parse_str(&stem.to_string_lossy()).ok());
    let outcome =
        verify_file(path, keys, Accept::Sealed).map_err(|error| chain(&error)).and_then(
            |report| match named {
                Some(id) => {
                    report.expect_session(id.as_bytes()).map(|()| report).map_err(|error| chain(&error))
                }
                None => Ok(report),
            },
        );
    match outcome {
        Ok(report) => {
            if json {
                return print_json(&facts(&report));
            }
            say(&format!("{GOOD}sound{GOOD:#}: {}", summary(&report)));
            Ok(())
        }
        Err(why) => broken(path, &why, json),
    }
}

fn broken(path: &Path, why: &str, json: bool) -> Result<(), Failure> {
    if json {
        print_json(&json!({"state": "broken", "why": why}))?;
    }
    say(&format!("{BAD}broken{BAD:#}: {}: {}", path.display(), safe(why)));
    Err(Failure::Told)
}

/// A file that begins as a report does, which no recording does.
fn text_of(path: &Path) -> Result<Option<String>, Failure> {
    let unreadable = |why: std::io::Error| Failure::Failed(format!("{}: {why}", path.display()));
    let mut text = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?.take(MAX_REPORT);
    let mut first = [0];
    if file.read(&mut first).map_err(unreadable)? == 0 || first != *b"{" {
        return Ok(None);
    }
    text.push(b'{');
    file.read_to_end(&mut text).map_err(unreadable)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

fn facts(report: &Report) -> serde_json::Value {
    json!({"state": "sealed", "frames": report.frames, "entries": report.entries, "gaps": report.gaps,
           "signed_frames": report.signed_frames, "bytes": report.bytes, "last_us": report.last_us})
}

fn summary(report: &Report) -> String {
    format!(
        "{} frames with {} entries, {} gaps, sealed, last at {}",
        report.frames,
        report.entries,
        report.gaps,
        time(report.last_us)
    )
}

fn session(recordings: &Path, id: &Uuid, keys: &[PublicKey], json: bool) -> Result<(), Failure> {
    let report = verify_directory(recordings, keys).map_err(|error| Failure::Failed(chain(&error)))?;
    let standing = report
        .sessions
        .get(id)
        .ok_or_else(|| Failure::Failed(format!("there is no session {id}; `sluice sessions` lists them")))?;
    if json {
        print_json(&json!({"id": id.to_string(), "state": standing.name(), "why": why(standing)}))?;
    } else {
        say(&line(id, standing));
    }
    if sound(standing) && report.ledger.is_ok() { Ok(()) } else { Err(Failure::Told) }
}

/// Whether nothing is wrong with it.
fn sound(standing: &Standing) -> bool {
    matches!(standing, Standing::Sealed(_) | Standing::Recovered(_) | Standing::Live(_))
}

fn why(standing: &Standing) -> String {
    match standing {
        Standing::Sealed(report) | Standing::Recovered(report) => summary(report),
        Standing::Live(report) => format!("{} frames so far, not sealed", report.frames),
        Standing::Broken(broken) => chain(broken),
        Standing::Missing => "its file is gone".to_owned(),
        Standing::Unlisted(_) => "the ledger does not know it".to_owned(),
    }
}

fn line(id: &Uuid, standing: &Standing) -> String {
    let style = if sound(standing) { GOOD } else { BAD };
    format!("{style}{}{style:#}: {id}: {}", standing.name(), safe(&why(standing)))
}

fn all(recordings: &Path, keys: &[PublicKey], json: bool) -> Result<(), Failure> {
    let report = verify_directory(recordings, keys).map_err(|error| Failure::Failed(chain(&error)))?;
    let bad = report.sessions.values().filter(|standing| !sound(standing)).count();
    let ledger = report.ledger.as_ref().map(drop).map_err(|broken| chain(broken));
    if json {
        let sessions: Vec<_> = report
            .sessions
            .iter()
            .map(|(id, standing)| json!({"id": id.to_string(), "state": standing.name(), "why": why(standing)}))
            .collect();
        print_json(&json!({"ledger": ledger.as_ref().err(), "broken": bad, "sessions": sessions}))?;
    } else {
        let mut table = Table::new(["SESSION", "STATE", "WHAT"]);
        for (id, standing) in &report.sessions {
            let style = if sound(standing) { GOOD } else { BAD };
            let plain = anstyle::Style::new();
            table.styled([
                (id.to_string(), plain),
                (standing.name().to_owned(), style),
                (why(standing), plain),
            ]);
        }
        print(&table.render())?;
        match &ledger {
            Ok(()) => say(&format!(
                "{GOOD}the ledger is sound{GOOD:#}: {} sessions, {bad} of them not",
                report.sessions.len()
            )),
            Err(why) => say(&format!("{BAD}the ledger is broken{BAD:#}: {}", safe(why))),
        }
    }
    if bad == 0 && ledger.is_ok() { Ok(()) } else { Err(Failure::Told) }
}
