//! `sluice approvals`, `approve`, `deny`, `grants`, `revoke`.

mod screen;

use std::time::Duration;

use clap::Args;
use sluice_api::admin::{self, request::Request, response::Response};

use super::client::{Client, odd};
use super::terminal::{DIM, GOOD, HEAD, parse_age, print, safe, safe_lines, say, time};
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

/// Lets it run: once, or for some time.
#[derive(Args)]
pub(super) struct Approve {
    #[command(flatten)]
    decide: Decide,
    /// All that asks for the same (action and object, as `sluice approvals` shows them), by the same person in the same
    /// database or account, for so long: 90s, 30m, 2h. Several who approve: for the shortest time.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_age)]
    lasts: Option<Duration>,
}

/// Ends an approval that holds for some time.
#[derive(Args)]
pub(super) struct Revoke {
    /// The id, as `sluice grants` shows it.
    id: String,
}

pub(super) fn grants(mut client: Client, json: bool) -> Result<(), Failure> {
    let Response::Grants(list) = client.ask(Request::Grants(admin::Grants {}))? else { return Err(odd()) };
    if json {
        return print_json(&list);
    }
    if list.grants.is_empty() {
        say("nothing is granted for a time");
    }
    for grant in &list.grants {
        print(&render_grant(grant))?;
    }
    Ok(())
}

fn render_grant(g: &admin::Grant) -> String {
    let by: Vec<_> = g.approved_by.iter().map(|p| person(Some(p))).collect();
    let reason = if g.reason.is_empty() { String::new() } else { format!("  reason: {}\n", safe(&g.reason)) };
    format!(
        "{HEAD}{}{HEAD:#}  {} on {}/{} until {}\n    {}\n{reason}  {DIM}rule {}, granted by {}{DIM:#}\n",
        safe(&g.id),
        safe(&person(g.principal.as_ref())),
        safe(&g.target),
        safe(&g.database),
        time(g.until_us),
        safe(&g.covers.join("; ")),
        safe(&g.rule),
        safe(&by.join(", "))
    )
}

pub(super) fn revoke(mut client: Client, command: Revoke) -> Result<(), Failure> {
    let Response::Done(done) = client.ask(Request::Revoke(admin::Revoke { id: command.id }))? else {
        return Err(odd());
    };
    say(&safe(&done.message));
    Ok(())
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
    out.push_str(&screen::statement(&a.text));
    out.push_str(&screen::warnings(std::iter::once(&a.text).chain(&a.parameters)));
    for (i, parameter) in a.parameters.iter().enumerate() {
        out.push_str(&format!("    ${} = {}\n", i + 1, safe(parameter)));
    }
    if !a.reason.is_empty() {
        out.push_str(&format!("  reason: {}\n", safe(&a.reason)));
    }
    for line in safe_lines(&a.preview).lines() {
        out.push_str(&format!("  {DIM}│ {line}{DIM:#}\n"));
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

pub(super) fn approve(client: Client, command: Approve, json: bool) -> Result<(), Failure> {
    decide(client, command.decide, true, command.lasts.unwrap_or_default(), json)
}

pub(super) fn deny(client: Client, command: Decide, json: bool) -> Result<(), Failure> {
    decide(client, command, false, Duration::ZERO, json)
}

fn decide(
    mut client: Client,
    command: Decide,
    approve: bool,
    lasts: Duration,
    json: bool,
) -> Result<(), Failure> {
    let lasts_s = lasts.as_secs();
    let request = admin::Decide { id: command.id, approve, reason: command.reason, lasts_s };
    let Response::Approval(approval) = client.ask(Request::Decide(request))? else { return Err(odd()) };
    if json {
        return print_json(&approval);
    }
    let lasts = if approval.lasts_s > 0 { format!(", for {} s", approval.lasts_s) } else { String::new() };
    say(&format!(
        "{GOOD}{}{GOOD:#}: {} of {}{lasts}",
        safe(&approval.state),
        safe(&approval.id),
        safe(&person(approval.requester.as_ref()))
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, parameters: &[&str]) -> String {
        let approval = admin::Approval {
            id: "a1".into(),
            text: text.into(),
            parameters: parameters.iter().map(|p| (*p).to_owned()).collect(),
            reason: "because\u{1b}]0;evil\u{7}\nrule x, needs 0 of nobody".into(),
            preview: "Delete on orders\u{202e}".into(),
            rule: "delete".into(),
            group: "dba".into(),
            needed: 1,
            ..admin::Approval::default()
        };
        anstream::adapter::strip_str(&render(&approval)).to_string()
    }

    /// What could make an approver see something else than what runs. Each is tried on the plain text first: it is there.
    #[test]
    fn what_the_approver_sees_is_what_runs() {
        let hostile = [
            // the end of the line is overwritten, or the screen is
            ("delete from orders -- \rselect 1", "\\u{d}select 1"),
            ("delete from orders\u{1b}[2K\u{1b}[1Gselect 1", "\\u{1b}[2K\\u{1b}[1G"),
            ("delete from orders\u{9b}2J", "\\u{9b}2J"),
            ("delete from orders /*\u{8}\u{8}*/", "\\u{8}\\u{8}"),
            // the writing direction is turned
            ("delete from orders where id = '\u{202e}7 = di'", "\\u{202e}7 = di"),
            ("delete from orders where id = '\u{2067}x\u{2069}'", "\\u{2067}x\\u{2069}"),
            // what nobody sees makes another name
            ("delete from \"orders\u{200b}\"", "orders\\u{200b}"),
            ("delete from \"ord\u{3164}ers\"", "ord\\u{3164}ers"),
            ("delete from orders where note = '\u{a0}'", "'\\u{a0}'"),
        ];
        for (text, seen) in hostile {
            let shown = shown(text, &[]);
            assert!(shown.contains(seen), "{shown}");
            let odd = |c: char| c != '\n' && super::super::terminal::harmful(c);
            assert!(!shown.chars().any(odd), "{shown:?}");
        }
    }

    #[test]
    fn look_alikes_are_named() {
        // Cyrillic o and c; a full-width one; in a parameter
        let shown = shown("delete from \"\u{43e}rders\"", &["\u{441}ard", "\u{ff50}aypal"]);
        for part in ["U+043E, which only looks like `o`", "U+0441, which only looks like `c`", "U+FF50"] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        // people write their own languages
        let plain = self::shown("delete from orders where note = 'Москва, Zürich, Αθήνα'", &["東京"]);
        assert!(!plain.contains("looks like"), "{plain}");
    }

    #[test]
    fn nothing_hides_past_the_screen() {
        let far = format!("delete from notes where id = 7{}or true", " ".repeat(400));
        let shown = shown(&far, &[]);
        assert!(shown.contains("id = 7⟨400 spaces⟩or true"), "{shown}");
        let below = format!("select 1;{}delete from orders", "\n".repeat(300));
        let shown = self::shown(&below, &[]);
        assert!(shown.lines().count() < 20 && shown.contains("⟨299 empty lines⟩"), "{shown}");
        // what can't be shortened is counted, where the eye is: at the end
        let long: String = (0..200).map(|n| format!("update t set a = {n};\n")).collect();
        let shown = self::shown(&long, &[]);
        let after = shown.split_once("update t set a = 199;").map_or("", |(_, after)| after);
        assert!(after.contains("200 lines"), "{after}");
        assert_eq!(shown.matches("update t set a").count(), 200, "all of it is there");
    }

    #[test]
    fn a_reason_makes_no_lines_of_its_own() {
        let shown = shown("delete from orders", &[]);
        assert!(shown.contains("because\\u{1b}]0;evil\\u{7}\\u{a}rule x"), "{shown}");
        assert!(shown.contains("orders\\u{202e}"), "{shown}");
    }
}
