//! Benchmarks of the SSH road: OpenSSH directly, by OpenSSH's own jump (`-J`), and through Sluice with recording on. The
//! same scripts on all, in turns; what counts is the ratio to direct.
//!
//! The jump leads over the sshd of the same server, so that it has two sshds and two encryptions as well: what
//! a bastion costs that looks at nothing. No other bastion for SSH with recording is in the registries to be had.

use std::fs;
use std::time::Duration;

use serde::Serialize;

use super::{Options, median, memory};
use crate::conformance::permit_everything;
use crate::enclosure::Room;
use crate::road::Road;
use crate::stage::Stage;
use crate::world::World;
use crate::{Context, Failure, Result};

const NAMES: [&str; 3] = ["direct", "jump", "sluice"];
/// Idle sessions at one time.
const SESSIONS: u32 = 60;

/// A script that prints `elapsed MILLISECONDS`, and what the figure is of.
struct Workload {
    name: &'static str,
    script: String,
    /// Units that pass in that time.
    units: f64,
    unit: &'static str,
    goal: Option<f64>,
}

/// One line of the table. Figures are medians; more is better.
#[derive(Debug, Clone, Serialize)]
struct Row {
    name: &'static str,
    /// Of Sluice to direct.
    ratio: f64,
    goal: Option<f64>,
    unit: &'static str,
    direct: f64,
    jump: f64,
    sluice: f64,
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
    /// Memory of the proxy for an idle session, in kilobytes.
    idle_session_kb: Option<f64>,
}

fn workloads(megabytes: u32, times: u32, sessions: u32) -> Vec<Workload> {
    let timed =
        |script: &str| format!("b=$(date +%s%N)\n{script}\necho elapsed $((($(date +%s%N) - b) / 1000000))");
    let bulk = |name, script: &str, goal| Workload {
        name,
        script: timed(script),
        units: f64::from(megabytes),
        unit: "MB/s",
        goal,
    };
    let count =
        |name, script: String, goal| Workload { name, script, units: f64::from(times), unit: "per s", goal };
    vec![
        bulk("exec, binary down", "ssh $HOST 'cat /tmp/bench-binary' > /dev/null", Some(0.8)),
        bulk(
            "exec, text down, looked at by the detectors",
            "ssh $HOST 'cat /tmp/bench-text' > /dev/null",
            None,
        ),
        bulk("exec, binary up", "ssh $HOST 'cat > /dev/null' < $SCRIPTS/../../bulk", Some(0.8)),
        bulk("sftp, down", "sftp -q $HOST:/tmp/bench-binary /dev/null", Some(0.8)),
        bulk("sftp, up", "echo 'put ../../../bulk /dev/null' | sftp -q -b - $HOST > /dev/null", Some(0.8)),
        bulk("scp -O, down", "scp -q -O $HOST:/tmp/bench-binary /dev/null", Some(0.8)),
        bulk("scp -O, up", "scp -q -O ../../../bulk $HOST:/dev/null", Some(0.8)),
        count("logins", timed(&format!("for n in $(seq {times}); do ssh -n $HOST true; done")), Some(0.667)),
        count(
            "commands on one connection",
            format!(
                "ssh -M -S $PWD/control -fnNT $HOST\n{}\nssh -S $PWD/control -O exit $HOST 2> /dev/null",
                timed(&format!("for n in $(seq {times}); do ssh -n -S $PWD/control $HOST true; done"))
            ),
            None,
        ),
        Workload {
            name: "keystrokes, there and back",
            script: format!("/usr/bin/python3 $SCRIPTS/keys.py $HOST {}", times * 50),
            units: f64::from(times * 50),
            unit: "per s",
            goal: None,
        },
        // All of them wait for the end of the same pipe: none ends before the last has begun.
        Workload {
            name: "sessions at one time, until all run",
            script: format!(
                "mkfifo hold; exec 3<> hold; : > running; b=$(date +%s%N)\n\
                 for n in $(seq {sessions}); do ssh $HOST 'echo runs; cat' < hold >> running 3>&- & done\n\
                 until [ $(wc -l < running) -eq {sessions} ]; do sleep 0.1; done\n\
                 echo elapsed $((($(date +%s%N) - b) / 1000000)); exec 3>&-; wait"
            ),
            units: f64::from(sessions),
            unit: "per s",
            goal: None,
        },
    ]
}

/// Measures everything, prints the table, and says whether all could be measured.
pub fn run(room: Room, options: &Options) -> Result<bool> {
    let stage = Stage::new(true);
    let mut world = World::start(room, &stage)?;
    let (megabytes, times, sessions, rounds) =
        if options.quick { (100, 5, 40, 1) } else { (1000, 20, 200, 3) };
    let mut direct = Road::direct(&world)?;
    let jump = format!(
        "Host jump\n    HostName {}\n    ProxyJump {}\n    User deploy\n    IdentityFile {}\n    \
         StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n    LogLevel ERROR\n    BatchMode yes\n",
        crate::world::network::APP,
        crate::world::network::APP_NAME,
        direct.person.home.join(".ssh/direct").display(),
    );
    let config = direct.person.home.join(".ssh/config");
    fs::write(&config, format!("{}{jump}", fs::read_to_string(&config)?))?;
    prepare(&mut direct, megabytes, &stage)?;
    world.guard(&stage)?;
    let mut sluice = Road::through_sluice(&world, &stage)?;
    permit_everything(&mut sluice, &stage)?;
    let mut rows = Vec::new();
    for workload in workloads(megabytes, times, sessions) {
        if options.only.as_ref().is_some_and(|part| !workload.name.contains(part.as_str())) {
            continue;
        }
        rows.push(measure(&mut direct, &mut sluice, &workload, rounds, &stage)?);
    }
    let idle = options.only.as_ref().is_none_or(|part| "idle session".contains(part.as_str()));
    let idle_session_kb = if idle { Some(idle_session(&mut sluice, &world, &stage)?) } else { None };
    print(&rows, idle_session_kb);
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&Report { rows, idle_session_kb })?)
            .context(format!("failed to write `{}`", file.display()))?;
    }
    Ok(true)
}

/// What is carried, on both sides. Of the file at this side there is one for everybody.
fn prepare(direct: &mut Road, megabytes: u32, stage: &Stage) -> Result<()> {
    stage.progress(&format!("{megabytes} MB of random bytes, and as much of a log"));
    let line = "Nov 25 12:00:00 app backend[4711]: GET /orders/83231 200 17 ms session 5f3a9c (cache hit)";
    let made = direct.walk(
        stage,
        &format!(
            "ssh $HOST 'head -c {megabytes}M /dev/urandom > /tmp/bench-binary; yes \"{line}\" | head -c {megabytes}M > /tmp/bench-text'"
        ),
        Duration::from_secs(120),
    )?;
    let bulk = std::path::Path::new(crate::world::HOME).join("roads/bulk");
    crate::command::sh(
        "sh",
        ["-c", &format!("head -c {megabytes}M /dev/urandom > {0}; chmod 644 {0}", bulk.display())],
    )?;
    if made.status == 0 { Ok(()) } else { Err(Failure::new(made.shown())) }
}

fn measure(
    direct: &mut Road,
    sluice: &mut Road,
    workload: &Workload,
    rounds: usize,
    stage: &Stage,
) -> Result<Row> {
    let mut figures: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds {
        for turn in 0..NAMES.len() {
            // Who begins changes from round to round.
            let at = (round + turn) % NAMES.len();
            let script =
                if at == 1 { workload.script.replace("$HOST", "jump") } else { workload.script.clone() };
            let road = if at == 2 { &mut *sluice } else { &mut *direct };
            let outcome = road.walk(stage, &script, Duration::from_secs(300))?;
            let elapsed =
                outcome.text().lines().find_map(|line| line.strip_prefix("elapsed ")?.parse::<f64>().ok());
            let elapsed = elapsed.filter(|_| outcome.status == 0 && outcome.err.is_empty());
            let elapsed =
                elapsed.context(format!("{} on {}: {}", workload.name, NAMES[at], outcome.shown()))?;
            figures[at].push(workload.units * 1000.0 / elapsed.max(1.0));
        }
    }
    let [direct, jump, sluice] = figures.map(median);
    let ratio = (sluice / direct * 1000.0).round() / 1000.0;
    stage.progress(&format!("{}: {ratio:.2} of direct", workload.name));
    Ok(Row { name: workload.name, ratio, goal: workload.goal, unit: workload.unit, direct, jump, sluice })
}

/// Kilobytes of the proxy's own memory for each session that has run a command and waits.
fn idle_session(sluice: &mut Road, world: &World, stage: &Stage) -> Result<f64> {
    let many =
        |seconds: u32| format!("for n in $(seq {SESSIONS}); do ssh -n $HOST sleep {seconds} & done; wait");
    // The first warm caches up: they are no part of what a further one costs.
    sluice.walk(stage, &many(1), Duration::from_secs(60))?;
    let before = memory::memory(world)?;
    sluice.start(&many(25), Duration::from_secs(60))?;
    std::thread::sleep(Duration::from_secs(18));
    let after = memory::memory(world)?;
    sluice.finish(stage)?;
    Ok((after - before) / f64::from(SESSIONS))
}

fn print(rows: &[Row], idle_session_kb: Option<f64>) {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(10);
    anstream::println!(
        "\n{:width$}  {:>10} {:>10} {:>10}  {:<6} {:>6} {:>6}",
        "",
        "direct",
        "ssh -J",
        "Sluice",
        "unit",
        "ratio",
        "goal"
    );
    for row in rows {
        let goal = row.goal.map_or_else(|| "-".to_owned(), |goal| format!("{goal:.2}"));
        let mark = if row.goal.is_some_and(|goal| row.ratio < goal) { "below the goal" } else { "" };
        anstream::println!(
            "{:width$}  {:>10.1} {:>10.1} {:>10.1}  {:<6} {:>6.2} {:>6}  {mark}",
            row.name,
            row.direct,
            row.jump,
            row.sluice,
            row.unit,
            row.ratio,
            goal,
        );
    }
    if let Some(kilobytes) = idle_session_kb {
        anstream::println!("an idle session costs the proxy {kilobytes:.0} KB (goal: under 150)");
    }
}
