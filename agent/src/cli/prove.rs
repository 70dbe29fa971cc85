//! `sluice prove`, and what `sluice verify` says of such a report.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use sluice_api::admin::{self, request::Request, response::Response};
use sluice_evidence::{PublicKey, note};

use super::Failure;
use super::client::{Client, odd};
use super::terminal::{parse_time, print, safe, say, time};
use crate::admin::COVERAGE;

/// Writes a report of what is enforced on this host right now, layer by layer, from probes that are made for it, signed by
/// the key that signs the recordings. Root may ask, and whoever may see the events.
#[derive(Args)]
#[command(
    after_help = "The report is a text with a signature below it (a signed note, c2sp.org/signed-note). Keep it off this host, \
with its public key.\n\nExamples:\n  sluice prove --out coverage.txt\n  sluice verify coverage.txt --key bastion.pub\n  \
sed '/^$/,$d' coverage.txt | jq .status.layers"
)]
pub(super) struct Prove {
    /// Where to; must not exist. Without it: stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Incidents of the guard since then: RFC 3339, or an age such as 30d. Default: all that is kept.
    #[arg(long, value_parser = parse_time)]
    since: Option<i64>,
}

pub(super) fn prove(mut client: Client, command: &Prove) -> Result<(), Failure> {
    let asked = admin::Prove { since_us: command.since.unwrap_or(0) };
    let Response::Proof(proof) = client.ask(Request::Prove(asked))? else { return Err(odd()) };
    let Some(out) = &command.out else { return Ok(print(&proof.note)?) };
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(out)?;
        file.write_all(proof.note.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|why| Failure::Failed(format!("{}: {why}", out.display())))?;
    say(&format!("written: {}", out.display()));
    Ok(())
}

/// Checks a report by public keys alone and says what is in it.
pub(super) fn verify(text: &str, keys: &[PublicKey]) -> Result<(Value, String), String> {
    let (text, name) = note::open(text, keys).map_err(|why| why.to_string())?;
    let report: Value =
        serde_json::from_str(text).map_err(|why| format!("it is signed, and no report: {why}"))?;
    if report["report"] != COVERAGE || report["version"] != 1 {
        return Err("it is signed, and no coverage report that this version knows".to_owned());
    }
    let layers = report["status"]["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let with = |state: &str| layers.iter().filter(|layer| layer["state"] == state).count();
    let said = |value: &Value| safe(value.as_str().unwrap_or("?"));
    let summary = format!(
        "{} on {} at {}: mode {}, {} layers enforced, {} observed, {} absent; {} incidents of the guard since, open for {} ms \
         at most; signed by {}",
        said(&report["host"]),
        said(&report["kernel"]),
        time(report["time_us"].as_i64().unwrap_or_default()),
        said(&report["status"]["mode"]["mode"]),
        with("enforced"),
        with("observed"),
        with("absent"),
        report["incidents"]["count"],
        report["incidents"]["open_ms_at_most"],
        safe(name),
    );
    Ok((report, summary))
}
