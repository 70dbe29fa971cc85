//! `sluice explain`.

use clap::Args;
use sluice_api::admin::{self, request::Request, response::Response};

use super::client::{Client, odd};
use super::terminal::{BAD, GOOD, HEAD, Table, WARN, print, safe};
use super::{Failure, print_json};

/// Says what a statement is understood to do and what the policy in force says to it. Nothing runs.
#[derive(Args)]
pub(super) struct Explain {
    /// The statement.
    text: String,
    /// The target, as `sluice targets` shows it.
    #[arg(long)]
    target: String,
    /// The database.
    #[arg(long, default_value = "")]
    database: String,
    /// Explain for somebody else: a subject (where policy lets you ask).
    #[arg(long, default_value = "")]
    user: String,
    /// The groups to assume for --user; may be repeated.
    #[arg(long = "group", requires = "user")]
    groups: Vec<String>,
}

pub(super) fn explain(mut client: Client, command: Explain, json: bool) -> Result<(), Failure> {
    let Explain { text, target, database, user, groups } = command;
    let request = admin::Explain { subject: user, groups, target, database, text };
    let Response::Explanation(answer) = client.ask(Request::Explain(request))? else { return Err(odd()) };
    if json {
        return print_json(&answer);
    }
    let style = match answer.outcome.as_str() {
        "permit" => GOOD,
        "hold" => WARN,
        _ => BAD,
    };
    let mut table = Table::new(["ACTION", "RESOURCE", "EFFECT", "RULES", "MESSAGE"]);
    for r in answer.reasons {
        table.row([r.action, r.resource, r.effect, r.rules.join(", "), r.message]);
    }
    let mut out =
        format!("{style}{HEAD}{}{HEAD:#}{style:#}: {}\n", safe(&answer.outcome), safe(&answer.understood));
    out.push_str(&table.render());
    for obligation in &answer.obligations {
        out.push_str(&format!("obligation: {}\n", safe(obligation)));
    }
    if !answer.vouchers.is_empty() {
        out.push_str("to answer for a function as it is now, add to [target.functions] of sluice.toml:\n");
        out.push_str(&format!("vouched = [{}]\n", safe(&answer.vouchers.join(", "))));
    }
    if !answer.masked_columns.is_empty() {
        out.push_str(&format!("masked: {}\n", safe(&answer.masked_columns.join(", "))));
    }
    Ok(print(&out)?)
}
