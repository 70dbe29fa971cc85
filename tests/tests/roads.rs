//! Roads around the registered targets: databases and SSH servers that no target names, and connections from before the guard.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use sluice_tests::command::{Said, hear, sh, until, within};
use sluice_tests::enclosure::in_room;
use sluice_tests::scene::log_in;
use sluice_tests::stage::Stage;
use sluice_tests::world::World;
use sluice_tests::world::network::{APP_NAMESPACE, NAMESPACE, cell};
use sluice_tests::{Context as _, Result};

const OTHERS: &str = include_str!("../fixtures/scripts/others.py");
const FURTHER: &str = include_str!("../fixtures/scripts/further.py");
const STRANGERS: &str = include_str!("../fixtures/scripts/strangers.py");

/// Servers beside the registered ones; they end with this value.
struct Others(Vec<Child>);

impl Others {
    fn start(world: &World, namespace: &str, servers: &[&str]) -> Result<Child> {
        let mut command = within(&world.outside(), "nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).args(["--", "/usr/bin/python3", "-c", OTHERS]);
        let mut child = command.args(servers).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        assert_eq!(line, "ready\n");
        Ok(child)
    }

    fn open(world: &World) -> Result<Others> {
        let database = ["3306=answer", "6379=answer", "22=answer", "8306=answer", "8432=5432"];
        Ok(Others(vec![
            Self::start(world, NAMESPACE, &database)?,
            Self::start(world, APP_NAMESPACE, &["8022=22"])?,
        ]))
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn layer(world: &World, name: &str) -> Result<serde_json::Value> {
    let sluice = world.sluice.as_ref().context("no Sluice")?;
    let said = sluice.tool(&world.room, &["status", "--json"])?;
    let report: serde_json::Value = serde_json::from_str(&said.out)?;
    let layers = report["layers"].as_array().cloned().unwrap_or_default();
    Ok(layers.into_iter().find(|layer| layer["name"] == name).unwrap_or_default())
}

fn lines<'a>(said: &'a Said, word: &str) -> Vec<&'a str> {
    said.out.lines().filter(|line| line.starts_with(word)).collect()
}

/// Events of a road and a verdict, with the process that they name.
fn events(world: &World, road: &str, verdict: &str) -> Result<Vec<serde_json::Value>> {
    let sluice = world.sluice.as_ref().context("no Sluice")?;
    let all = sluice.events()?;
    Ok(all.into_iter().filter(|event| event["road"] == road && event["activity"] == verdict).collect())
}

#[test]
fn h16_no_database_and_no_ssh_server_that_no_target_names() {
    in_room("h16_no_database_and_no_ssh_server_that_no_target_names", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        let _others = Others::open(&world)?;
        sh(
            "nft",
            ["add table ip t; add chain ip t out { type nat hook output priority -100; }; \
                    add rule ip t out ip daddr 10.77.0.9 tcp dport 80 dnat to 10.77.0.2:3306"],
        )?;
        let outside = hear(within(&world.outside(), "/usr/bin/python3").args(["-c", STRANGERS]))?;
        assert!(
            lines(&outside, "closed").is_empty() && lines(&outside, "broken").is_empty(),
            "without a guard every road is open, or the test proves nothing: {}",
            outside.all()
        );
        assert_eq!(lines(&outside, "open").len(), 23, "{}", outside.all());
        world.guard(&stage)?;
        let proof = layer(&world, "unregistered")?;
        assert_eq!(proof["state"], "enforced", "{proof}");
        let said = hear(world.command_as_root("/usr/bin/python3").args(["-c", STRANGERS]))?;
        assert!(
            lines(&said, "open").is_empty()
                && lines(&said, "broken").is_empty()
                && said.out.contains("all tried"),
            "{}",
            said.all()
        );
        assert_eq!(lines(&said, "fine").len(), 5, "{}", said.all());
        for (road, verdict) in [
            ("unregistered", "denied"),
            ("unregistered", "dropped"),
            ("spoken-ssh", "dropped"),
            ("spoken-postgres", "dropped"),
            ("spoken-mysql", "dropped"),
        ] {
            until(&format!("an event of {road}, {verdict}"), Duration::from_secs(5), || {
                let found = events(&world, road, verdict)?;
                // what was translated or raw names its socket's owner alone
                let named =
                    |event: &serde_json::Value| event["process"]["exe"].to_string().contains("python");
                Ok(found.iter().any(|event| verdict == "dropped" && road == "unregistered" || named(event)))
            })?;
        }

        // the same, only observed
        let sluice = world.sluice.as_ref().context("no Sluice")?;
        let text = std::fs::read_to_string(&sluice.config)?;
        let text = text.replace("port = 15432", "port = 15432\nunregistered = \"observe\"");
        std::fs::write(&sluice.config, text)?;
        until("the layer is observed", Duration::from_secs(10), || {
            Ok(layer(&world, "unregistered")?["state"] == "observed")
        })?;
        let said = hear(world.command_as_root("/usr/bin/python3").args(["-c", STRANGERS]))?;
        assert!(lines(&said, "closed").is_empty() && lines(&said, "broken").is_empty(), "{}", said.all());
        for road in ["unregistered", "spoken-ssh", "spoken-postgres", "spoken-mysql"] {
            until(&format!("an event that {road} was observed"), Duration::from_secs(5), || {
                Ok(!events(&world, road, "observed")?.is_empty())
            })?;
        }
        Ok(())
    });
}

/// Connects, says so, and later asks by the same connection. The arguments: address, port.
const OLD: &str = r#"
import socket, struct, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
print("connected", flush=True)
sys.stdin.readline()
try:
    s.sendall(struct.pack("!II", 8, 80877103))
    print("answered" if s.recv(64) else "ended", flush=True)
except OSError as error:
    print("ended", error.strerror, flush=True)
"#;

/// A client that has connected.
struct Old(Child, BufReader<ChildStdout>);

impl Old {
    fn connect(mut command: std::process::Command, address: &str, port: &str) -> Result<Old> {
        command.args(["-c", OLD, address, port]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        assert_eq!(line, "connected\n");
        Ok(Old(child, lines))
    }

    fn ask(mut self) -> Result<String> {
        self.0.stdin.take().context("no stdin")?.write_all(b"\n")?;
        let mut said = String::new();
        self.1.read_line(&mut said)?;
        self.0.wait()?;
        Ok(said)
    }
}

#[test]
fn h12_connections_from_before_the_guard_end_and_say_so() {
    in_room("h12_connections_from_before_the_guard_end_and_say_so", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        let _others = Others::open(&world)?;
        let inside = |world: &World| world.command_as_root("/usr/bin/python3");
        cell()?;
        let in_cell = |world: &World| {
            let mut command = world.command_as_root("nsenter");
            command.args(["--net=/run/netns/cell", "--", "/usr/bin/python3"]);
            command
        };
        let untouched = within(&world.outside(), "/usr/bin/python3");
        let before = Old::connect(inside(&world), "10.77.0.2", "5432")?;
        let old = vec![
            Old::connect(inside(&world), "10.77.0.2", "5432")?,
            Old::connect(inside(&world), "fd77::2", "5432")?,
            Old::connect(inside(&world), "::ffff:10.77.0.2", "5432")?,
            Old::connect(inside(&world), "10.77.0.2", "3306")?,
            Old::connect(in_cell(&world), "10.79.0.2", "3306")?,
        ];
        let outsider = Old::connect(untouched, "10.77.0.2", "5432")?;
        let unprotected = Old::connect(inside(&world), "10.77.0.2", "8306")?;
        let later = Old::connect(inside(&world), "10.77.0.2", "8432")?;
        // what ends the others is the guard
        assert!(before.ask()?.starts_with("answered"));
        world.guard(&stage)?;
        let proof = layer(&world, "established")?;
        assert_eq!(proof["state"], "enforced", "{proof}");
        let sluice = world.sluice.as_ref().context("no Sluice")?;
        until("an event each", Duration::from_secs(5), || {
            let ended = events(&world, "established", "ended")?;
            let named = ended.iter().filter(|event| event["process"]["exe"].to_string().contains("python"));
            Ok(named.count() == old.len())
        })
        .context(format!("{:?}", events(&world, "established", "ended")?))?;
        for one in old {
            // not by silence: the kernel has told its process
            assert_eq!(one.ask()?, "ended Software caused connection abort\n");
        }
        assert!(outsider.ask()?.starts_with("answered"), "nobody outside the guarded cgroup is touched");
        assert!(unprotected.0.id() > 0);

        // a policy that makes another destination protected ends what is connected there, and nothing of the proxy's own
        let person = world.people.alice.clone();
        let mut alice = log_in(&world, &stage, &person)?;
        let mark = world.postgres.mark()?;
        alice.type_line(
            "psql 'host=db.internal dbname=shop' -Atc 'select pg_sleep(4)' && echo it-is-$((40+2))",
        )?;
        until("her session has arrived", Duration::from_secs(10), || {
            Ok(world.postgres.connections_since(mark)? > 0)
        })?;
        let text = std::fs::read_to_string(&sluice.config)?;
        std::fs::write(&sluice.config, text.replace("ports = [5432]", "ports = [5432, 8432]"))?;
        until("the event of the new target", Duration::from_secs(10), || {
            Ok(events(&world, "established", "ended")?.len() == 6)
        })?;
        assert_eq!(later.ask()?, "ended Software caused connection abort\n");
        let said = alice.prompt(&stage)?;
        assert!(said.text.contains("it-is-42"), "{}", said.text);
        Ok(())
    });
}

/// Rows of the list of threats that `kernel.rs` has not.
#[test]
fn h1_to_h15_further_roads_end_at_the_proxy_or_nowhere() {
    in_room("h1_to_h15_further_roads_end_at_the_proxy_or_nowhere", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        cell()?;
        sh("ip", "-n database address add 10.77.0.3/24 dev wire0".split(' '))?;
        let nat = "add table ip t; add chain ip t out { type nat hook output priority -100; }; \
                   add rule ip t out ip daddr 10.77.0.9 tcp dport 81 dnat to 10.77.0.2:5432";
        sh("nft", [nat])?;
        let outside = hear(within(&world.outside(), "/usr/bin/python3").args(["-c", FURTHER]))?;
        let (open, none) = (lines(&outside, "open").len(), lines(&outside, "none").len());
        assert!(
            lines(&outside, "closed").is_empty() && open + none == 15 && none <= 2,
            "without a guard every road that this kernel has is open: {}",
            outside.all()
        );
        world.guard(&stage)?;
        let mark = world.postgres.mark()?;
        let said = hear(world.command_as_root("/usr/bin/python3").args(["-c", FURTHER]))?;
        assert!(
            lines(&said, "open").is_empty()
                && lines(&said, "closed").len() == open
                && said.out.contains("all tried"),
            "{}",
            said.all()
        );
        assert_eq!(world.postgres.connections_since(mark)?, 0, "nothing arrived at the server");
        Ok(())
    });
}

/// Networks that the programs protect for a target.
fn networks(world: &World, target: &str) -> Result<Vec<String>> {
    let sluice = world.sluice.as_ref().context("no Sluice")?;
    let said = sluice.tool(&world.room, &["status", "--json"])?;
    let report: serde_json::Value = serde_json::from_str(&said.out)?;
    let all = report["destinations"].as_array().cloned().unwrap_or_default();
    let of = all.iter().filter(|one| one["target"] == target);
    Ok(of.map(|one| one["network"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn h14_an_address_that_a_name_no_longer_has_stays_protected_for_a_while() {
    in_room("h14_an_address_that_a_name_no_longer_has_stays_protected_for_a_while", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        sh("ip", "-n database address add 10.77.0.3/24 dev wire0".split(' '))?;
        world.guard(&stage)?;
        let sluice = world.sluice.as_ref().context("no Sluice")?;
        let text = std::fs::read_to_string(&sluice.config)?;
        let quick = "port = 15432\nrefresh = \"1s\"\nkeep_addresses = \"6s\"\nunregistered = \"allow\"";
        std::fs::write(&sluice.config, text.replace("port = 15432", quick))?;
        let has = |address: &str| {
            Ok::<_, sluice_tests::Failure>(networks(&world, "shop")?.contains(&format!("{address}/32")))
        };
        until("the new configuration is in force", Duration::from_secs(10), || {
            Ok(layer(&world, "unregistered")?.is_null())
        })?;
        let older = Old::connect(world.command_as_root("/usr/bin/python3"), "10.77.0.3", "5432")?;
        let hosts = std::fs::read_to_string("/etc/hosts")?;
        assert!(hosts.contains("10.77.0.2"), "{hosts}");
        let changed: Vec<&str> = hosts.lines().filter(|line| !line.starts_with("fd77::2")).collect();
        std::fs::write("/etc/hosts", changed.join("\n").replace("10.77.0.2", "10.77.0.3") + "\n")?;
        until("the new address is protected", Duration::from_secs(10), || has("10.77.0.3"))?;
        assert!(has("10.77.0.2")?, "and the old one still is");
        assert_eq!(older.ask()?, "ended Software caused connection abort\n");
        let mark = world.postgres.mark()?;
        for address in ["10.77.0.2", "10.77.0.3"] {
            let led = Old::connect(world.command_as_root("/usr/bin/python3"), address, "5432")?;
            led.ask()?;
        }
        assert_eq!(world.postgres.connections_since(mark)?, 0, "both lead to the proxy");
        until("the old address is let go", Duration::from_secs(20), || Ok(!has("10.77.0.2")?))?;
        let led = Old::connect(world.command_as_root("/usr/bin/python3"), "10.77.0.2", "5432")?;
        assert!(led.ask()?.starts_with("answered") && world.postgres.connections_since(mark)? > 0);
        Ok(())
    });
}
