//! Plain clients of SSH through Sluice: what comes back is what comes back directly, or a refusal that says why. The long
//! ones, and other people's clients, are `cargo xtask conformance ssh`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use sluice_tests::command::until;
use sluice_tests::conformance;
use sluice_tests::enclosure::in_room;
use sluice_tests::gate::Gate;
use sluice_tests::road::Road;
use sluice_tests::stage::Stage;
use sluice_tests::world::network::APP;
use sluice_tests::world::{HOME, World};

/// A measuring stick: a case that does not work without Sluice proves nothing through it.
#[test]
fn plain_clients_get_what_they_get_directly() {
    in_room("plain_clients_get_what_they_get_directly", |room| {
        let stage = Stage::new(true);
        let mut world = World::start(room, &stage)?;
        world.guard(&stage)?;
        let (mut direct, mut sluice) = (Road::direct(&world)?, Road::through_sluice(&world, &stage)?);
        let mut wrong = Vec::new();
        for case in conformance::ssh().iter().filter(|case| case.quick) {
            let found = match case.baseline(&mut direct, &stage)? {
                Ok(outcome) => case.compare(case.expect, &outcome, &mut sluice, &stage)?,
                Err(why) => Some(why),
            };
            if let Some(why) = found {
                println!("✗ {}\n{why}", case.name);
                wrong.push(case.name);
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    });
}

/// A target that does not read while a client has much to say: the client waits, nobody's memory grows.
#[test]
fn an_upload_that_nobody_reads_costs_no_memory() {
    in_room("an_upload_that_nobody_reads_costs_no_memory", |room| {
        let mut scene = sluice_tests::scene::Scene::open(room)?;
        let mut road = Road::through_sluice(&scene.world, &scene.stage)?;
        // Warm: what the first session takes for good is not what we look for.
        let warm = road.walk(&scene.stage, "ssh $HOST true", Duration::from_secs(20))?;
        assert_eq!(warm.status, 0, "{}", warm.shown());
        let before = scene.resident_kb()?;
        let mark = scene.world.app.mark()?;
        road.start("head -c 2147483648 /dev/zero | ssh $HOST 'sleep 8; wc -c'", Duration::from_secs(9))?;
        until("the command has begun", Duration::from_secs(10), || {
            Ok(!scene.world.app.commands_since(mark)?.is_empty())
        })?;
        let begun = Instant::now();
        let mut most = before;
        while begun.elapsed() < Duration::from_secs(6) {
            most = most.max(scene.resident_kb()?);
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(most < before + 32_000, "memory: {before} KB, then {most} KB");
        // The others do not notice.
        assert!(scene.psql()?.contains("20000"));
        road.finish(&scene.stage)?;
        Ok(())
    });
}

/// Another server of the same host.
const STATUSLESS: &str = "\n[[target]]\nname = \"statusless\"\nprotocol = \"ssh\"\nhosts = [\"app.internal\"]\n\
    ports = [2400]\n\n[target.upstream]\nuser = \"deploy\"\nkey_file = \"/run/demo/sluice/secrets/app\"\n";

/// A server that closes a channel and says no status, on a connection that goes on: clients learn just that.
#[test]
fn a_target_that_closes_without_a_status() {
    in_room("a_target_that_closes_without_a_status", |room| {
        let mut gate = Gate::open(room)?;
        let script = Path::new(HOME).join("statusless.py");
        fs::write(&script, include_str!("../fixtures/ssh/statusless.py"))?;
        let mut server = gate.scene.world.app.beside("/usr/bin/python3");
        let mut server = server.arg(&script).args([APP, "2400"]).spawn()?;
        let rule = "@id(\"statusless\")\npermit(principal in Group::\"analysts\", action, resource);\n";
        fs::write(Path::new(HOME).join("sluice/policy/statusless.cedar"), rule)?;
        let config = Path::new(HOME).join("sluice/sluice.toml");
        fs::write(&config, fs::read_to_string(&config)? + STATUSLESS)?;
        gate.scene.hangup()?;

        let ssh = "ssh -n -p 2400 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR $HOST";
        until("the other server's target", Duration::from_secs(20), || {
            Ok(gate.walk(&format!("{ssh} status"))?.status == 3)
        })?;
        // two on one connection: the first takes nothing from the second
        let script = format!(
            "for how in close eof; do {ssh} $how; echo status $?; done\n\
             {} -M -S $PWD/control -fN; for how in close status; do {ssh} -S $PWD/control $how; echo status $?; done\n\
             {ssh} -S $PWD/control -O exit 2> /dev/null",
            ssh.replace(" -n", "")
        );
        let mut direct = Road::direct(&gate.scene.world)?;
        let wanted = direct.walk(&gate.scene.stage, &script, Duration::from_secs(30))?;
        assert_eq!(
            wanted.text(),
            "before\nstatus 255\n".repeat(3) + "before\nstatus 3\n",
            "{}",
            wanted.shown()
        );
        let said = gate.walk(&script)?;
        assert_eq!(said.text(), wanted.text(), "{}", said.shown());
        let listed = gate.walk("sluice sessions --json --limit 1")?.text();
        let id = listed.split('"').find(|word| word.len() == 36).unwrap_or_default().to_owned();
        let told = gate.walk(&format!("sluice replay {id} --text --color never"))?.text();
        assert!(told.contains("closed without a status") && told.contains("exit 3"), "{told}");
        server.kill()?;
        server.wait()?;
        Ok(())
    });
}

/// By a certificate that Sluice makes for the person: the server's own log names her subject.
#[test]
fn a_target_that_trusts_sluices_ca_knows_the_person() {
    in_room("a_target_that_trusts_sluices_ca_knows_the_person", |room| {
        let stage = Stage::new(true);
        let mut world = World::start(room, &stage)?;
        world.guard(&stage)?;
        let mut road = Road::through_sluice(&world, &stage)?;
        let mark = world.app.mark()?;
        let said = road.walk(&stage, "ssh -p 2222 $HOST id -un", Duration::from_secs(20))?;
        assert_eq!(said.text(), "deploy\n", "{}\n{}", said.shown(), world.app.since(mark)?);
        let log = world.app.since(mark)?;
        let accepted =
            log.lines().find(|line| line.contains("Accepted publickey for deploy")).unwrap_or_default();
        assert!(accepted.contains("-CERT") && accepted.contains(world.people.alice.subject), "{log}");
        Ok(())
    });
}
