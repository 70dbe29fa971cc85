//! Very many sessions that do nothing: what each costs the proxy, and what becomes of one more.
//!
//! The target is PostgreSQL behind pgbouncer in transaction mode, as where there are so many clients: the server itself would
//! need a process for each. How many descriptors a process may have bounds it as well: beyond, Sluice refuses in words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::bench::memory;
use crate::command::{until, within};
use crate::enclosure::Room;
use crate::pooler;
use crate::scene::log_in;
use crate::stage::Stage;
use crate::terminal::Terminal;
use crate::world::network::{NAMESPACE, SERVER_NAME};
use crate::world::{HOME, World};
use crate::{Context, Result};

use super::{Finding, place};

const SCRIPT: &str = include_str!("../../fixtures/scripts/sessions.py");
const PORT: u16 = 6432;
/// Memory of one session that waits (DESIGN, section 10), in KB; what a debug build has besides is in it.
const GOAL_KB: f64 = 50.0;
const TARGET: &str = "\n[[target]]\nname = \"many\"\nprotocol = \"postgres\"\nhosts = [\"db.internal\"]\nports = [6432]\n\
    databases = [\"shop\"]\n\n[target.upstream]\nuser = \"app\"\npassword_file = \"@ETC@/secrets/shop\"\n\
    tls = \"verify-full\"\nca_file = \"@CA@\"\n";
const RULES: &str = "@id(\"many\")\npermit(principal in Group::\"analysts\", action in [Action::\"connect\", \
    Action::\"select\", Action::\"session\"], resource in Target::\"many\");\n";

/// Opens so many, and then one more and another one.
pub fn many(room: Room, stage: &Stage, sessions: u32) -> Result<Vec<Finding>> {
    let mut world = World::start(room, stage)?;
    // one more than there will be: it has to work, and the next one has to be refused
    let limits = format!("\n[limits]\nconnections = {}\n", sessions + 1);
    world.configuration = format!("{}{TARGET}{limits}", world.configuration).leak();
    let mut pooler = pgbouncer(&world, sessions + 100)?;
    world.guard(stage)?;
    let found = measure(&world, stage, sessions);
    drop(pooler.kill());
    drop(pooler.wait());
    found
}

fn measure(world: &World, stage: &Stage, sessions: u32) -> Result<Vec<Finding>> {
    fs::create_dir_all(place())?;
    fs::write(place().join("sessions.py"), SCRIPT)?;
    fs::set_permissions(place(), fs::Permissions::from_mode(0o755))?;
    fs::write(Path::new(HOME).join("sluice/policy/many.cedar"), RULES)?;
    let mut alice = log_in(world, stage, &world.people.alice)?;
    let psql = format!("timeout 30 psql 'host={SERVER_NAME} port={PORT} dbname=shop' -Atc 'select 40 + 2'");
    until("the road through pgbouncer is open", Duration::from_secs(30), || {
        Ok(alice.run(stage, &psql)?.text.lines().any(|line| line == "42"))
    })?;
    // the first sessions warm caches up
    let (warm, _) = hold(world, stage, &mut alice, sessions.min(100), |_| Ok(()))?;
    stage.progress(&warm);
    let before = memory::memory(world)?;
    stage.progress(&format!("{sessions} sessions"));
    let begun = Instant::now();
    let (said, seen) = hold(world, stage, &mut alice, sessions, |said| {
        let (took, after) = (begun.elapsed(), memory::memory(world)?);
        let mut another = log_in(world, stage, &world.people.alice)?;
        let more = another.run(stage, &psql)?;
        // it stays, and with it the limit is reached
        another.type_line(&psql.replacen("timeout 30 ", "", 1).replacen(" -Atc 'select 40 + 2'", "", 1))?;
        another.psql_prompt(stage)?;
        let beyond = log_in(world, stage, &world.people.bob)?.run(stage, &psql)?;
        Ok((said.to_owned(), took, after, more, beyond))
    })?;
    let (opened, took, after, more, beyond) = seen.context("nothing was seen")?;
    let number = |text: &str, word: &str| -> u32 {
        let rest = text.split_once(word).map_or("", |(_, rest)| rest.trim_start());
        rest.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default()
    };
    let held = number(&opened, "open");
    let each = (after - before) / f64::from(held.max(1));
    let all = held == sessions;
    let clear = |text: &str| text.contains("connections as it may have at one time");
    Ok(vec![
        Finding::new(
            format!("{sessions} sessions at one time"),
            format!("{} in {:.0} s", opened.trim(), took.as_secs_f64()),
            "all open, or the others refused in words",
            all || (held > 0 && clear(&opened)),
        ),
        Finding::new(
            "memory of a session that waits",
            format!("{each:.1} KB"),
            format!("at most {GOAL_KB} KB"),
            each <= GOAL_KB,
        ),
        Finding::new(
            "each of them asks again",
            said.lines().last().unwrap_or_default(),
            format!("answered {held}"),
            number(&said, "answered") == held,
        ),
        Finding::new(
            "one more",
            more.text.trim(),
            if all { "42" } else { "refused in words" },
            if all { more.text.lines().any(|line| line == "42") } else { clear(&more.text) },
        ),
        Finding::new(
            "one beyond limits.connections",
            beyond.text.trim().replace('\n', " "),
            "refused in words",
            beyond.status != 0 && clear(&beyond.text),
        ),
    ])
}

/// Runs the script until its sessions are open, then `body`, then to its end; all that it said.
fn hold<T>(
    world: &World,
    stage: &Stage,
    terminal: &mut Terminal,
    sessions: u32,
    body: impl FnOnce(&str) -> Result<T>,
) -> Result<(String, Option<T>)> {
    let (out, go) = (world.people.alice.home.join("sessions"), place().join("go"));
    fs::remove_file(&go).ok();
    fs::remove_file(&out).ok();
    let script = place().join("sessions.py");
    terminal.run(
        stage,
        &format!(
            "(python3 {} {SERVER_NAME} {PORT} {sessions} {} > {2} 2>&1; echo finished >> {2}) &",
            script.display(),
            go.display(),
            out.display()
        ),
    )?;
    let mut said = String::new();
    until("the sessions are open", Duration::from_secs(3600), || {
        said = fs::read_to_string(&out).unwrap_or_default();
        Ok(said.lines().any(|line| line.starts_with("open ")) || said.ends_with("finished\n"))
    })?;
    let seen = if said.ends_with("finished\n") { None } else { Some(body(&said)?) };
    fs::write(&go, "")?;
    until("the sessions are over", Duration::from_secs(600), || {
        said = fs::read_to_string(&out).unwrap_or_default();
        Ok(said.ends_with("finished\n"))
    })?;
    Ok((said.replace("finished\n", ""), seen))
}

/// In front of the server, on its side of the wire. One connection to it: what asks by the extended protocol between two
/// transactions (the catalogue's reader) finds its statement there.
fn pgbouncer(world: &World, clients: u32) -> Result<Child> {
    let settings = format!(
        "listen_addr = *\nlisten_port = {PORT}\n\
         pool_mode = transaction\nmax_client_conn = {clients}\ndefault_pool_size = 1\nserver_tls_sslmode = require\n"
    );
    let (settings, log) = pooler::furnish(world, "pooler", "127.0.0.1", &settings)?;
    within(&world.outside(), "nsenter")
        .args([&format!("--net=/run/netns/{NAMESPACE}"), "--", "setpriv"])
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--", "sh", "-c"])
        .arg("ulimit -n $(ulimit -Hn); exec pgbouncer -q \"$0\"")
        .arg(settings)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("failed to start pgbouncer")
}
