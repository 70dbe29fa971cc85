//! `sluice arm`, `observe`, `disarm`: whether the guard of this host enforces.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use sluice_api::admin::{self, request::Request, response::Response};

use super::client::{Client, odd};
use super::events::summary::Summary;
use super::terminal::{BAD, GOOD, WARN, parse_time, print, safe, say};
use super::{Failure, doctor, print_json};

/// Everything is told as it would be, and nothing is enforced; or what has been told so far.
#[derive(Args)]
#[command(after_help = "Examples:\n  sluice observe\n  sluice observe --report --since 7d\n  sluice arm")]
pub(super) struct Observe {
    /// What would have been refused or redirected, to whom and how often; changes nothing.
    #[arg(long)]
    report: bool,
    /// Of the report: since when, as RFC 3339 or as an age such as 2h, 3d.
    #[arg(long, requires = "report", value_parser = parse_time)]
    since: Option<i64>,
    /// Why.
    #[arg(long, default_value = "")]
    reason: String,
}

/// What is protected is reached through Sluice alone from now on; looks first who would be locked out.
#[derive(Args)]
pub(super) struct Arm {
    /// Don't ask, whoever would be locked out.
    #[arg(long, short)]
    yes: bool,
    /// Why.
    #[arg(long, default_value = "")]
    reason: String,
}

/// Everybody reaches everything directly until `sluice arm`. For an emergency: with a reason, on record, and where policy
/// says so only with somebody else's consent.
#[derive(Args)]
#[command(
    after_help = "By whoever policy permits `disarm`, or root on the host's console. Where sluiced does not answer:\n\
                  /usr/lib/sluice/sluice-loader disarm --reason TEXT, as root."
)]
pub(super) struct Disarm {
    /// Why; on record.
    #[arg(long)]
    reason: String,
    /// Enforce again by itself after so long, such as 30m or 2h.
    #[arg(long = "for", value_name = "TIME", value_parser = super::terminal::parse_age)]
    lasts: Option<Duration>,
}

pub(super) fn observe(mut client: Client, command: &Observe, json: bool) -> Result<(), Failure> {
    if command.report {
        return report(client, command.since.unwrap_or(0), json);
    }
    set(&mut client, "observe", &command.reason, 0)
}

/// What the guard would have done, out of the events.
fn report(mut client: Client, since_us: i64, json: bool) -> Result<(), Failure> {
    client.send(Request::Events(admin::Events { follow: false, since_us, class: "bypass".to_owned() }))?;
    let mut summary = Summary::default();
    while let Some(answer) = client.next()? {
        let Response::Event(event) = answer else { return Err(odd()) };
        if event.json.contains("\"activity\":\"would-") {
            summary.add(&event.json);
        }
    }
    if json {
        return print_json(&summary.json());
    }
    Ok(print(&summary.text())?)
}

pub(super) fn arm(client: Client, command: &Arm, config: &Path) -> Result<(), Failure> {
    let mut client = client;
    match doctor::locked_out(config) {
        Ok(text) if text.is_empty() => {
            say(&format!("{GOOD}nobody{GOOD:#} is connected who would be locked out"))
        }
        Ok(text) => {
            print(&text)?;
            say(&format!(
                "{WARN}these connections{WARN:#} stop, and whoever holds them needs a login from now on"
            ));
            if !command.yes && !agreed()? {
                return Err(Failure::Failed("nothing was changed".to_owned()));
            }
        }
        Err(why) => say(&format!("{WARN}who would be locked out can't be told{WARN:#}: {}", safe(&why))),
    }
    set(&mut client, "enforce", &command.reason, 0)
}

fn agreed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Failed("nobody is there to be asked: --yes".to_owned()));
    }
    let mut out = std::io::stderr();
    write!(out, "arm nevertheless? [y/N] ")?;
    out.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().eq_ignore_ascii_case("y"))
}

pub(super) fn disarm(client: Result<Client, Failure>, command: &Disarm) -> Result<(), Failure> {
    let seconds = command.lasts.map_or(0, |lasts| lasts.as_secs());
    match client {
        Ok(mut client) => set(&mut client, "disarmed", &command.reason, seconds),
        Err(failure) if !nix::unistd::geteuid().is_root() => Err(failure),
        // a broken host: what is left is the loader's own way
        Err(Failure::Unreachable { what, .. }) => {
            say(&format!("{WARN}{}{WARN:#}; sluice-loader is asked to do it", safe(&what)));
            let mut loader = Command::new("/usr/lib/sluice/sluice-loader");
            loader.args(["disarm", "--reason", &command.reason]);
            if seconds > 0 {
                loader.args(["--for", &seconds.to_string()]);
            }
            match loader.status() {
                Ok(status) if status.success() => Ok(()),
                Ok(_) => Err(Failure::Told),
                Err(error) => Err(Failure::Failed(format!("/usr/lib/sluice/sluice-loader: {error}"))),
            }
        }
        Err(failure) => Err(failure),
    }
}

fn set(client: &mut Client, mode: &str, reason: &str, for_s: u64) -> Result<(), Failure> {
    let asked = admin::SetMode { mode: mode.to_owned(), reason: reason.to_owned(), for_s };
    client.send(Request::SetMode(asked))?;
    loop {
        match client.next()? {
            Some(Response::Waiting(approval)) => {
                client.wait_long()?;
                say(&format!(
                    "waiting for {} of {}: `sluice approve {}` (rule {})",
                    approval.needed,
                    safe(&approval.group),
                    safe(&approval.id),
                    safe(&approval.rule)
                ));
            }
            Some(Response::Done(done)) => {
                let style = if mode == "enforce" { GOOD } else { BAD };
                say(&format!("{style}{}{style:#}", safe(&done.message)));
                return Ok(());
            }
            _ => return Err(odd()),
        }
    }
}
