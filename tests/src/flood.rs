//! Floods: more connects, protected entries and events than any table or ring has room for. What must hold: nobody gets past
//! the proxy meanwhile, whoever may get in does afterwards, and what is not on record is counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::command::{hear, until, within};
use crate::scene::Scene;
use crate::{Context as _, Result};

const FLOOD: &str = include_str!("../fixtures/scripts/flood.py");
/// The first of the addresses that nobody has.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 0);

/// How many of each.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Connects to what is protected.
    pub connects: u32,
    /// Protected addresses.
    pub entries: u32,
    /// Tries that are refused.
    pub events: u32,
}

impl Sizes {
    /// Seconds.
    pub const SMALL: Self = Self { connects: 4_000, entries: 3_000, events: 40_000 };
    /// What the list of threats asks for; minutes.
    pub const FULL: Self = Self { connects: 1_000_000, entries: 100_000, events: 1_000_000 };
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How each connect went, as its process saw it.
    pub connects: BTreeMap<String, u64>,
    /// Seconds that they took.
    pub connects_s: f64,
    /// Seconds from their end until a person's psql was answered.
    pub answered_again_s: f64,
    /// How each refused try went.
    pub events: BTreeMap<String, u64>,
    /// Seconds that they took.
    pub events_s: f64,
    /// Events of all of it that are on record.
    pub recorded: u64,
    /// And those that `sluice status` counts as lost.
    pub lost: u64,
    /// Protected entries, as `sluice status` counts them.
    pub entries: u64,
    /// Seconds until all of them were protected, from the change of the configuration on.
    pub entries_s: f64,
    /// Microseconds of a connect that is led to the proxy, with that many.
    pub connect_us: f64,
}

/// Makes them all.
///
/// # Errors
/// One of the promises was not kept.
pub fn run(scene: &mut Scene, sizes: Sizes) -> Result<Report> {
    let before = lost(scene)? + recorded(scene)?;
    let proxies = scene.world.sluice.as_ref().context("no Sluice")?.proxies();
    let mark = scene.world.postgres.mark()?;
    let (connects, connects_s) = flood(scene, "connects", sizes.connects)?;
    let began = Instant::now();
    let sluice = scene.world.sluice.as_ref().context("no Sluice")?;
    assert_eq!(sluice.proxies(), proxies, "a flood ends no proxy: {}", sluice.words());
    until("psql is answered again", Duration::from_secs(120), || Ok(scene.psql()?.contains("20000")))?;
    let answered_again_s = began.elapsed().as_secs_f64();
    // hers: the session, and the one that reads the catalogue
    let arrived = scene.world.postgres.connections_since(mark)?;
    assert!(arrived <= 4, "{arrived} connections arrived at the server: somebody got past the proxy");
    assert!(!connects.contains_key("died"), "{connects:?}");

    let (events, events_s) = flood(scene, "events", sizes.events)?;
    assert_eq!(events.get("open"), None, "each was refused: {events:?}");
    let made = u64::from(sizes.connects) + u64::from(sizes.events);
    let mut last = (0, 0);
    until("every event is on record, or counted as lost", Duration::from_secs(300), || {
        last = (recorded(scene)?, lost(scene)?);
        Ok(last.0 + last.1 - before >= made)
    })
    .context(format!("{last:?} of {made}"))?;
    let (entries, entries_s, connect_us) = entries(scene, sizes.entries)?;
    let (recorded, lost) = last;
    Ok(Report {
        connects,
        connects_s,
        answered_again_s,
        events,
        events_s,
        recorded,
        lost,
        entries,
        entries_s,
        connect_us,
    })
}

fn flood(scene: &Scene, act: &str, count: u32) -> Result<(BTreeMap<String, u64>, f64)> {
    let began = Instant::now();
    let mut python = within(&scene.world.guarded(), "/usr/bin/python3");
    let said = hear(python.args(["-c", FLOOD, act, &count.to_string(), "4"]))?;
    Ok((serde_json::from_str(&said.out).context(said.all())?, began.elapsed().as_secs_f64()))
}

fn status(scene: &Scene) -> Result<serde_json::Value> {
    let sluice = scene.world.sluice.as_ref().context("no Sluice")?;
    let said = sluice.tool(&scene.world.room, &["status", "--json"])?;
    serde_json::from_str(&said.out).context(said.all())
}

fn number(value: &serde_json::Value) -> u64 {
    // 64 bits are text in protobuf's JSON
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

/// Kernel events that nobody could take.
pub fn lost(scene: &Scene) -> Result<u64> {
    Ok(number(&status(scene)?["events_dropped"]))
}

/// Kernel events that are on record; the file may be large.
fn recorded(scene: &Scene) -> Result<u64> {
    let sluice = scene.world.sluice.as_ref().context("no Sluice")?;
    let mut grep = Command::new("grep");
    let said = hear(grep.args(["-c", "\"class\":\"bypass\""]).arg(sluice.log.join("events.jsonl")))?;
    Ok(said.out.trim().parse().unwrap_or_default())
}

/// One more target, with so many addresses; and connects to some of them.
fn entries(scene: &Scene, count: u32) -> Result<(u64, f64, f64)> {
    let sluice = scene.world.sluice.as_ref().context("no Sluice")?;
    let address = |n: u32| Ipv4Addr::from(u32::from(FIRST) + n);
    let mut target =
        "\n[[target]]\nname = \"many\"\nprotocol = \"postgres\"\nports = [5432]\nhosts = [".to_owned();
    for n in 0..count {
        write!(target, "\"{}\",", address(n)).map_err(|error| crate::Failure::new(error.to_string()))?;
    }
    target += "]\n[target.upstream]\nuser = \"app\"\n";
    let text = fs::read_to_string(&sluice.config)?;
    let before = number(&status(scene)?["destinations_total"]);
    let began = Instant::now();
    fs::write(&sluice.config, text + &target)?;
    let mut now = 0;
    until("all of them are protected", Duration::from_secs(180), || {
        now = number(&status(scene)?["destinations_total"]);
        Ok(now == before + u64::from(count))
    })
    .context(format!("{now} of {before} + {count}"))?;
    let entries_s = began.elapsed().as_secs_f64();
    let some = [0, count / 2, count - 1].map(|n| address(n).to_string());
    let mut python = within(&scene.world.guarded(), "/usr/bin/python3");
    let said = hear(python.args(["-c", MET]).args(&some))?;
    let figures: Vec<f64> = said.out.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [met, us] = figures.as_slice() else { return Err(crate::Failure::new(said.all())) };
    assert!(*met as usize == some.len(), "each leads to the proxy: {}", said.all());
    Ok((now, entries_s, *us))
}

/// How many of the addresses answer as the proxy does, and the microseconds of a connect.
const MET: &str = r#"
import socket, struct, sys, time
met = 0
for address in sys.argv[1:]:
    with socket.create_connection((address, 5432), timeout=10) as s:
        s.sendall(struct.pack("!II", 8, 80877103))
        met += s.recv(1) == b"S"
times = []
for n in range(300):
    s = socket.socket()
    began = time.perf_counter()
    s.connect((sys.argv[1 + n % (len(sys.argv) - 1)], 5432))
    times.append(time.perf_counter() - began)
    s.close()
times.sort()
print(met, times[len(times) // 2] * 1e6)
"#;
