//! What goes wrong while the load goes on: one fault after the other, each until the road is open again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{run, until, within};
use crate::stage::Stage;
use crate::terminal::Terminal;
use crate::world::HOME;
use crate::{Context, Failure, Result};

use super::Finding;
use super::load::Load;

const VANISH: &str = include_str!("../../fixtures/scripts/vanish.py");
/// A good load between two faults.
const CALM: Duration = Duration::from_secs(5);
/// The shortest that a login may be configured to hold.
const SHORT_LOGIN: &str = "login_lifetime = \"60s\"\n";

/// Something that happens.
pub(super) struct Fault {
    pub(super) name: &'static str,
    act: fn(&mut Load) -> Result<()>,
}

/// These take the proxy with them.
pub(super) const LOADER: &[Fault] = &[
    Fault { name: "loader restarted (SIGTERM)", act: |load| restart_loader(load, Signal::SIGTERM) },
    Fault { name: "loader restarted (SIGKILL)", act: |load| restart_loader(load, Signal::SIGKILL) },
];

/// These must not. The server goes first: it ends every session.
const UPSTREAM: &[Fault] = &[
    Fault { name: "upstream killed (backends terminated)", act: terminate_backends },
    Fault { name: "upstream killed (server restarted)", act: |load| restart_server(load, Signal::SIGINT) },
    Fault { name: "upstream killed (server crashes)", act: |load| restart_server(load, Signal::SIGQUIT) },
];
/// While these happen two sessions wait, each for its own end: one whose login expires, one whose client has vanished.
const OTHERS: &[Fault] = &[
    Fault { name: "client vanishes (half-open)", act: vanish },
    Fault { name: "client vanishes (kill -9)", act: kill_client },
    Fault { name: "policy reloaded (good, broken, good)", act: reload_policy },
    Fault { name: "role revoked with the session open", act: revoke },
];
const EXPIRED: &str = "token expires with the session open";

/// Lets it happen and waits until the road is open again; how long that took.
pub(super) fn inject(fault: &Fault, load: &mut Load, stage: &Stage) -> Result<Duration> {
    let begun = Instant::now();
    (fault.act)(load).context(fault.name)?;
    load.flows().context(fault.name)?;
    let took = begun.elapsed();
    stage.progress(&format!("{}: {:.1} s", fault.name, took.as_secs_f64()));
    std::thread::sleep(CALM);
    Ok(took)
}

/// Each fault once, by one and the same proxy.
pub(super) fn round(load: &mut Load, stage: &Stage) -> Result<Vec<(&'static str, Duration)>> {
    let before = proxies(load)?;
    let mut suffered = Vec::new();
    for fault in UPSTREAM {
        suffered.push((fault.name, inject(fault, load, stage)?));
    }
    let begun = Instant::now();
    let expiring = hold_for_a_minute(load).context(EXPIRED)?;
    for fault in OTHERS {
        suffered.push((fault.name, inject(fault, load, stage)?));
    }
    ends(load, expiring, "expiring", "login has ended").context(EXPIRED)?;
    suffered.push((EXPIRED, begun.elapsed()));
    until("the client that vanished is noticed", Duration::from_secs(180), || {
        Ok(load.count("soak-vanish-%")? == 0)
    })?;
    if proxies(load)? == before {
        Ok(suffered)
    } else {
        Err(Failure::new("the proxy is another one than before these faults: one of them ended it"))
    }
}

/// What was suffered, for the table.
pub(super) fn table(suffered: &[(&str, Duration)]) -> Vec<Finding> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in suffered {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let row = |name: &str| {
        let took = suffered.iter().filter(|(other, _)| *other == name).map(|(_, took)| *took);
        let longest = took.clone().max().unwrap_or_default();
        let seen = format!("{} times, at most {:.1} s", took.count(), longest.as_secs_f64());
        Finding::new(name, seen, "the road is open again", true)
    };
    names.into_iter().map(row).collect()
}

fn proxies(load: &Load) -> Result<Vec<u32>> {
    Ok(load.world.sluice.as_ref().context("Sluice has not been started")?.proxies())
}

fn restart_loader(load: &mut Load, signal: Signal) -> Result<()> {
    let sluice = load.world.sluice.as_ref().context("Sluice has not been started")?;
    let (loader, starts) = (sluice.loader().context("no loader runs")?, sluice.starts());
    kill(Pid::from_raw(loader.cast_signed()), signal)?;
    until("the next loader", Duration::from_secs(60), || Ok(sluice.starts() > starts))?;
    sluice.wait_guarding(&load.world.room)?;
    // what has come in between asks its person to log in, each connection by itself, and waits for that
    let waiting = sluice.running("pgbench");
    load.log_in_again()?;
    for pid in waiting {
        // it may have ended by itself
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
    }
    Ok(())
}

fn vanish(load: &mut Load) -> Result<()> {
    let sluice = load.world.sluice.as_ref().context("Sluice has not been started")?;
    let before = sluice.running("psql");
    let alice = load.world.people.alice.clone();
    // the terminal stays until its shell has seen that psql is gone
    let mut terminal = load.held("vanish", &alice)?;
    let pid = sluice.running("psql").into_iter().find(|pid| !before.contains(pid)).context("no psql runs")?;
    let script = super::place().join("vanish.py");
    fs::write(&script, VANISH)?;
    let mut python = within(&load.world.guarded(), "/usr/bin/python3");
    let said = run(python.arg(&script).arg(pid.to_string()))?;
    if !said.contains("with 1 connections") {
        return Err(Failure::new(said));
    }
    terminal.prompt(&load.stage).map(drop)
}

fn kill_client(load: &mut Load) -> Result<()> {
    let sluice = load.world.sluice.as_ref().context("Sluice has not been started")?;
    let mut pid = None;
    until("pgbench runs", Duration::from_secs(30), || {
        pid = sluice.running("pgbench").first().copied();
        Ok(pid.is_some())
    })?;
    let pid = pid.context("no pgbench runs")?;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
    Ok(())
}

fn terminate_backends(load: &mut Load) -> Result<()> {
    let asked = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                 where usename = 'app' and application_name = 'soak-alice'";
    load.world.postgres.psql("postgres", asked).map(drop)
}

fn restart_server(load: &mut Load, signal: Signal) -> Result<()> {
    load.world.postgres.restart(signal)
}

fn policy(name: &str) -> PathBuf {
    Path::new(HOME).join("sluice/policy").join(name)
}

/// Waits until somebody's statement is answered with this.
fn answered(load: &mut Load, name: &str, sql: &str, wanted: &str) -> Result<()> {
    let mut said = String::new();
    until(&format!("`{sql}` of {name} gets `{wanted}`"), Duration::from_secs(30), || {
        said = load.asks(name, sql)?;
        Ok(said.contains(wanted))
    })
    .map_err(|why| Failure::new(format!("{why}; the last answer: {said}")))
}

fn reload_policy(load: &mut Load) -> Result<()> {
    let (rules, probe) = (policy("tour.cedar"), "select 'n' || order_id from payments where id = 7");
    let good = fs::read_to_string(&rules)?;
    let other = "\n@id(\"soak-window\")\nforbid(principal in Group::\"sluice-admins\", action == \
                 Action::\"select\", resource == Table::\"shop/shop/public/payments\");\n";
    // alice's own pgbench meets it, too: refused in the middle of a transaction
    fs::write(&rules, format!("{good}{other}"))?;
    answered(load, "alice", probe, "soak-window")?;
    let rejected = |load: &Load| -> Result<usize> {
        let sluice = load.world.sluice.as_ref().context("Sluice has not been started")?;
        Ok(sluice.events()?.iter().filter(|event| event.to_string().contains("has_were")).count())
    };
    let before = rejected(load)?;
    fs::write(&rules, good.replace("context.has_where", "context.has_were"))?;
    until("the rejection on record", Duration::from_secs(20), || Ok(rejected(load)? > before))?;
    answered(load, "alice", probe, "soak-window").context("the broken policy changes nothing")?;
    fs::write(&rules, &good)?;
    answered(load, "alice", probe, "n7").context("the good policy again")
}

fn revoke(load: &mut Load) -> Result<()> {
    let bob = load.world.people.bob.clone();
    let held = load.held("revoked", &bob)?;
    let rules = policy("revoked.cedar");
    let rule = "@id(\"soak-revoked\")\nforbid(principal in Group::\"dba\", action == Action::\"connect\", resource);\n";
    fs::write(&rules, rule)?;
    let ended = ends(load, held, "revoked", "soak-revoked");
    fs::remove_file(&rules)?;
    ended
}

/// The session of a psql that waits ends by itself, and psql says why with its next statement.
fn ends(load: &Load, mut held: Terminal, name: &str, why: &str) -> Result<()> {
    until(&format!("the session `{name}` ends"), Duration::from_secs(120), || {
        Ok(load.count(&format!("soak-{name}-%"))? == 0)
    })?;
    held.type_line("select 1;")?;
    // psql then tries to connect again, and may be asked to log in: the window is closed
    held.see(why).map(drop)
}

/// A psql of alice's whose login holds for a minute, and no longer.
fn hold_for_a_minute(load: &Load) -> Result<Terminal> {
    let config = load.world.sluice.as_ref().context("Sluice has not been started")?.config.clone();
    let text = fs::read_to_string(&config)?;
    configure(load, &text.replacen("[identity]\n", &format!("[identity]\n{SHORT_LOGIN}"), 1))?;
    let held = load.held("expiring", &load.world.people.alice);
    configure(load, &text)?;
    held
}

/// Puts a configuration into force.
fn configure(load: &Load, text: &str) -> Result<()> {
    let sluice = load.world.sluice.as_ref().context("Sluice has not been started")?;
    let accepted = || -> Result<usize> {
        let events = sluice.events()?;
        Ok(events.iter().filter(|e| e.to_string().contains("\"accepted\"")).count())
    };
    let before = accepted()?;
    fs::write(&sluice.config, text)?;
    let loader = sluice.loader().context("no loader runs")?;
    kill(Pid::from_raw(loader.cast_signed()), Signal::SIGHUP)?;
    until("the configuration is in force", Duration::from_secs(20), || Ok(accepted()? > before))
}
