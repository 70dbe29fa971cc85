//! Plain clients of SSH through Sluice: what comes back is what comes back directly, or a refusal that says why. The long
//! ones, and other people's clients, are `cargo xtask conformance ssh`.

use std::time::{Duration, Instant};

use sluice_tests::command::until;
use sluice_tests::conformance;
use sluice_tests::enclosure::in_room;
use sluice_tests::road::Road;
use sluice_tests::stage::Stage;
use sluice_tests::world::World;

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
