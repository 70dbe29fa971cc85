//! `sluice sessions`.

use clap::Args;
use sluice_api::admin::{self, request::Request, response::Response};

use super::client::{Client, odd};
use super::terminal::{Table, print, say, time};
use super::{Failure, person, print_json};

/// Lists recorded sessions, newest first.
#[derive(Args)]
pub(super) struct Sessions {
    /// Only those that are open.
    #[arg(long)]
    live: bool,
    /// Only those to this target.
    #[arg(long, default_value = "")]
    target: String,
    /// Only this person's (subject or name).
    #[arg(long, default_value = "")]
    subject: String,
    /// No more than this many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

pub(super) fn sessions(mut client: Client, command: Sessions, json: bool) -> Result<(), Failure> {
    let Sessions { live, target, subject, limit } = command;
    let request = admin::Sessions { subject, target, live_only: live, limit };
    let Response::Sessions(list) = client.ask(Request::Sessions(request))? else { return Err(odd()) };
    if json {
        return print_json(&list);
    }
    if list.sessions.is_empty() {
        say("no sessions");
        return Ok(());
    }
    let mut table = Table::new([
        "SESSION",
        "WHO",
        "TARGET",
        "STARTED",
        "SECONDS",
        "OPERATIONS",
        "REFUSED",
        "STATE",
        "PROCESS",
    ]);
    for s in list.sessions {
        let seconds = if s.ended_us == 0 {
            "…".into()
        } else {
            ((s.ended_us - s.started_us) / 1_000_000).to_string()
        };
        let place = if s.database.is_empty() { s.target } else { format!("{}/{}", s.target, s.database) };
        let pid = s.origin.as_ref().map(|o| o.pid).unwrap_or_default();
        table.row([
            s.id,
            person(s.principal.as_ref()),
            place,
            time(s.started_us),
            seconds,
            s.operations.to_string(),
            s.refused.to_string(),
            if s.moderation.is_empty() { s.state } else { format!("{}, {}", s.state, s.moderation) },
            format!("{} ({pid})", s.exe),
        ]);
    }
    Ok(print(&table.render())?)
}
