//! Ingress: this host runs sshd and PostgreSQL itself. They keep their ports and their configuration, and whoever comes, from
//! another host or from this one, meets the proxy.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_tests::command::{hear, until};
use sluice_tests::enclosure::in_room;
use sluice_tests::host::Host;
use sluice_tests::scene::log_in;
use sluice_tests::world::HOME;
use sluice_tests::world::network::BASTION;
use sluice_tests::{Context as _, Result};

fn answered_by<'a>(said: &'a str, software: &str) -> Vec<&'a str> {
    said.lines().filter(|line| line.contains(software)).collect()
}

#[test]
fn every_road_to_a_service_of_this_host_ends_at_the_proxy() {
    in_room("every_road_to_a_service_of_this_host_ends_at_the_proxy", |room| {
        let mut host = Host::open(room)?;
        for (from, roads) in [("local", 17), ("remote", 10)] {
            let said = host.roads(from)?;
            let open = answered_by(&said, "OpenSSH").len();
            assert_eq!(
                open, roads,
                "without a guard every road leads to sshd, or the test proves nothing: {said}"
            );
        }
        host.world.guard(&host.stage)?;
        let layer = host.layer("lookup")?;
        assert_eq!(layer["state"], "enforced", "{layer}");
        for (from, roads) in [("local", 17), ("remote", 10)] {
            let said = host.roads(from)?;
            assert!(answered_by(&said, "OpenSSH").is_empty() && said.contains("all tried"), "{from}: {said}");
            assert_eq!(answered_by(&said, "Sluice").len(), roads, "{from}: {said}");
        }
        Ok(())
    });
}

#[test]
fn people_reach_a_service_of_this_host_by_plain_clients() {
    in_room("people_reach_a_service_of_this_host_by_plain_clients", |room| {
        let mut host = Host::open(room)?;
        host.world.guard(&host.stage)?;
        let known = format!("{HOME}/known_hosts");
        let key = host.world.app.host_key()?;
        fs::write(&known, format!("{BASTION} {key}\n127.0.0.1 {key}\n::1 {key}\n"))?;
        let strict = format!(
            "-o StrictHostKeyChecking=yes -o UserKnownHostsFile={known} -o GlobalKnownHostsFile=/dev/null"
        );

        // whoever has logged in on this host needs nothing more, by whatever address
        let alice_is = host.world.people.alice.clone();
        let mut alice = log_in(&host.world, &host.stage, &alice_is)?;
        let ca = format!("PGSSLROOTCERT={HOME}/certificates/ca.pem PGSSLMODE=verify-full");
        for address in ["127.0.0.1", "::1", BASTION] {
            let counts = format!(
                "{ca} psql 'host=db.internal hostaddr={address} dbname=shop' -Atc 'select count(*) from customers'"
            );
            let said = alice.run(&host.stage, &counts)?;
            assert!(said.text.contains("20000"), "psql by {address}: {}", said.text);
            let said = alice.run(&host.stage, &format!("ssh {strict} -v {address} echo it-is-$((40+2))"))?;
            assert!(said.text.contains("it-is-42"), "ssh by {address}: {}", said.text);
            assert!(said.text.contains("remote software version Sluice"), "{}", said.text);
        }
        let said = alice.run(
            &host.stage,
            "PGSSLMODE=require psql -h 127.0.0.1 shop -Atc 'select email from customers limit 1'",
        )?;
        assert!(said.text.contains("***"), "masked: {}", said.text);

        // what runs there is the kernel's to tell: a script's programs too
        let script = "sh -c '/bin/uname --nodename; /bin/uname --machine'";
        let said = alice.run(&host.stage, &format!("ssh {strict} 127.0.0.1 \"{script}\""))?;
        assert!(said.text.contains("x86_64"), "{}", said.text);
        let id = "$(sluice sessions --limit 1 --json | grep -m1 '\"id\"' | cut -d'\"' -f4)";
        until("the programs in the recording", Duration::from_secs(10), || {
            let seen = format!("sluice replay {id} --json | grep -c '\"program\":\"[^\"]*/uname\"'");
            Ok(alice.run(&host.stage, &seen)?.text.trim().ends_with('2'))
        })?;

        // from another host nobody is known by what this host knows: a token, or nothing
        let issuer = host.world.provider.issuer.clone();
        let token = host.world.provider.mint(&alice_is, &issuer, "good")?;
        let mut psql = host.remote("psql");
        let said = host.psql(psql.env("PGUSER", "oidc-token").env("PGPASSWORD", &token), BASTION)?;
        assert_eq!(said.out.trim(), "20000", "psql from another host: {}", said.all());
        let ssh = format!(
            "sshpass -e ssh {strict} -o PreferredAuthentications=password {BASTION} echo it-is-$((40+2))"
        );
        let said = hear(host.remote("sh").args(["-c", &ssh]).env("SSHPASS", &token))?;
        assert!(said.out.contains("it-is-42"), "ssh from another host: {}", said.all());
        let mut psql = host.remote("psql");
        let stored = host.world.postgres.password.clone();
        let said = host.psql(psql.env("PGUSER", "oidc-token").env("PGPASSWORD", stored), BASTION)?;
        assert!(
            !said.ok() && !said.out.contains("20000"),
            "the target's own password opens nothing: {}",
            said.all()
        );

        let sluice = host.world.sluice.as_ref().context("no Sluice")?;
        let opened = |part: &str| {
            let events = sluice.events()?;
            let opened =
                events.iter().filter(|event| event["class"] == "session" && event["activity"] == "opened");
            Ok::<_, sluice_tests::Failure>(
                opened.filter(|event| event["origin"]["source"].to_string().contains(part)).count(),
            )
        };
        assert_eq!(opened("10.77.0.2:")?, 2, "two sessions from there, each with its source");

        // the same host reaches another server through Sluice as well
        let said = hear(
            host.world.command_as_root("bash").args(["-c", "exec 3<>/dev/tcp/10.78.0.2/22 && head -1 <&3"]),
        )?;
        assert!(!said.out.contains("OpenSSH"), "{}", said.all());
        Ok(())
    });
}

#[test]
fn programs_of_a_service_of_this_host_are_recorded_and_judged() {
    in_room("programs_of_a_service_of_this_host_are_recorded_and_judged", |room| {
        let mut host = Host::open(room)?;
        host.world.guard(&host.stage)?;
        let alice = host.world.people.alice.clone();
        let mut alice = log_in(&host.world, &host.stage, &alice)?;
        let ssh =
            "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR 127.0.0.1";
        let file = Path::new(HOME).join("sluice/sluice.toml");
        let text = fs::read_to_string(&file)?;
        let demand = |truth: &str| -> Result<()> {
            fs::write(&file, text.replace("\"require\"", &format!("\"{truth}\"")))?;
            let sluice = host.world.sluice.as_ref().context("no Sluice")?;
            let loader = sluice.loader().context("no loader")?;
            Ok(kill(Pid::from_raw(loader.cast_signed()), Signal::SIGHUP)?)
        };
        demand("record")?;
        std::thread::sleep(Duration::from_secs(2));
        let said =
            alice.run(&host.stage, &format!("{ssh} \"sh -c '/bin/uname --machine; /bin/echo af''ter'\""))?;
        assert!(said.text.contains("x86_64") && said.text.contains("after"), "{}", said.text);
        let id = "$(sluice sessions --limit 1 --json | grep -m1 '\"id\"' | cut -d'\"' -f4)";
        until("the program in the recording", Duration::from_secs(10), || {
            let seen = format!("sluice replay {id} --json | grep -c '\"program\":\"[^\"]*/uname\"'");
            Ok(alice.run(&host.stage, &seen)?.text.trim().ends_with('1'))
        })?;

        fs::write(Path::new(HOME).join("sluice/policy/programs.cedar"), PROGRAMS)?;
        demand("judge")?;
        let mut last = String::new();
        until("programs are judged", Duration::from_secs(20), || {
            last = alice
                .run(&host.stage, &format!("{ssh} \"sh -c '/bin/uname --machine; /bin/echo af''ter'\""))?
                .text;
            Ok(last.contains("after") && !last.contains("x86_64"))
        })
        .context(last)?;
        let said = alice.run(&host.stage, &format!("{ssh} \"sh -c '/bin/uname --machine; true'\""))?;
        assert!(said.text.contains("rule no-uname"), "she is told why: {}", said.text);
        // and nobody else on this host waits for anybody
        let said = alice.run(&host.stage, "/bin/uname --machine")?;
        assert!(said.text.contains("x86_64"), "{}", said.text);
        Ok(())
    });
}

/// Anything but this one.
const PROGRAMS: &str = "@id(\"programs\")\n\
    permit(principal in Group::\"analysts\", action == Action::\"run\", resource in Target::\"app\");\n\
    @id(\"no-uname\")\n\
    forbid(principal, action == Action::\"run\", resource) when { resource.program like \"*/uname\" };\n";

/// Counts who answers, without a pause; ends when its standard input does.
const PROBER: &str = r#"
import select, socket, sys
counts = {"OpenSSH": 0, "Sluice": 0, "closed": 0}
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        with socket.create_connection((sys.argv[1], 22), timeout=2) as s:
            said = s.recv(64)
        counts["OpenSSH" if b"OpenSSH" in said else "Sluice" if b"Sluice" in said else "closed"] += 1
    except OSError:
        counts["closed"] += 1
print(counts["OpenSSH"], counts["Sluice"], counts["closed"])
"#;

#[test]
fn h20_no_connection_past_a_dead_proxy_or_loader_of_an_ingress_host() {
    in_room("h20_no_connection_past_a_dead_proxy_or_loader_of_an_ingress_host", |room| {
        let mut host = Host::open(room)?;
        host.world.guard(&host.stage)?;
        let spawn = |mut command: Command, address: &str| {
            command.args(["-c", PROBER, address]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        };
        let mut probers = vec![
            spawn(host.remote("/usr/bin/python3"), BASTION)?,
            spawn(host.world.command_as_root("/usr/bin/python3"), "127.0.0.1")?,
        ];
        let sluice = host.world.sluice.as_ref().context("no Sluice")?;
        for round in 0..6 {
            let loader = sluice.loader().context("no loader")?;
            let victims = match round % 3 {
                0 => sluice.proxies(),
                1 => vec![loader],
                _ => sluice.proxies().into_iter().chain([loader]).collect(),
            };
            for pid in victims {
                // it may have ended together with the other
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(700));
            sluice.wait_guarding(&host.world.room)?;
        }
        for prober in &mut probers {
            prober.stdin.take().context("no stdin")?.write_all(b"x")?;
        }
        for prober in probers {
            let said = prober.wait_with_output()?;
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            let counts: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            println!("prober: direct, proxy, closed: {counts:?}");
            assert!(matches!(counts.as_slice(), [0, led, closed] if *led > 20 && *closed > 0), "{text}");
        }
        Ok(())
    });
}

/// Connects, says so, and later asks again by the same connection.
const OLD: &str = r#"
import socket, sys
s = socket.create_connection((sys.argv[1], 22), timeout=5)
print(s.recv(64).decode().strip(), flush=True)
sys.stdin.readline()
try:
    s.sendall(b"SSH-2.0-old\r\n")
    print("answered" if s.recv(64) else "ended", flush=True)
except OSError as error:
    print("ended", error, flush=True)
"#;

#[test]
fn h12_connections_from_before_the_guard_of_a_port_end() {
    in_room("h12_connections_from_before_the_guard_of_a_port_end", |room| {
        let mut host = Host::open(room)?;
        let mut old = Vec::new();
        for (mut command, address) in [
            (host.remote("/usr/bin/python3"), BASTION),
            (host.world.command_as_root("/usr/bin/python3"), "127.0.0.1"),
            (host.remote("/usr/bin/python3"), BASTION),
        ] {
            command.args(["-c", OLD, address]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn()?;
            let mut lines = BufReader::new(child.stdout.take().context("no stdout")?);
            let mut banner = String::new();
            lines.read_line(&mut banner)?;
            assert!(banner.contains("OpenSSH"), "{banner}");
            old.push((child, lines));
        }
        // the last one asks before the guard: what ends the others is the guard
        let ask = |(mut child, mut lines): (Child, BufReader<std::process::ChildStdout>)| -> Result<String> {
            child.stdin.take().context("no stdin")?.write_all(b"\n")?;
            let mut said = String::new();
            lines.read_line(&mut said)?;
            child.wait()?;
            Ok(said)
        };
        let before = ask(old.pop().context("three of them")?)?;
        assert!(before.starts_with("answered"), "{before}");
        host.world.guard(&host.stage)?;
        for one in old {
            let said = ask(one)?;
            assert!(said.starts_with("ended"), "{said}");
        }
        let sluice = host.world.sluice.as_ref().context("no Sluice")?;
        until("the event", Duration::from_secs(5), || {
            let events = sluice.events()?;
            Ok(events.iter().any(|event| event["road"] == "port" || event["road"] == "established"))
        })
    });
}
