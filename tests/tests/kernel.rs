//! The kernel programs by themselves: every form of an address, every kind of packet, and who sits on the port.

use std::time::Duration;

use sluice_tests::command::{hear, until};
use sluice_tests::enclosure::in_room;
use sluice_tests::stage::Stage;
use sluice_tests::world::World;

const ROADS: &str = include_str!("../fixtures/scripts/roads.py");

/// Root in the guarded cgroup goes down every road that is a syscall away. Each line says which, what happened, and whether
/// it is as it should be.
#[test]
fn every_road_ends_at_the_proxy_or_nowhere() {
    in_room("every_road_ends_at_the_proxy_or_nowhere", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        let outside =
            hear(sluice_tests::command::within(&world.outside(), "/usr/bin/python3").args(["-c", ROADS]))?;
        let reached = outside.out.lines().filter(|line| line.starts_with("open")).count();
        assert!(
            reached >= 4,
            "without a guard the roads are open, or the test proves nothing: {}",
            outside.all()
        );
        world.guard(&stage)?;
        let mark = world.postgres.mark()?;
        let said = hear(world.command_as_root("/usr/bin/python3").args(["-c", ROADS]))?;
        let open: Vec<&str> = said.out.lines().filter(|line| line.starts_with("open")).collect();
        assert!(open.is_empty() && said.out.contains("all tried"), "{}", said.all());
        assert_eq!(world.postgres.connections_since(mark)?, 0, "nothing arrived at the server");
        let sluice = world.sluice.as_ref().expect("Sluice");
        for (road, verdict) in
            [("packet", "dropped"), ("datagram", "denied"), ("bind", "denied"), ("connect6", "redirected")]
        {
            let seen = until("the event", Duration::from_secs(5), || {
                Ok(sluice.events()?.iter().any(|event| event["road"] == road && event["activity"] == verdict))
            });
            assert!(seen.is_ok(), "no event says that a {road} was {verdict}");
        }
        Ok(())
    });
}
