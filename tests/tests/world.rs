//! The measuring sticks themselves: the world without Sluice in it, and that nothing of a room is left.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use sluice_tests::command::{hear, until};
use sluice_tests::enclosure::{Room, in_room};
use sluice_tests::prober::Prober;
use sluice_tests::stage::Stage;
use sluice_tests::terminal::Terminal;
use sluice_tests::tour::keep::write_enter;
use sluice_tests::world::postgres::{Postgres, baseline};
use sluice_tests::world::{HOME, World, certificates};

/// Without Sluice the database is reached, and the prober, the log and the terminal all notice. A prober that never says
/// "server" proves nothing elsewhere.
#[test]
fn without_sluice_the_real_server_is_seen_by_every_stick() {
    in_room("without_sluice_the_real_server_is_seen_by_every_stick", |room| {
        let stage = Stage::new(false);
        let world = World::start(room, &stage)?;
        assert!(baseline(&world.postgres)?, "psql with the password reaches the shop");

        let mark = world.postgres.mark()?;
        let prober = Prober::start(&world.guarded(), &Postgres::fingerprint(&certificates::paths())?)?;
        until("ten connections arrived", Duration::from_secs(20), || {
            Ok(world.postgres.connections_since(mark)? > 10)
        })?;
        let counts = prober.finish()?;
        assert!(counts.get("server").is_some_and(|n| *n > 5), "{counts:?}");
        assert_eq!(counts.len(), 1, "nobody but the server answers: {counts:?}");

        let mut terminal = Terminal::open(&world, &world.people.alice)?;
        let who = terminal
            .run(&stage, "id -un; ps -o sid= -p $$; sudo -u dave id -un; getent hosts db.internal")?;
        assert_eq!(who.status, 0, "{}", who.text);
        let pid = terminal.pid().to_string();
        for part in ["alice", "dave", "10.77.0.2", &pid] {
            assert!(who.text.contains(part), "{part} in {}", who.text);
        }
        let enter = std::path::Path::new(HOME).join("enter");
        write_enter(&world, &enter)?;
        let script =
            format!("echo 'id -un; tty; cat /proc/self/cgroup; psql --version' | {} alice", enter.display());
        let inside = hear(Command::new("sh").args(["-c", &script]))?;
        for part in ["alice@bastion", "/dev/pts/", "guarded/alice-", "PostgreSQL"] {
            assert!(inside.out.contains(part), "{part} in {inside:?}");
        }

        terminal.type_line("psql -h db.internal shop")?;
        let asked = terminal.see("Password for user alice: ")?;
        assert!(asked.contains("psql"), "{asked}");
        Ok(())
    });
}

/// Whatever ends the process that holds a room, even SIGKILL, the janitor leaves no process, cgroup, mount or file.
#[test]
fn nothing_is_left_after_kill_9() {
    // Inside a room: the program that is to be killed, with a child that would like to stay.
    if let Some(_room) = Room::current().expect("the room") {
        let mut child =
            Command::new("setsid").args(["sleep", "1000"]).stdin(Stdio::null()).spawn().expect("sleep");
        println!("pid {}", child.id());
        child.wait().expect("its end");
        return;
    }
    if std::env::var_os("SLUICE_TEST_VICTIM").is_some() {
        let arguments = ["--exact", "nothing_is_left_after_kill_9", "--nocapture"].map(Into::into);
        Room::run_again(&arguments).expect("a room");
        return;
    }
    let mut victim = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "nothing_is_left_after_kill_9", "--nocapture"])
        .env("SLUICE_TEST_VICTIM", "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the victim");
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(victim.stdout.take().expect("its output")));
    let sleeper = lines
        .find_map(|line| line.ok()?.split_once("pid ").map(|(_, pid)| pid.to_owned()))
        .expect("the pid of the child inside");
    let name = format!("sluice-demo-{}", victim.id());
    let cgroups = || {
        let out = hear(Command::new("find").args(["/sys/fs/cgroup", "-maxdepth", "3", "-name", &name]))?;
        Ok::<_, sluice_tests::Failure>(out.out.trim().to_owned())
    };
    assert!(!cgroups().expect("find").is_empty(), "the room has a cgroup");
    victim.kill().expect("SIGKILL");
    victim.wait().expect("its end");
    until("the janitor has done its work", Duration::from_secs(20), || {
        Ok(cgroups()?.is_empty() && fs::metadata(format!("/proc/{sleeper}")).is_err())
    })
    .expect("nothing left");
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    assert!(!mounts.contains(&name), "{mounts}");
}
