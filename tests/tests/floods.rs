//! Floods, small enough for every run; `cargo xtask bench kernel --flood` makes the full ones.

use sluice_tests::Result;
use sluice_tests::enclosure::in_room;
use sluice_tests::flood::{self, Sizes};
use sluice_tests::scene::Scene;

/// More events than the ring has room for, more entries than a packet between loader and proxy, and connects that nobody waits
/// for, more than the proxy's backlog.
#[test]
fn h18_h19_nobody_gets_past_by_a_flood_and_what_is_lost_is_counted() {
    in_room("h18_h19_nobody_gets_past_by_a_flood_and_what_is_lost_is_counted", |room| -> Result<()> {
        let mut scene = Scene::open(room)?;
        let report = flood::run(&mut scene, Sizes::SMALL)?;
        println!("{report:#?}");
        // what is counted here is also counted for monitoring and said to whoever looks
        let sluice = scene.world.sluice.as_ref().expect("Sluice");
        let said = sluice.tool(&scene.world.room, &["status"])?;
        assert!(said.out.contains(&format!("{} kernel events lost", flood::lost(&scene)?)), "{}", said.all());
        Ok(())
    });
}
