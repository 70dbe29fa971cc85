//! One value as large as the protocol allows: it passes in bounded memory, or is refused in words, as docs/protocol.md says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::command::until;
use crate::enclosure::Room;
use crate::scene::log_in;
use crate::stage::Stage;
use crate::terminal::Terminal;
use crate::world::{HOME, World};
use crate::{Context, Result};

use super::{Finding, place};

const SCRIPT: &str = include_str!("../../fixtures/scripts/large.py");
/// What it imports.
const RAW: &str = include_str!("../../fixtures/scripts/raw.py");
/// What the proxy may need more for any of it: its buffers, and a message that is looked at as a whole.
const ROOM_MB: f64 = 96.0;
/// Longer messages are not held (`MAX_WHOLE` of the relay).
const WHOLE_MB: u32 = 64;
/// What leaves, and what comes.
const DOWN: [&str; 5] = ["simple", "extended, text", "extended, binary", "COPY, text", "COPY, binary"];
/// The same of a column without a class.
const LOOKED_AT: [&str; 3] = ["simple, no class", "extended, no class", "COPY, no class"];
const UP: [&str; 3] = ["a literal", "a parameter", "COPY in"];
const RULES: &str = "@id(\"large-values\")\npermit(principal in Group::\"analysts\", action, resource in Target::\"shop\");\n";

/// Every road. Values pass unlooked at where they are of a class that the person may see (`unmask`); all others are looked at
/// by the detectors, as a whole.
pub fn large(room: Room, stage: &Stage, megabytes: u32) -> Result<Vec<Finding>> {
    let mut world = World::start(room, stage)?;
    prepare(&world, megabytes, stage)?;
    world.guard(stage)?;
    let alice = world.people.alice.clone();
    let mut terminal = log_in(&world, stage, &alice)?;
    fs::write(Path::new(HOME).join("sluice/policy/tour.cedar"), RULES)?;
    until("the wide policy", Duration::from_secs(20), || {
        let said = terminal.run(stage, "psql -h db.internal shop -c 'drop table if exists nothing_there'")?;
        Ok(said.status == 0)
    })?;
    let mut found = Vec::new();
    for road in DOWN {
        stage.progress(&format!("{megabytes} MB, of a class that alice may see: {road}"));
        let (seen, grown) = walk(&world, stage, &mut terminal, road, megabytes)?;
        let whole = seen["whole"] == true;
        found.push(passed(road, megabytes, &seen, whole, grown, "in clear"));
    }
    for road in UP {
        stage.progress(&format!("{megabytes} MB: {road}"));
        let (seen, grown) = walk(&world, stage, &mut terminal, road, megabytes)?;
        if road == "COPY in" {
            let whole = world.postgres.psql("shop", "select t.v = l.v from taken t, large l")? == "t";
            found.push(passed(road, megabytes, &seen, whole, grown, "in clear"));
        } else {
            found.push(refused(road, megabytes, &seen, grown, true));
        }
    }
    // what the detectors have to look at is held, or the session ends: never a part of it in clear
    for road in LOOKED_AT {
        stage.progress(&format!("{megabytes} MB, looked at by detectors: {road}"));
        let (seen, grown) = walk(&world, stage, &mut terminal, road, megabytes)?;
        found.push(refused(road, megabytes, &seen, grown, false));
    }
    Ok(found)
}

fn prepare(world: &World, megabytes: u32, stage: &Stage) -> Result<()> {
    stage.progress(&format!("a value of {megabytes} MB"));
    let units = u64::from(megabytes) << 17;
    let server = &world.postgres;
    server.psql("shop", "create table large (v text, b bytea); create table taken (v text)")?;
    server.psql("shop", &format!("insert into large (v) select repeat('sluice-8', {units})"))?;
    server.psql("shop", "update large set b = convert_to(v, 'UTF8')")?;
    server.psql("shop", "create table plain as select v from large")?;
    for column in ["v", "b"] {
        server.psql("shop", &format!("comment on column large.{column} is 'sluice:bulk'"))?;
    }
    for table in ["large", "taken", "plain"] {
        server.psql("shop", &format!("alter table {table} owner to app"))?;
    }
    fs::create_dir_all(place())?;
    fs::write(place().join("large.py"), SCRIPT)?;
    fs::write(place().join("raw.py"), RAW)?;
    fs::set_permissions(place(), fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// What came of it, and by how many MB the proxy has been larger meanwhile than before.
fn walk(
    world: &World,
    stage: &Stage,
    terminal: &mut Terminal,
    road: &str,
    megabytes: u32,
) -> Result<(Value, f64)> {
    let sluice = world.sluice.as_ref().context("Sluice has not been started")?;
    let pid = sluice.proxies().first().copied().context("no proxy runs")?;
    // the kernel forgets the peak (proc(5))
    fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    let before = super::gauge::resident_kb(pid)?;
    let script = place().join("large.py");
    // in the background and waited for by its output: a gigabyte takes longer than a person's patience at the prompt
    let out = world.people.alice.home.join("large.out");
    let line = format!(
        "(python3 {} db.internal {megabytes} '{road}' > {1} 2>&1; echo finished >> {1}) &",
        script.display(),
        out.display()
    );
    fs::remove_file(&out).ok();
    terminal.run(stage, &line)?;
    let mut said = String::new();
    until(&format!("{road}: the end"), Duration::from_secs(900), || {
        said = fs::read_to_string(&out).unwrap_or_default();
        Ok(said.ends_with("finished\n"))
    })?;
    let seen = said.lines().find_map(|line| serde_json::from_str(line).ok());
    let seen: Value = seen.context(format!("{road}: {said}"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the proxy has ended")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let peak: f64 = peak.split_whitespace().next().and_then(|n| n.parse().ok()).context("no VmHWM")?;
    Ok((seen, (peak - before).max(0.0) / 1024.0))
}

fn passed(road: &str, megabytes: u32, seen: &Value, whole: bool, grown: f64, how: &str) -> Finding {
    let held = whole && seen["alive"] == true && grown <= ROOM_MB;
    let words = if seen["error"] == "" { String::new() } else { format!(", {}", seen["error"]) };
    Finding::new(
        format!("{megabytes} MB, {road}"),
        format!("whole: {whole}, session lives: {}, proxy +{grown:.0} MB{words}", seen["alive"]),
        format!("passes {how}, proxy at most +{ROOM_MB} MB"),
        held,
    )
}

/// `lives`: the session goes on behind the refusal; else it ends with the words.
fn refused(road: &str, megabytes: u32, seen: &Value, grown: f64, lives: bool) -> Finding {
    let words = seen["error"].as_str().unwrap_or_default();
    let fits = megabytes < WHOLE_MB;
    let clear = words.contains("54000") && words.contains("too long");
    let held =
        if fits { seen["alive"] == true } else { clear && seen["alive"] == lives && seen["bytes"] == 0 };
    Finding::new(
        format!("{megabytes} MB, {road}"),
        format!("session lives: {}, proxy +{grown:.0} MB, {words}", seen["alive"]),
        format!("refused in words, session lives: {lives}, proxy at most +{ROOM_MB} MB"),
        held && grown <= ROOM_MB,
    )
}
