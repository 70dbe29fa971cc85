//! `sluice status`, `targets`, `ca`, `reload`.

use sluice_api::admin::{self, request::Request, response::Response};

use clap::Args;

use super::client::{Client, odd};
use super::terminal::{BAD, GOOD, HEAD, Table, WARN, print, safe, say, time};
use super::{Failure, print_json};

pub(super) fn status(mut client: Client, json: bool) -> Result<(), Failure> {
    let Response::Status(report) = client.ask(Request::Status(admin::Status {}))? else { return Err(odd()) };
    let sound = report.layers.iter().all(|l| l.state == "enforced")
        && !report.layers.is_empty()
        && report.components.iter().all(|c| c.state == "ok")
        && report.mode.as_ref().is_none_or(|mode| mode.mode == "enforce");
    if json {
        print_json(&report)?;
    } else {
        print(&render(&report))?;
    }
    if sound { Ok(()) } else { Err(Failure::Told) }
}

/// What nobody must overlook.
fn mode(report: &admin::StatusReport) -> String {
    let Some(mode) = report.mode.as_ref().filter(|mode| mode.mode != "enforce") else { return String::new() };
    let (style, what) = match mode.mode.as_str() {
        "observe" => (WARN, "OBSERVING: nothing is enforced, everything is told as it would be"),
        _ => (BAD, "DISARMED: nothing is enforced, everybody reaches everything directly"),
    };
    let mut text = format!("{style}{what}{style:#}\n");
    if mode.since_us > 0 {
        text += &format!("  since {} by {}", time(mode.since_us), safe(&mode.by));
        if !mode.approved_by.is_empty() {
            text += &format!(", approved by {}", safe(&mode.approved_by));
        }
        text += &format!(": {}\n", safe(&mode.reason));
    }
    let until = if mode.until_us > 0 { time(mode.until_us) } else { "somebody says `sluice arm`".to_owned() };
    text + &format!("  until {until}\n\n")
}

fn render(report: &admin::StatusReport) -> String {
    let style = |state: &str| match state {
        "enforced" | "ok" => GOOD,
        "observed" | "degraded" => WARN,
        _ => BAD,
    };
    let mut layers = Table::new(["LAYER", "STATE", "LAST PROVEN", "PROOF"]);
    for layer in &report.layers {
        layers.styled([
            (layer.name.clone(), Default::default()),
            (layer.state.clone(), style(&layer.state)),
            (
                if layer.proven_us == 0 { "never".to_owned() } else { time(layer.proven_us) },
                Default::default(),
            ),
            (layer.proof.clone(), Default::default()),
        ]);
    }
    let mut components = Table::new(["COMPONENT", "STATE", "DETAIL"]);
    for component in &report.components {
        components.styled([
            (component.name.clone(), Default::default()),
            (component.state.clone(), style(&component.state)),
            (component.detail.clone(), Default::default()),
        ]);
    }
    let mut places = Table::new(["TARGET", "NAME", "NETWORK", "PORT"]);
    for place in &report.destinations {
        let port = if place.port == 0 { "any".to_owned() } else { place.port.to_string() };
        places.row([place.target.clone(), place.name.clone(), place.network.clone(), port]);
    }
    let more = report.destinations_total.saturating_sub(report.destinations.len() as u64);
    let more = if more > 0 { format!("and {more} more\n") } else { String::new() };
    mode(report)
        + &format!(
            "{HEAD}Sluice {}{HEAD:#} guards {} (armed for {} s)\n\
         {} open sessions, {} logins, {} requests waiting, policy generation {}, {} kernel events lost\n\n{}\n{}{more}\n{}",
            safe(&report.version),
            safe(&report.cgroup),
            report.armed_for_s,
            report.sessions_open,
            report.logins,
            report.approvals_waiting,
            report.policy_generation,
            report.events_dropped,
            layers.render(),
            places.render(),
            components.render(),
        )
}

pub(super) fn targets(mut client: Client, json: bool) -> Result<(), Failure> {
    let Response::Targets(list) = client.ask(Request::Targets(admin::Targets {}))? else { return Err(odd()) };
    if json {
        return print_json(&list);
    }
    let mut table = Table::new(["TARGET", "PROTOCOL", "HOSTS", "PORTS", "ACCESS"]);
    for target in list.targets {
        let ports = target.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        table.row([target.name, target.protocol, target.hosts.join(","), ports, target.access]);
    }
    Ok(print(&table.render())?)
}

/// Which of Sluice's CAs.
#[derive(Args)]
pub(super) struct Ca {
    /// The line for ssh_known_hosts, by which ssh trusts Sluice in the place of the targets.
    #[arg(long, conflicts_with = "ssh_user")]
    ssh: bool,
    /// The key for a target's TrustedUserCAKeys, by which it trusts the certificates of Sluice.
    #[arg(long)]
    ssh_user: bool,
}

pub(super) fn ca(mut client: Client, command: &Ca) -> Result<(), Failure> {
    let kind = match command {
        Ca { ssh: true, .. } => "ssh",
        Ca { ssh_user: true, .. } => "ssh-user",
        Ca { .. } => "",
    };
    let asked = Request::Ca(admin::Ca { kind: kind.to_owned() });
    let Response::Ca(certificate) = client.ask(asked)? else { return Err(odd()) };
    Ok(print(&certificate.pem)?)
}

pub(super) fn reload(mut client: Client) -> Result<(), Failure> {
    match client.ask(Request::Reload(admin::Reload {}))? {
        Response::Done(done) => say(&safe(&done.message)),
        _ => return Err(odd()),
    }
    Ok(())
}
