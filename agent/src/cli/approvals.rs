//! `sluice approvals`, `approve`, `deny`.

use clap::Args;
use sluice_api::admin::{self, request::Request, response::Response};

use super::client::{Client, odd};
use super::terminal::{DIM, GOOD, HEAD, print, safe, safe_lines, say, time};
use super::{Failure, person, print_json};

/// Decides on what somebody else asked for. Nobody decides for himself, whatever groups he is in.
#[derive(Args)]
pub(super) struct Decide {
    /// The id, as `sluice approvals` shows it.
    id: String,
    /// Why; stands in the record, and the requester sees it.
    #[arg(long, default_value = "")]
    reason: String,
}

pub(super) fn list(mut client: Client, json: bool) -> Result<(), Failure> {
    let Response::Approvals(list) = client.ask(Request::Approvals(admin::Approvals {}))? else {
        return Err(odd());
    };
    if json {
        return print_json(&list);
    }
    if list.approvals.is_empty() {
        say("nothing waits");
        return Ok(());
    }
    for approval in &list.approvals {
        print(&render(approval))?;
    }
    Ok(())
}

/// All that will run stands there, escaped: what the approver sees is what runs.
fn render(a: &admin::Approval) -> String {
    let mut out = format!(
        "{HEAD}{}{HEAD:#}  {} wants this on {}/{} since {}\n",
        safe(&a.id),
        safe(&person(a.requester.as_ref())),
        safe(&a.target),
        safe(&a.database),
        time(a.requested_us)
    );
    for line in safe_lines(&a.text).lines() {
        out.push_str(&format!("    {line}\n"));
    }
    for (i, parameter) in a.parameters.iter().enumerate() {
        out.push_str(&format!("    ${} = {}\n", i + 1, safe(parameter)));
    }
    if !a.reason.is_empty() {
        out.push_str(&format!("  reason: {}\n", safe(&a.reason)));
    }
    let so_far: Vec<_> = a.approved_by.iter().map(|p| person(Some(p))).collect();
    out.push_str(&format!(
        "  {DIM}rule {}, needs {} of {}{}; ends {}; digest {}{DIM:#}\n",
        safe(&a.rule),
        a.needed,
        safe(&a.group),
        if so_far.is_empty() { String::new() } else { format!(" (so far {})", safe(&so_far.join(", "))) },
        time(a.expires_us),
        safe(a.digest.get(..16).unwrap_or(&a.digest))
    ));
    out
}

pub(super) fn decide(mut client: Client, command: Decide, approve: bool, json: bool) -> Result<(), Failure> {
    let request = admin::Decide { id: command.id, approve, reason: command.reason };
    let Response::Approval(approval) = client.ask(Request::Decide(request))? else { return Err(odd()) };
    if json {
        return print_json(&approval);
    }
    say(&format!(
        "{GOOD}{}{GOOD:#}: {} of {}",
        safe(&approval.state),
        safe(&approval.id),
        safe(&person(approval.requester.as_ref()))
    ));
    Ok(())
}
