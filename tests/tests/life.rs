//! The guard in the hands of root, and of chance: what is taken from it is seen within a second, told, and put back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_tests::command::{hear, sh, until};
use sluice_tests::enclosure::in_room;
use sluice_tests::stage::Stage;
use sluice_tests::world::mounts::BPF;
use sluice_tests::world::sluice::Sluice;
use sluice_tests::world::{HOME, World};
use sluice_tests::{Context as _, Result};

const MEDDLE: &str = include_str!("../fixtures/scripts/meddle.py");
/// Connects to the database at once, and says who answers.
const KNOCK: &str = r#"
import socket, struct
try:
    s = socket.create_connection(("10.77.0.2", 5432), timeout=3)
    body = struct.pack("!I", 196608) + b"user\0app\0database\0shop\0\0"
    s.sendall(struct.pack("!I", len(body) + 4) + body)
    print("server" if b"pg_hba.conf" in s.recv(4096) else "proxy")
except OSError as error:
    print("refused", error)
"#;

/// Somebody with every right, who knows where things are.
struct Root<'a> {
    world: &'a World,
    sluice: &'a Sluice,
    pins: PathBuf,
    told: usize,
}

impl<'a> Root<'a> {
    fn new(world: &'a World) -> Self {
        let sluice = world.sluice.as_ref().expect("Sluice");
        Self { world, sluice, pins: Path::new(BPF).join("sluice"), told: 0 }
    }

    /// By bpf(2).
    fn meddle(&self, act: &str, rest: &[&str]) -> Result<()> {
        let pins = self.pins.to_string_lossy();
        let said = hear(Command::new("/usr/bin/python3").args(["-c", MEDDLE, act, &pins]).args(rest))?;
        assert!(said.ok() && said.out.contains("done"), "{act}: {}", said.all());
        Ok(())
    }

    fn knock(&self) -> Result<String> {
        let said = hear(self.world.command_as_root("/usr/bin/python3").args(["-c", KNOCK]))?;
        Ok(said.out.trim().to_owned())
    }

    /// The guard's own events that are new.
    fn news(&mut self) -> Result<Vec<serde_json::Value>> {
        let mut events = self.sluice.events()?;
        events.retain(|event| event["class"] == "guard");
        let new = events.split_off(self.told.min(events.len()));
        self.told += new.len();
        Ok(new)
    }

    /// Does something to the guard; it is seen within a second, by these events, and healed where it can be.
    fn does(&mut self, act: impl FnOnce(&Self) -> Result<()>, wanted: &[(&str, &str)]) -> Result<()> {
        self.news()?;
        let began = now_us();
        act(self)?;
        let mut seen = Vec::new();
        let all = until("the events", Duration::from_secs(3), || {
            seen.extend(self.news()?);
            Ok(wanted.iter().all(|(what, part)| {
                seen.iter().any(|event| event["what"] == *what && event.to_string().contains(part))
            }))
        });
        assert!(all.is_ok(), "wanted {wanted:?}, but there is {seen:?}\n{}", self.sluice.words());
        for event in &seen {
            let after = event["seen_us"].as_i64().unwrap_or(i64::MAX) - began;
            assert!(after < 1_000_000 + 400_000, "seen {after} µs after it began: {event}");
            assert!(event["what"] == "foreign" || event["healed"] == true, "{event}");
        }
        assert_eq!(self.knock()?, "proxy", "closed again");
        Ok(())
    }

    /// The number in the name of the tables' directory.
    fn version(&self) -> Result<String> {
        let names = fs::read_dir(&self.pins)?.flatten().map(|entry| entry.file_name());
        let mut names = names.filter_map(|name| Some(name.to_str()?.strip_prefix("maps-")?.to_owned()));
        names.next().context("no tables are pinned")
    }

    fn pinned(&self, name: &str) -> bool {
        self.pins.join(name).exists()
    }
}

fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Each act of root that KERNEL.md's table has, without LSM.
#[test]
fn h21_what_root_takes_away_is_seen_within_a_second_and_put_back() {
    in_room("h21_what_root_takes_away_is_seen_within_a_second_and_put_back", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        world.guard(&stage)?;
        let mut root = Root::new(&world);
        let version = root.version()?;
        assert_eq!(root.knock()?, "proxy");

        // pins: removed, moved, replaced by something else, their file system taken away or covered
        root.does(
            |r| sh("rm", ["-r", &r.pins.join("links").to_string_lossy()]).map(drop),
            &[("pin", "sluice_egress")],
        )?;
        assert!(root.pinned("links/sluice_connect4"));
        let aside = Path::new(BPF).join("aside");
        root.does(
            |r| Ok(fs::rename(r.pins.join("links"), &aside)?),
            &[("pin", "sluice_connect4"), ("pin", "sluice_bind6")],
        )?;
        root.does(
            |r| {
                let (one, other) =
                    (r.pins.join("links/sluice_connect4"), r.pins.join("links/sluice_connect6"));
                fs::remove_file(&one)?;
                Ok(fs::rename(other, one)?)
            },
            &[("pin", "leads to another"), ("pin", "sluice_connect6")],
        )?;
        root.does(
            |r| sh("rm", ["-r", &r.pins.join("lineage").to_string_lossy()]).map(drop),
            &[("pin", "sluice_fork")],
        )?;
        let tables = root.pins.join(format!("maps-{version}"));
        root.does(|_| Ok(fs::remove_file(tables.join("TAGS"))?), &[("pin", "TAGS")])?;
        root.does(
            |_| sh("umount", ["-l", BPF]).map(drop),
            &[("pins", BPF), ("pin", "sluice_egress"), ("pin", "TAGS")],
        )?;
        let pins = root.pins.to_string_lossy().into_owned();
        root.does(
            |_| sh("mount", ["-t", "tmpfs", "tmpfs", &pins]).map(drop),
            &[("pins", BPF), ("pin", "sluice_connect4"), ("pin", "OWN")],
        )?;
        assert!(root.pinned("links/sluice_connect4") && root.pinned(&format!("maps-{version}/OWN")));

        // what holds in the kernel itself
        root.does(|r| r.meddle("detach", &["links/sluice_connect4"]), &[("link", "sluice_connect4")])?;
        root.does(|r| r.meddle("update", &[]), &[("program", "stranger")])?;
        root.does(|r| r.meddle("empty", &[&version]), &[("table", "10.77.0.2/32")])?;
        root.does(|r| r.meddle("listener", &[&version]), &[("table", "LISTENER")])?;
        let guarded = world.guarded().to_string_lossy().into_owned();
        root.does(|r| r.meddle("attach", &[&guarded]), &[("foreign", "stranger")])?;
        let status = root.sluice.tool(&world.room, &["status"])?;
        assert!(status.out.contains("foreign: stranger (tag "), "{}", status.all());
        Ok(())
    });
}

/// The hole is a real one: with nobody who looks, root's detachments open the way. Whoever looks again closes it, and says
/// for how long it can have been open.
#[test]
fn h21_the_hole_is_real_and_the_next_look_closes_it() {
    in_room("h21_the_hole_is_real_and_the_next_look_closes_it", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        world.guard(&stage)?;
        let mut root = Root::new(&world);
        let loader = Pid::from_raw(root.sluice.loader().expect("a loader").cast_signed());
        root.news()?;
        kill(loader, Signal::SIGSTOP)?;
        let devices = fs::read_dir(root.pins.join("devices"))?.flatten();
        let devices: Vec<String> =
            devices.map(|entry| format!("devices/{}", entry.file_name().to_string_lossy())).collect();
        let mut all = vec!["links/sluice_connect4", "links/sluice_egress"];
        all.extend(devices.iter().map(String::as_str));
        root.meddle("detach", &all)?;
        assert_eq!(root.knock()?, "server", "the way is open, or this test proves nothing");
        std::thread::sleep(Duration::from_millis(700));
        kill(loader, Signal::SIGCONT)?;
        let mut open = 0;
        until("the end of it", Duration::from_secs(3), || {
            let news = root.news()?;
            let links = news.iter().filter(|event| event["what"] == "link");
            open = links.filter_map(|event| event["open_ms"].as_u64()).max().unwrap_or(open).max(open);
            Ok(open > 0)
        })?;
        assert!((700..10_000).contains(&open), "open for {open} ms");
        assert_eq!(root.knock()?, "proxy");
        let status = root.sluice.tool(&world.room, &["status", "--json"])?;
        let report: serde_json::Value = serde_json::from_str(&status.out)?;
        assert!(report["incidents"].as_u64().is_some_and(|n| n >= 2), "{}", status.out);
        let metrics = sh("curl", ["-s", "--unix-socket", "/run/sluice/metrics.sock", "http://x/metrics"])?;
        assert!(
            metrics.contains("\nsluice_guard_incidents_total ")
                && !metrics.contains("_total 0\nsluice_guard"),
            "{metrics}"
        );
        assert!(metrics.contains("sluice_layer_proven_timestamp_seconds{layer=\"connect\"} 1"), "{metrics}");
        // nothing of Sluice's stands in these words
        assert!(fs::metadata(Path::new(HOME).join("log/events.jsonl")).is_ok());
        Ok(())
    });
}
