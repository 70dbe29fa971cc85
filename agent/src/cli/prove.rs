//! `sluice prove`: a signed report of what is enforced on this host.

use clap::Args;
use serde_json::Value;
use sluice_api::admin::{self, request::Request, response::Response};
use sluice_evidence::{PublicKey, note};

use super::Failure;
use super::client::{Client, odd};
use super::terminal::{BAD, GOOD, parse_time, print, safe, say, time};

/// What is enforced on this host, from probes of this moment, with digests of programs, configuration and policy, and with
/// every incident of the guard: signed by the key that signs recordings.
///
/// A signed note (C2SP) whose text is JSON; `sluice verify FILE --key HOST.pub` checks it anywhere.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sluice prove --since 30d > bastion.note\n  sluice verify bastion.note --key bastion.pub"
)]
pub(super) struct Prove {
    /// Incidents since then: RFC 3339, or an age such as 7d. Default: all that is kept.
    #[arg(long, value_parser = parse_time)]
    since: Option<i64>,
}

pub(super) fn prove(mut client: Client, command: &Prove) -> Result<(), Failure> {
    let asked = admin::Prove { since_us: command.since.unwrap_or(0) };
    let Response::Proof(proof) = client.ask(Request::Prove(asked))? else { return Err(odd()) };
    // as it is: what is changed does not verify
    Ok(print(&proof.note)?)
}

/// Whether these bytes are a note and no recording.
pub(super) fn is_note(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'{')
}

/// Says who has signed what; exit status 1 where nobody who is trusted has.
pub(super) fn verify(name: &str, bytes: &[u8], keys: &[PublicKey], json: bool) -> Result<(), Failure> {
    let broken = |why: String| {
        say(&format!("{BAD}broken{BAD:#}: {}: {}", safe(name), safe(&why)));
        Err(Failure::Told)
    };
    let Ok(text) = std::str::from_utf8(bytes) else { return broken("it is no text".to_owned()) };
    let (report, key) = match note::verify(text, keys) {
        Ok((report, key)) => (report, key),
        Err(why) => return broken(why.to_string()),
    };
    let Ok(value) = serde_json::from_str::<Value>(report) else {
        return broken("its text is no JSON".to_owned());
    };
    if json {
        print(report)?;
        return Ok(());
    }
    let word = |path: &str| match value.pointer(path) {
        Some(Value::String(text)) => safe(text),
        Some(Value::Null) | None => String::new(),
        Some(other) => safe(&other.to_string()),
    };
    let number = |path: &str| value.pointer(path).and_then(Value::as_i64).unwrap_or_default();
    let states = |state: &str| {
        let layers = value.get("layers").and_then(Value::as_array).into_iter().flatten();
        let named = layers.filter(|layer| layer.get("state").is_some_and(|s| s == state));
        named.filter_map(|layer| layer.get("name")?.as_str()).map(safe).collect::<Vec<_>>().join(", ")
    };
    say(&format!(
        "{GOOD}sound{GOOD:#}: {} of {}, signed by key {key}",
        word("/kind"),
        time(number("/time_us"))
    ));
    say(&format!(
        "{} (Linux {}, boot {}), mode {}; enforced: {}; observed: {}; absent: {}; {} incidents, open for {} ms at most",
        word("/host/name"),
        word("/host/kernel"),
        word("/host/boot_id"),
        word("/mode/mode"),
        states("enforced"),
        states("observed"),
        states("absent"),
        number("/since/incidents"),
        number("/since/open_ms_at_most")
    ));
    Ok(())
}
