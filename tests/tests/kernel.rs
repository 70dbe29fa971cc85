//! The kernel programs by themselves: every form of an address, every kind of packet, and who sits on the port.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_tests::command::{hear, sh, until};
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
            reached >= 8,
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
        for (road, verdict) in [
            ("packet", "dropped"),
            ("datagram", "denied"),
            ("bind", "denied"),
            ("connect6", "redirected"),
            ("device", "dropped"),
        ] {
            let seen = until("the event", Duration::from_secs(5), || {
                Ok(sluice.events()?.iter().any(|event| event["road"] == road && event["activity"] == verdict))
            });
            assert!(seen.is_ok(), "no event says that a {road} was {verdict}");
        }
        Ok(())
    });
}

/// Sends a frame to the database's address by the device that is named.
const FRAME: &str = r#"
import socket, struct, sys
head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 40, 1, 64, 6, 0, socket.inet_aton("10.77.0.1"), socket.inet_aton("10.77.0.2"))
syn = struct.pack("!HHIIBBHHH", 40001, 5432, 1, 0, 5 << 4, 2, 1024, 0, 0)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
try:
    s.sendto(b"\xff" * 6 + b"\x02" + bytes(5) + b"\x08\x00" + head + syn, (sys.argv[1], 0x0800))
    print("open")
except OSError as error:
    print("closed", error.errno)
"#;

/// A device that appears under a running guard is guarded, and so it stays when loader and proxy are dead.
#[test]
fn h8_a_device_that_comes_later_is_no_road_either() {
    in_room("h8_a_device_that_comes_later_is_no_road_either", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        world.guard(&stage)?;
        let frame = |world: &World, device: &str| {
            let mut python = world.command_as_root("/usr/bin/python3");
            Ok::<_, sluice_tests::Failure>(hear(python.args(["-c", FRAME, device]))?.all())
        };
        sh("ip", "link add late0 type veth peer name late1".split(' '))?;
        for device in ["late0", "late1"] {
            sh("ip", ["link", "set", device, "up"])?;
        }
        until("the new device is guarded", Duration::from_secs(5), || {
            Ok(frame(&world, "late0")?.starts_with("closed"))
        })?;
        let sluice = world.sluice.as_ref().expect("Sluice");
        let enforced = || {
            let said = sluice.tool(&world.room, &["status", "--json"])?;
            let report: serde_json::Value = serde_json::from_str(&said.out)?;
            let layers = report["layers"].as_array().cloned().unwrap_or_default();
            Ok::<_, sluice_tests::Failure>(
                layers.iter().any(|layer| layer["name"] == "device" && layer["state"] == "enforced"),
            )
        };
        assert!(enforced()?);
        sluice.hold_restarts(true);
        for pid in sluice.proxies().into_iter().chain(sluice.loader()) {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
        }
        until("both are dead", Duration::from_secs(5), || {
            Ok(sluice.proxies().is_empty() && sluice.loader().is_none())
        })?;
        for name in ["late0", "wire0", "lo"] {
            let said = frame(&world, name)?;
            assert!(said.starts_with("closed"), "{name} with everybody dead: {said}");
        }
        sh("ip", ["link", "del", "late0"])?;
        sluice.hold_restarts(false);
        sluice.wait_guarding(&world.room)?;
        assert!(enforced()? && frame(&world, "wire0")?.starts_with("closed"), "adopted");
        Ok(())
    });
}
