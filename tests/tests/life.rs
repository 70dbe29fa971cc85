//! The guard in the hands of root, and of chance: what is taken from it is seen within a second, told, and put back.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_tests::command::{hear, sh, until};
use sluice_tests::enclosure::in_room;
use sluice_tests::scene::Scene;
use sluice_tests::stage::Stage;
use sluice_tests::world::certificates;
use sluice_tests::world::mounts::BPF;
use sluice_tests::world::sluice::Sluice;
use sluice_tests::world::{HOME, World};
use sluice_tests::{Context as _, Failure, Result};

const MEDDLE: &str = include_str!("../fixtures/scripts/meddle.py");
const ROADS: &str = include_str!("../fixtures/scripts/roads.py");
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
    #[expect(clippy::expect_used, reason = "a test without Sluice in it is a mistake of the test's")]
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

/// What is in the directory; it may fill again meanwhile.
fn remove(directory: &Path) -> Result<()> {
    hear(Command::new("rm").arg("-r").arg(directory)).map(drop)
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
        root.does(|r| remove(&r.pins.join("links")), &[("pin", "sluice_egress")])?;
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
        root.does(|r| remove(&r.pins.join("lineage")), &[("pin", "sluice_fork")])?;
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

/// The guard's mode as `sluice status` has it.
fn mode(world: &World) -> Result<String> {
    let sluice = world.sluice.as_ref().context("Sluice")?;
    let said = sluice.tool(&world.room, &["status", "--json"])?;
    let report: serde_json::Value = serde_json::from_str(&said.out)?;
    Ok(report["mode"]["mode"].as_str().unwrap_or_default().to_owned())
}

fn layer(world: &World, name: &str) -> Result<String> {
    let sluice = world.sluice.as_ref().context("Sluice")?;
    let said = sluice.tool(&world.room, &["status", "--json"])?;
    let report: serde_json::Value = serde_json::from_str(&said.out)?;
    let layers = report["layers"].as_array().cloned().unwrap_or_default();
    let found = layers.iter().find(|layer| layer["name"] == name);
    Ok(found.and_then(|layer| layer["state"].as_str()).unwrap_or_default().to_owned())
}

/// Connects, then says `still` each time that the server still answers on the same connection.
const HELD: &str = r#"
import socket, struct, sys, time
s = socket.create_connection(("10.77.0.2", 5432), timeout=3)
print("connected", flush=True)
s.settimeout(3)
sys.stdin.readline()
try:
    s.sendall(struct.pack("!II", 8, 80877103))
    print("still" if s.recv(1) else "closed", flush=True)
except OSError as error:
    print("stopped", error, flush=True)
"#;

/// Observe, arm, disarm: nothing is enforced and all is told; whoever may not, does not; a restart changes nothing.
#[test]
fn observe_arm_and_disarm() {
    in_room("observe_arm_and_disarm", |room| {
        let mut scene = Scene::open(room)?;
        let knock = |scene: &Scene| Root::new(&scene.world).knock();
        let tool = |scene: &Scene, arguments: &[&str]| {
            scene.world.sluice.as_ref().expect("Sluice").tool(&scene.world.room, arguments)
        };
        assert_eq!((mode(&scene.world)?.as_str(), knock(&scene)?.as_str()), ("enforce", "proxy"));

        // whoever may not: a person whom no rule permits it, and root who is neither logged in nor at the console
        let said = scene.says("sluice disarm --reason 'I want to'")?;
        assert!(said.contains("default-deny"), "{said}");
        let said = tool(&scene, &["observe"])?;
        assert!(!said.ok() && said.err.contains("nobody is logged in here"), "{}", said.all());
        assert!(scene.event("guard", "mode_refused")?);
        assert_eq!(mode(&scene.world)?, "enforce");

        // a rule with four eyes: it waits for somebody else, and not for the one who asks
        let rules = Path::new(HOME).join("sluice/policy/modes.cedar");
        let text = r#"
            @id("open") @approval("dba:1")
            permit(principal in Group::"analysts", action in [Action::"disarm", Action::"observe"], resource);
            @id("close") permit(principal in Group::"analysts", action == Action::"arm", resource);
            @id("report") permit(principal in Group::"analysts", action == Action::"events", resource);
            @id("agree") permit(principal, action == Action::"approve", resource is Host);
        "#;
        fs::write(&rules, text)?;
        until("the rule", Duration::from_secs(10), || {
            let said = tool(&scene, &["policy", "check"])?;
            Ok(said.ok() && scene.event("config", "accepted")?)
        })?;
        let mut bob = scene.logged_in(&scene.world.people.bob)?;
        scene.alice.type_line("sluice observe --reason 'first week'")?;
        let id = scene.alice.find("the request's id", |screen| {
            let (_, rest) = screen.split_once("waiting for 1 of dba: `sluice approve ")?;
            Some(rest.split_once('`')?.0.to_owned())
        })?;
        assert_eq!(mode(&scene.world)?, "enforce", "it waits");
        let own = scene
            .logged_in(&scene.world.people.alice)?
            .run(&scene.stage, &format!("sluice approve {id} --reason ok"))?;
        assert!(own.status != 0 && own.text.contains("your own"), "{}", own.text);
        let agreed = bob.run(&scene.stage, &format!("sluice approve {id} --reason ok"))?;
        assert_eq!(agreed.status, 0, "{}", agreed.text);
        scene.alice.see("nothing is enforced")?;
        scene.alice.prompt(&scene.stage)?;

        // observing: everything passes, and is told as it would be
        assert_eq!(
            (mode(&scene.world)?.as_str(), layer(&scene.world, "connect")?.as_str()),
            ("observe", "observed")
        );
        assert_eq!(knock(&scene)?, "server");
        let roads = hear(scene.world.command_as_root("/usr/bin/python3").args(["-c", ROADS]))?;
        assert!(roads.out.lines().filter(|line| line.starts_with("open")).count() >= 8, "{}", roads.all());
        scene.says("psql -w -h db.internal shop -c 'select 1'")?;
        let mut said = String::new();
        for _ in 0..20 {
            said = scene.says("sluice observe --report")?;
            if said.contains("would-redirect") && said.contains("would-drop") {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(
            said.contains("would-redirect") && said.contains("would-drop") && said.contains("alice"),
            "{said}"
        );
        let events = scene.sluice()?.events()?;
        let would = |verdict: &str, part: &str| {
            events.iter().any(|e| e["activity"] == verdict && e.to_string().contains(part))
        };
        assert!(would("would-redirect", "ask for a login"), "nobody is logged in there");
        assert!(would("would-redirect", "permit (analysts-connect)"), "alice would have been let in");
        assert!(would("would-deny", "datagram") && would("would-drop", "packet"));
        // one connection is one event, and not one for each of its packets
        let before = events.len();
        hear(scene.world.command_as_root("/usr/bin/python3").args(["-c", KNOCK]))?;
        std::thread::sleep(Duration::from_millis(600));
        let after = scene.sluice()?.events()?;
        assert!(after.len() - before <= 2, "{:?}", after.get(before..));

        // it stands when loader and proxy have been killed
        let sluice = scene.sluice()?;
        for pid in sluice.proxies().into_iter().chain(sluice.loader()) {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
        }
        until("another loader", Duration::from_secs(20), || {
            Ok(scene.sluice()?.starts() > 1 && scene.sluice()?.answers(&scene.world.room)?)
        })?;
        assert_eq!((mode(&scene.world)?.as_str(), knock(&scene)?.as_str()), ("observe", "server"));

        // arming finds who would be locked out, and what was open then is stopped
        let mut held = scene
            .world
            .command_as_root("/usr/bin/python3")
            .args(["-c", HELD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(held.stdout.take().context("its output")?).lines();
        assert_eq!(lines.next().transpose()?.as_deref(), Some("connected"));
        let said = tool(&scene, &["arm"])?;
        assert!(!said.ok() && said.out.contains("python3") && said.err.contains("--yes"), "{}", said.all());
        let said = tool(&scene, &["arm", "--yes"])?;
        assert!(said.ok(), "{}", said.all());
        assert_eq!((mode(&scene.world)?.as_str(), knock(&scene)?.as_str()), ("enforce", "proxy"));
        held.stdin.take().context("its input")?.write_all(b"\n")?;
        let last = lines.next().transpose()?.unwrap_or_default();
        assert!(last.starts_with("stopped"), "a connection from before goes on: {last}");
        held.wait()?;

        // the console's own way, without anybody who answers, for a time; the journal is root's
        let loader = Path::new(HOME).join("bin/sluice-loader");
        let state = Path::new(HOME).join("lib");
        let by_hand = |arguments: &[&str]| {
            let mut command = Command::new(&loader);
            command
                .arg("--config")
                .arg(Path::new(HOME).join("sluice/sluice.toml"))
                .arg("--state")
                .arg(&state);
            hear(command.args(arguments))
        };
        let said = by_hand(&["disarm"])?;
        assert!(!said.ok() && said.all().contains("a reason is missing"), "{}", said.all());
        let said = by_hand(&["disarm", "--reason", "the proxy\nis broken", "--for", "3"])?;
        assert!(said.ok() && said.out.contains("DISARMED"), "{}", said.all());
        assert_eq!(knock(&scene)?, "server");
        until("status says so", Duration::from_secs(5), || Ok(mode(&scene.world)? == "disarmed"))?;
        let said = tool(&scene, &["status"])?;
        assert!(
            !said.ok() && said.out.starts_with("DISARMED") && said.out.contains("the proxy is broken"),
            "{}",
            said.all()
        );
        until("the guard is back by itself", Duration::from_secs(6), || Ok(knock(&scene)? == "proxy"))?;
        assert!(scene.event("guard", "the time of `disarmed` was over")?);
        let journal = fs::metadata(state.join("modes"))?;
        assert_eq!((journal.uid(), journal.mode() & 0o777), (0, 0o600));
        Ok(())
    });
}

/// Overwrites the first instructions of a program in the object, so that the verifier refuses that one.
const SPOIL: &str = r#"
import struct, sys
path, wanted = sys.argv[1:]
data = bytearray(open(path, "rb").read())
at, size, count, names = struct.unpack_from("<Q", data, 40)[0], *struct.unpack_from("<HHH", data, 58)
heads = [struct.unpack_from("<IIQQQQ", data, at + n * size) for n in range(count)]
strings = heads[names][4]
for name, _, _, _, offset, _ in heads:
    if data[strings + name:].split(b"\0", 1)[0] == wanted.encode():
        data[offset:offset + 8] = bytes([0x85, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0x7F])
        open(path, "wb").write(data)
        print("spoilt")
"#;

/// The loader, held in the hand of a test: ended, started, and the kernel's object beside it exchanged.
struct Boot<'a> {
    world: &'a World,
    sluice: &'a Sluice,
}

impl Boot<'_> {
    fn end(&self) -> Result<()> {
        self.sluice.hold_restarts(true);
        for pid in self.sluice.proxies().into_iter().chain(self.sluice.loader()) {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
        }
        until("both are dead", Duration::from_secs(10), || {
            Ok(self.sluice.loader().is_none() && self.sluice.proxies().is_empty())
        })
    }

    /// As after a boot: nothing stands in the kernel.
    fn forget(&self) -> Result<()> {
        self.end()?;
        sh("rm", ["-rf", &format!("{BPF}/sluice")]).map(drop)
    }

    /// The supervisor starts the loader until `what` is so.
    fn go(&self, what: impl FnMut() -> Result<bool>) -> Result<()> {
        self.sluice.hold_restarts(false);
        until("what was waited for", Duration::from_secs(30), what).context(self.sluice.words())
    }

    fn knock(&self) -> Result<String> {
        Root::new(self.world).knock()
    }

    /// `sluice status`, as it is for people.
    fn status(&self) -> Result<String> {
        Ok(self.sluice.tool(&self.world.room, &["status"])?.all())
    }
}

/// What can't be a configuration at boot: the last good copy serves, nobody gets past, and status says what is wrong where.
#[test]
fn h23_a_bad_configuration_at_boot_is_served_by_the_last_good_one() {
    in_room("h23_a_bad_configuration_at_boot_is_served_by_the_last_good_one", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        world.guard(&stage)?;
        let boot = Boot { world: &world, sluice: world.sluice.as_ref().expect("Sluice") };
        let config = boot.sluice.config.clone();
        let good = fs::read_to_string(&config)?;
        let copy = Path::new(HOME).join("lib/good/sluice.toml");
        assert_eq!(fs::read_to_string(&copy)?, good);
        assert_eq!((fs::metadata(&copy)?.uid(), fs::metadata(&copy)?.mode() & 0o777), (0, 0o640));
        let line = good.lines().position(|line| line == "[guard]").context("a [guard]")? + 1;
        let cases: [(&str, String, u32, String); 5] = [
            ("a byte order mark", format!("\u{feff}{good}"), 0o644, "byte order mark".into()),
            (
                "a key twice",
                good.replace("port = 15432", "port = 15432\nport = 15433"),
                0o644,
                "stands here twice".into(),
            ),
            (
                "a Cyrillic letter",
                good.replace("[guard]", "[gu\u{430}rd]"),
                0o644,
                format!("sluice.toml:{line}:"),
            ),
            ("half a file", good[..good.len() / 2].to_owned(), 0o644, "sluice.toml:".into()),
            ("writable by others", good.clone(), 0o666, "chmod go-w".into()),
        ];
        for (what, text, mode, words) in cases {
            boot.end()?;
            fs::write(&config, text)?;
            sh("chmod", [&format!("{mode:o}"), &*config.to_string_lossy()])?;
            boot.go(|| boot.sluice.answers(&world.room))?;
            let said = boot.status()?;
            assert!(
                said.contains("config") && said.contains("degraded") && said.contains(&words),
                "{what}: {said}"
            );
            assert_eq!(boot.knock()?, "proxy", "{what}");
            // corrected: it is taken at once
            fs::write(&config, &good)?;
            sh("chmod", ["644", &*config.to_string_lossy()])?;
            boot.go(|| Ok(boot.sluice.answers(&world.room)? && !boot.status()?.contains("last good copy")))?;
        }
        // the same of a policy: the last one that was accepted serves, and status says so
        let rules = Path::new(HOME).join("sluice/policy/tour.cedar");
        let sound = fs::read_to_string(&rules)?;
        let kept = Path::new(HOME).join("lib/good/policy/tour.cedar");
        assert_eq!(fs::read_to_string(&kept)?, sound);
        assert_eq!((fs::metadata(&kept)?.uid(), fs::metadata(&kept)?.mode() & 0o777), (0, 0o640));
        let faults = [
            ("no Cedar", "permit(".to_owned(), 0o644, "tour.cedar:1"),
            (
                "an unknown attribute",
                sound.replace("context.has_where", "context.has_were"),
                0o644,
                "has_were",
            ),
            ("writable by others", sound.clone(), 0o666, "chmod go-w"),
        ];
        for (what, text, mode, words) in faults {
            boot.end()?;
            fs::write(&rules, text)?;
            sh("chmod", [&format!("{mode:o}"), &*rules.to_string_lossy()])?;
            boot.go(|| boot.sluice.answers(&world.room))?;
            let said = boot.status()?;
            assert!(said.contains("last good copy serves") && said.contains(words), "{what}: {said}");
            assert_eq!(boot.knock()?, "proxy", "{what}");
            assert_eq!(fs::read_to_string(&kept)?, sound, "{what}: what is none is not kept");
            // corrected: it is in force without a restart
            fs::write(&rules, &sound)?;
            sh("chmod", ["644", &*rules.to_string_lossy()])?;
            boot.go(|| Ok(boot.sluice.answers(&world.room)? && !boot.status()?.contains("last good copy")))?;
        }
        // without a copy nothing is served, and nobody gets past
        boot.end()?;
        remove(&Path::new(HOME).join("lib/good/policy"))?;
        fs::write(&rules, "permit(")?;
        let begun = boot.sluice.words().matches("sluiced does not serve").count();
        boot.go(|| Ok(boot.sluice.words().matches("sluiced does not serve").count() > begun))?;
        assert_ne!(boot.knock()?, "server");
        fs::write(&rules, &sound)?;
        boot.go(|| boot.sluice.answers(&world.room))?;

        // a copy that somebody else may write is none either: nothing starts, and what is pinned stays closed
        boot.end()?;
        fs::write(&config, "nonsense")?;
        sh("chmod", ["666", &*copy.to_string_lossy()])?;
        boot.go(|| Ok(boot.sluice.words().contains("exit status: 78")))?;
        assert!(boot.knock()?.starts_with("refused"), "{}", boot.knock()?);
        Ok(())
    });
}

/// A kernel that does not take the programs, at boot: what is protected can't be reached, or can by the host's own choice.
#[test]
fn h20_where_the_guard_cannot_stand_it_is_closed_or_open_as_the_host_has_chosen() {
    in_room("h20_where_the_guard_cannot_stand_it_is_closed_or_open_as_the_host_has_chosen", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        world.guard(&stage)?;
        let boot = Boot { world: &world, sluice: world.sluice.as_ref().expect("Sluice") };
        let object = Path::new(HOME).join("bin/sluice-ebpf.o");
        let (mine, whole) = (Path::new(HOME).join("spoilt.o"), fs::read(&object)?);
        let put = |bytes: &[u8]| -> Result<()> {
            fs::write(&mine, bytes)?;
            let _ = sh("umount", [&*object.to_string_lossy()]);
            sh("mount", ["--bind", &*mine.to_string_lossy(), &*object.to_string_lossy()]).map(drop)
        };
        let issue = || Ok::<_, Failure>(fs::read_to_string("/run/issue.d/sluice.issue").unwrap_or_default());

        // the control: nothing in the kernel and no loader is an open host
        boot.forget()?;
        assert_eq!(boot.knock()?, "server");

        // one program is refused: those that the kernel takes refuse by themselves, at the protected port alone
        put(&whole)?;
        let said =
            hear(Command::new("/usr/bin/python3").args(["-c", SPOIL, &mine.to_string_lossy(), "sockops"]))?;
        assert!(said.out.contains("spoilt"), "{}", said.all());
        boot.go(|| Ok(issue()?.contains("5 programs refuse it")))?;
        assert!(boot.knock()?.contains("[Errno 1]"), "{}", boot.knock()?);
        let routes = sh("ip", ["route"])?;
        assert!(!routes.contains("prohibit"), "{routes}");

        // none can be read at all: routes
        boot.forget()?;
        put(b"no object")?;
        boot.go(|| Ok(issue()?.contains("routes prohibit")))?;
        assert!(boot.knock()?.contains("[Errno 13]"), "{}", boot.knock()?);
        assert!(issue()?.contains("sluice-loader disarm --reason"), "the way back is said");

        // the way back: by hand, without a loader that stands, and it holds at the next start
        let loader = Path::new(HOME).join("bin/sluice-loader");
        let by_hand = |arguments: &[&str]| {
            let mut command = Command::new(&loader);
            command.arg("--config").arg(&boot.sluice.config).arg("--state").arg(Path::new(HOME).join("lib"));
            hear(command.args(arguments))
        };
        let said = by_hand(&["disarm", "--reason", "this kernel takes nothing"])?;
        assert!(said.ok(), "{}", said.all());
        assert_eq!(boot.knock()?, "server");
        let starts = boot.sluice.starts();
        until("more starts", Duration::from_secs(10), || Ok(boot.sluice.starts() > starts + 1))?;
        assert_eq!(boot.knock()?, "server", "it stays so: {}", boot.sluice.words());
        boot.end()?;
        fs::remove_file(Path::new(HOME).join("lib/modes"))?;

        // the host's other choice
        let good = fs::read_to_string(&boot.sluice.config)?;
        fs::write(&boot.sluice.config, good.replace("[guard]", "[guard]\non_failure = \"open\""))?;
        boot.go(|| Ok(issue()?.contains("everybody reaches everything directly")))?;
        assert_eq!(boot.knock()?, "server");
        fs::write(&boot.sluice.config, &good)?;
        boot.end()?;
        boot.go(|| Ok(boot.knock()?.contains("[Errno 13]")))?;

        // a kernel that takes them again: the routes go, and the proxy answers
        put(&whole)?;
        boot.go(|| boot.sluice.answers(&world.room))?;
        assert_eq!(boot.knock()?, "proxy");
        let routes = sh("ip", ["route"])?;
        assert!(!routes.contains("prohibit") && issue()?.is_empty(), "{routes}");
        Ok(())
    });
}

/// The report of `sluice prove` verifies by the public key alone, far from the host; changed, it does not. What was open
/// while nobody looked is in it.
#[test]
fn what_is_proven_is_signed_and_what_was_open_is_in_it() {
    in_room("what_is_proven_is_signed_and_what_was_open_is_in_it", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        world.guard(&stage)?;
        let boot = Boot { world: &world, sluice: world.sluice.as_ref().expect("Sluice") };
        // a loader lived, was killed, and its programs were taken away before the next one
        boot.forget()?;
        assert_eq!(boot.knock()?, "server");
        boot.go(|| boot.sluice.answers(&world.room))?;
        until("the gap on record", Duration::from_secs(10), || {
            let events = boot.sluice.events()?;
            Ok(events.iter().any(|e| e["what"] == "gap" && e["open_ms"].as_u64().is_some_and(|ms| ms > 0)))
        })?;

        let proof = boot.sluice.tool(&world.room, &["prove"])?;
        assert!(proof.ok(), "{}", proof.all());
        // somewhere else, with the public key and nothing more
        let elsewhere = Path::new(HOME).join("auditor");
        fs::create_dir_all(&elsewhere)?;
        fs::copy(Path::new(HOME).join("lib/keys/recording.pub"), elsewhere.join("bastion.pub"))?;
        let verify = |text: &str, rest: &[&str]| {
            fs::write(elsewhere.join("bastion.note"), text)?;
            let mut command = Command::new(Path::new(HOME).join("bin/sluice"));
            command.current_dir(&elsewhere).env_clear().env("SLUICE_CONFIG", "/nowhere");
            hear(command.args(["verify", "bastion.note", "--key", "bastion.pub"]).args(rest))
        };
        let said = verify(&proof.out, &[])?;
        assert!(said.ok() && said.err.contains("mode enforce"), "{}", said.all());
        let report: serde_json::Value = serde_json::from_str(&verify(&proof.out, &["--json"])?.out)?;
        assert_eq!(report["status"]["mode"]["mode"], "enforce");
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        assert_eq!(report["boot"], boot_id.trim());
        assert!(
            report["status"]["programs"].as_array().is_some_and(|programs| {
                programs.len() >= 12
                    && programs.iter().all(|p| p["tag"].as_str().is_some_and(|tag| tag.len() == 16))
            }),
            "{report}"
        );
        assert!(report["status"]["destinations"].to_string().contains("10.77.0.2"), "{report}");
        assert!(report["incidents"]["open_ms_at_most"].as_u64().is_some_and(|ms| ms > 0), "{report}");
        let digest = sh("sha256sum", [&*boot.sluice.config.to_string_lossy()])?;
        assert!(digest.starts_with(report["configuration_file_sha256"].as_str().unwrap_or("-")), "{report}");
        for (from, to) in
            [("\"enforced\"", "\"observed\""), ("\"gap\"", "\"pin\""), ("10.77.0.2", "10.77.0.3")]
        {
            let said = verify(&proof.out.replacen(from, to, 1), &[])?;
            assert!(!said.ok() && said.err.contains("changed"), "{from}: {}", said.all());
        }
        // people who may not see events get none
        let person = hear(world.command_as(&world.guarded(), &world.people.dave, "sluice").arg("prove"))?;
        assert!(!person.ok() && person.out.is_empty(), "{}", person.all());
        Ok(())
    });
}

/// Knocks as fast as it can, in four processes, until a file appears; counts who answered.
const STORM: &str = r#"
import collections, json, multiprocessing, os, socket, struct, sys
until = sys.argv[1]
body = struct.pack("!I", 196608) + b"user\0app\0database\0shop\0\0"
hello = struct.pack("!I", len(body) + 4) + body
def knock(queue):
    counts = collections.Counter()
    while not os.path.exists(until):
        try:
            with socket.create_connection(("10.77.0.2", 5432), timeout=1) as s:
                s.sendall(hello)
                answer = s.recv(4096)
                counts["server" if b"pg_hba.conf" in answer else "proxy" if answer else "closed"] += 1
        except OSError as error:
            counts[type(error).__name__] += 1
    queue.put(counts)
queue = multiprocessing.Queue()
knockers = [multiprocessing.Process(target=knock, args=(queue,)) for _ in range(4)]
for knocker in knockers:
    knocker.start()
print("started", flush=True)
print(json.dumps(sum((queue.get() for _ in knockers), collections.Counter())))
"#;

/// Everything that ends, stops or replaces loader and proxy, again and again, under ten thousand tries.
#[test]
fn h20_ten_thousand_tries_and_not_one_direct() {
    in_room("h20_ten_thousand_tries_and_not_one_direct", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        let mark = world.postgres.mark()?;
        world.guard(&stage)?;
        let boot = Boot { world: &world, sluice: world.sluice.as_ref().expect("Sluice") };
        let storm =
            |seconds: u64, least: u32, acts: &mut dyn FnMut() -> Result<()>| -> Result<serde_json::Value> {
                let stop = Path::new(HOME).join("storm-ends");
                let _ = fs::remove_file(&stop);
                let mut python = world.command_as_root("/usr/bin/python3");
                python.args(["-c", STORM]).arg(&stop).stdout(Stdio::piped());
                let mut child = python.spawn()?;
                let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
                lines.next().transpose()?;
                let began = std::time::Instant::now();
                let mut done = 0;
                while began.elapsed() < Duration::from_secs(seconds) || done < least {
                    acts()?;
                    done += 1;
                }
                fs::write(&stop, "")?;
                let counts = lines.next().transpose()?.unwrap_or_default();
                child.wait()?;
                Ok(serde_json::from_str(&counts)?)
            };
        let agent = boot.sluice.cgroup().to_owned();
        let signal = |pids: Vec<u32>, signal| -> Result<()> {
            for pid in pids {
                // it may have ended by itself just now
                let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
            }
            Ok(())
        };
        let settle =
            || until("the proxy again", Duration::from_secs(20), || boot.sluice.answers(&world.room));
        let short = || std::thread::sleep(Duration::from_millis(150));
        let good = fs::read_to_string(&boot.sluice.config)?;
        let mut round = 0;
        let counts = storm(20, 16, &mut || {
            round += 1;
            match round % 8 {
                1 => signal(boot.sluice.proxies(), Signal::SIGKILL)?,
                2 => {
                    signal(boot.sluice.proxies(), Signal::SIGSTOP)?;
                    std::thread::sleep(Duration::from_millis(300));
                    signal(boot.sluice.proxies(), Signal::SIGCONT)?;
                }
                3 => signal(boot.sluice.loader().into_iter().collect(), Signal::SIGKILL)?,
                4 => fs::write(agent.join("cgroup.kill"), "1")?,
                5 => {
                    fs::write(agent.join("cgroup.freeze"), "1")?;
                    std::thread::sleep(Duration::from_millis(300));
                    fs::write(agent.join("cgroup.freeze"), "0")?;
                }
                // a start with a configuration that is none, and the way back
                6 => {
                    fs::write(&boot.sluice.config, "nonsense")?;
                    signal(boot.sluice.loader().into_iter().collect(), Signal::SIGKILL)?;
                    short();
                    settle()?;
                    fs::write(&boot.sluice.config, &good)?;
                }
                // as a package does it: stopped in order, and started again
                7 => signal(boot.sluice.loader().into_iter().collect(), Signal::SIGTERM)?,
                // in a loop
                _ => {
                    for _ in 0..3 {
                        signal(boot.sluice.proxies(), Signal::SIGKILL)?;
                        short();
                    }
                }
            }
            short();
            settle()
        })?;
        let of = |name: &str| counts[name].as_u64().unwrap_or(0);
        let all: u64 =
            counts.as_object().map_or(0, |all| all.values().filter_map(serde_json::Value::as_u64).sum());
        println!("{counts} in {round} rounds");
        assert!(all >= 10_000, "only {all} tries: {counts}");
        assert!(of("proxy") > 20, "{round} rounds: {counts}");
        assert_eq!(of("server"), 0, "{counts}");
        // the server's own word; what the proxy asked for itself carries its own name
        let since = world.postgres.since(mark)?;
        assert!(!since.contains("no pg_hba.conf entry"), "{since}");
        // and the stick can tell: without a guard the server answers
        boot.forget()?;
        assert!(
            storm(1, 1, &mut || {
                std::thread::sleep(Duration::from_millis(200));
                Ok(())
            })?["server"]
                .as_u64()
                > Some(10)
        );
        Ok(())
    });
}

/// Two agents, a missing file system, a missing hierarchy, a stranger at the hook: refused in words or stated, never claimed.
#[test]
fn what_stands_against_a_guard_is_said_and_nothing_is_claimed() {
    in_room("what_stands_against_a_guard_is_said_and_nothing_is_claimed", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        world.guard(&stage)?;
        let boot = Boot { world: &world, sluice: world.sluice.as_ref().expect("Sluice") };
        let loader = |config: &Path, state: &str| {
            let mut command = world.command_as_root(&format!("{HOME}/bin/sluice-loader"));
            hear(command.arg("--config").arg(config).args(["--state", state]))
        };
        // a second one, of the same configuration, and of one of its own
        let said = loader(&boot.sluice.config, &format!("{HOME}/lib"))?;
        assert!(!said.ok() && said.all().contains("another sluice-loader runs"), "{}", said.all());
        let good = fs::read_to_string(&boot.sluice.config)?;
        let other = Path::new(HOME).join("sluice/other.toml");
        let second = good
            .replace(&format!("{HOME}/lib"), &format!("{HOME}/lib2"))
            .replace("15432", "15433")
            .replace(&format!("{BPF}/sluice"), &format!("{BPF}/other"));
        fs::write(&other, &second)?;
        let said = loader(&other, &format!("{HOME}/lib2"))?;
        assert!(!said.ok() && said.all().contains("another Sluice guards"), "{}", said.all());
        assert!(boot.knock()? == "proxy" && !Path::new(BPF).join("other").exists());

        let version = Root::new(&world).version()?;

        // pins that are on no bpffs: nothing is claimed, and it is closed by what there is
        boot.forget()?;
        fs::write(&other, second.replace(&format!("{BPF}/other"), &format!("{HOME}/plain")))?;
        let said = loader(&other, &format!("{HOME}/lib2"))?;
        assert!(!said.ok() && said.all().contains("is on no bpffs"), "{}", said.all());
        assert!(boot.knock()?.contains("[Errno 13]"), "{}", boot.knock()?);
        let said = {
            let mut command = world.command_as_root(&format!("{HOME}/bin/sluice-loader"));
            hear(command.arg("--config").arg(&other).args(["disarm", "--reason", "the test is over"]))?
        };
        assert!(said.ok() && boot.knock()? == "server", "{}", said.all());

        // a bpffs that nothing can be pinned to, as under a read-only /sys, and one where somebody else has pinned something
        // under the names of our tables: refused in words, and closed by what there is
        fs::write(&other, &second)?;
        fs::remove_file(Path::new(HOME).join("lib2/modes"))?;
        let occupied = [format!("maps-{version}/PROXY"), format!("maps-{version}/MODE")];
        let occupy = || {
            let mut python = Command::new("/usr/bin/python3");
            python.args(["-c", MEDDLE, "occupy", &format!("{BPF}/other")]).args(&occupied);
            hear(&mut python).map(|said| assert!(said.ok() && said.out.contains("done"), "{}", said.all()))
        };
        for (words, before, occupied) in
            [("Read-only file system", "mount -o remount,bind,ro", false), ("PROXY", "test -d", true)]
        {
            if occupied {
                occupy()?;
            }
            let line = format!(
                "{before} {BPF}\nexec {HOME}/bin/sluice-loader --config {} --state {HOME}/lib2",
                other.display()
            );
            let said = hear(world.command_as_root("/usr/bin/unshare").args(["-m", "sh", "-c", &line]))?;
            assert!(!said.ok() && said.all().contains(words), "{words}: {}", said.all());
            assert!(boot.knock()?.starts_with("refused"), "{words}: {}", boot.knock()?);
            let mut command = world.command_as_root(&format!("{HOME}/bin/sluice-loader"));
            command.arg("--config").arg(&other).args(["disarm", "--remove", "--state"]);
            let said = hear(command.arg(format!("{HOME}/lib2")))?;
            assert!(said.ok() && boot.knock()? == "server", "{words}: {}", said.all());
        }

        // what a doctor says of hosts that lack something
        let doctor = |script: &str| {
            let line = format!(
                "{script}\nexec {HOME}/bin/sluice --config {} doctor --loader {HOME}/bin/sluice-loader",
                boot.sluice.config.display()
            );
            hear(world.command_as_root("/usr/bin/unshare").args(["-m", "sh", "-c", &line]))
        };
        let without = [
            (
                "umount -l $(findmnt -nro TARGET -t cgroup2)",
                "cgroup v2: the whole hierarchy is mounted nowhere",
            ),
            ("umount -l -a -t bpf", "bpffs: mounted nowhere"),
            (
                "mount --bind /dev/null /sys/kernel/btf/vmlinux",
                "BTF: /sys/kernel/btf/vmlinux can't be read or is none",
            ),
        ];
        for (script, words) in without {
            let said = doctor(script)?;
            assert!(!said.ok() && said.out.contains(words), "{script}: {}", said.all());
        }
        Ok(())
    });
}

/// Whatever somebody writes into names, arguments and statements: a log has it in one line, and no terminal obeys it.
#[test]
fn h25_control_characters_end_up_escaped_everywhere() {
    in_room("h25_control_characters_end_up_escaped_everywhere", |room| {
        let mut scene = Scene::open(room)?;
        let odd = "\u{1b}]0;owned\u{7}\n{\"class\":\"forged\"}\r\u{9b}2J\u{202e}";
        // a program with such arguments and such a name, on a road that is none
        let knock = KNOCK.replace(
            "import socket, struct",
            "import ctypes, socket, struct, sys\nctypes.CDLL(None).prctl(15, b'x\\x1b[2J\\ny', 0, 0, 0)",
        );
        hear(scene.world.command_as_root("/usr/bin/python3").args(["-c", &knock, odd]))?;
        // statements, and a session's own name for itself
        let script = scene.script(
            "odd.sql",
            &format!("select 1; -- {odd}\nselect '{odd}';\ndrop table orders; -- {odd}\n"),
        )?;
        scene.says(&format!("PGAPPNAME=$'x\\e[2J' psql -h db.internal shop -f {script}"))?;
        let control = |text: &str| {
            text.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c))
        };
        let log = fs::read_to_string(scene.sluice()?.log.join("events.jsonl"))?;
        assert_eq!(control(&log), None, "the file");
        assert!(log.contains("owned") && log.contains("no-ddl"), "it is there, escaped: {log}");
        for event in scene.sluice()?.events()? {
            assert_ne!(event["class"], "forged", "a line of somebody else's");
        }
        let id = scene.last_session()?;
        for arguments in [
            &["events"][..],
            &["events", "--summary"],
            &["sessions"],
            &["replay", &id, "--text"],
            &["status"],
        ] {
            let line = format!("sluice {} > out.txt 2>&1; echo done", arguments.join(" "));
            scene.says(&line)?;
            let said = fs::read(scene.world.people.alice.home.join("out.txt"))?;
            let said = String::from_utf8_lossy(&said);
            assert_eq!(control(&said), None, "{arguments:?}: {said:?}");
            assert!(!said.is_empty(), "{arguments:?}");
        }
        Ok(())
    });
}

/// The provider answers nobody: whoever is logged in goes on, others are told within seconds, and status says so. Then it
/// lies: nobody gets in by a token that an honest one would have signed, and by that one he does.
#[test]
fn h24_a_provider_that_is_silent_or_lies_lets_nobody_in() {
    in_room("h24_a_provider_that_is_silent_or_lies_lets_nobody_in", |room| {
        let mut scene = Scene::open(room)?;
        assert!(scene.psql()?.contains("20000"));
        let stopped = scene.world.provider.pid();
        kill(Pid::from_raw(stopped.cast_signed()), Signal::SIGSTOP)?;
        let began = std::time::Instant::now();
        assert!(scene.psql()?.contains("20000"), "a login that holds is not asked about");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let mut bob = sluice_tests::terminal::Terminal::open(&scene.world, &scene.world.people.bob)?;
        let began = std::time::Instant::now();
        let refused = bob.run(&scene.stage, "sluice login")?;
        assert!(refused.status != 0 && refused.text.contains("provider"), "{}", refused.text);
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
        let status = scene.sluice()?.tool(&scene.world.room, &["status"])?;
        assert!(!status.ok() && status.out.contains("provider"), "{}", status.all());
        kill(Pid::from_raw(stopped.cast_signed()), Signal::SIGCONT)?;
        drop(bob);
        scene.logged_in(&scene.world.people.bob)?;
        lies(&mut scene)
    });
}

const LYING: &str = include_str!("../fixtures/scripts/lying.py");
const LIES: [&str; 9] = [
    "issuer",
    "no keys",
    "other keys",
    "keys for other use",
    "500",
    "page",
    "endless",
    "elsewhere",
    "silent",
];

fn lies(scene: &mut Scene) -> Result<()> {
    let alice = scene.world.people.alice.clone();
    let token = scene.world.provider.mint(&alice, &scene.world.provider.issuer, "good")?;
    scene.world.provider.stop()?;
    let file = scene.world.people.bob.home.join("token");
    fs::write(&file, &token)?;
    sh("chmod", ["644", &*file.to_string_lossy()])?;
    let mode = Path::new(HOME).join("lie");
    fs::write(&mode, "honest")?;
    let pair = certificates::paths().provider;
    let mut stand_in = Command::new("/usr/bin/python3");
    stand_in.args(["-c", LYING, "9443"]).args([&pair.0, &pair.1, &scene.world.provider.keys, &mode]);
    let mut stand_in = stand_in.stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    BufReader::new(stand_in.stdout.take().context("its output")?).read_line(&mut said)?;
    assert_eq!(said.trim(), "ready");
    let mut bob = sluice_tests::terminal::Terminal::open(&scene.world, &scene.world.people.bob)?;
    let psql = format!(
        "PGPASSWORD=\"$(cat {})\" psql -w -h db.internal -U oidc-token shop -Atc 'select 40 + 2'",
        file.display()
    );
    // a proxy that remembers nothing of an honest provider
    let forget = |scene: &Scene| -> Result<()> {
        let sluice = scene.sluice()?;
        let old = sluice.proxies();
        for pid in &old {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
        }
        until("another proxy", Duration::from_secs(30), || {
            let now = sluice.proxies();
            Ok(!now.is_empty()
                && now.iter().all(|pid| !old.contains(pid))
                && sluice.answers(&scene.world.room)?)
        })
    };
    for lie in LIES {
        fs::write(&mode, lie)?;
        forget(scene)?;
        let refused = bob.run(&scene.stage, &psql)?;
        assert!(refused.status != 0 && !refused.text.contains("42"), "{lie}: {}", refused.text);
    }
    // the control: the same token, and a provider that does not lie
    fs::write(&mode, "honest")?;
    forget(scene)?;
    let served = bob.run(&scene.stage, &psql)?;
    assert!(served.status == 0 && served.text.contains("42"), "{}", served.text);
    stand_in.kill()?;
    stand_in.wait()?;
    Ok(())
}
