//! Nobody is taken for the proxy: not at its port while it is dead, not under its pid, not by its file, not in another network
//! namespace.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use sluice_tests::command::{hear, until, within};
use sluice_tests::enclosure::in_room;
use sluice_tests::stage::Stage;
use sluice_tests::world::network::cell;
use sluice_tests::world::{HOME, World};
use sluice_tests::{Context as _, Result};

const IMPOSTOR: &str = include_str!("../fixtures/scripts/impostor.py");
const ADDRESSES: [&str; 4] = ["127.0.0.1", "0.0.0.0", "::1", "::"];

/// Somebody at the proxy's port, wherever he was let.
struct Impostor(Child, BufReader<ChildStdout>, Vec<String>);

impl Impostor {
    fn sit(mut command: Command) -> Result<Impostor> {
        command.args(["-c", IMPOSTOR, "sit"]).args(ADDRESSES).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 || line == "ready\n" {
                return Ok(Impostor(child, lines, said));
            }
            said.push(line);
        }
    }

    fn seats(&self) -> usize {
        self.2.iter().filter(|line| line.starts_with("sits")).count()
    }

    /// How many came to him.
    fn leave(mut self) -> Result<u64> {
        drop(self.0.stdin.take());
        let mut said = String::new();
        self.1.read_line(&mut said)?;
        self.0.wait()?;
        said.trim().strip_prefix("came ").and_then(|count| count.parse().ok()).context(said)
    }
}

fn in_cell(mut command: Command) -> Command {
    command.args(["--net=/run/netns/cell", "--", "/usr/bin/python3"]);
    command
}

fn said(mut command: Command, arguments: &[&str]) -> Result<String> {
    Ok(hear(command.args(["-c", IMPOSTOR]).args(arguments))?.all())
}

#[test]
fn h9_h17_nobody_is_taken_for_the_proxy() {
    in_room("h9_h17_nobody_is_taken_for_the_proxy", |room| {
        let stage = Stage::new(false);
        set_child_subreaper(true)?;
        let mut world = World::start(room, &stage)?;
        cell()?;
        let python = |world: &World| world.command_as_root("/usr/bin/python3");
        let outside_in_cell = |world: &World| in_cell(within(&world.outside(), "nsenter"));
        let inside_in_cell = |world: &World| in_cell(world.command_as_root("nsenter"));

        // without a guard anybody sits there, and the server answers from everywhere
        let impostor = Impostor::sit(python(&world))?;
        assert!(impostor.seats() >= 2, "{:?}", impostor.2);
        impostor.leave()?;
        for command in [python(&world), inside_in_cell(&world)] {
            assert!(said(command, &["knock", "3"])?.contains("answered 3"));
        }
        world.guard(&stage)?;

        // in another namespace: whoever is guarded may not sit there; whoever is not sits there for nothing
        let seated = Impostor::sit(inside_in_cell(&world))?;
        assert_eq!(seated.seats(), 0, "{:?}", seated.2);
        seated.leave()?;
        let impostor = Impostor::sit(outside_in_cell(&world))?;
        assert!(impostor.seats() >= 2, "{:?}", impostor.2);
        let mark = world.postgres.mark()?;
        assert!(said(inside_in_cell(&world), &["knock", "10"])?.contains("answered 0"));
        assert_eq!(impostor.leave()?, 0, "nobody is led to him");
        assert_eq!(world.postgres.connections_since(mark)?, 0);

        // the proxy and its loader are dead: its port, its pid and its cgroup are free
        let sluice = world.sluice.as_ref().context("no Sluice")?;
        sluice.hold_restarts(true);
        let proxy = *sluice.proxies().first().context("no proxy")?;
        let text = std::fs::read_to_string(format!("/proc/{proxy}/cgroup"))?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::")).context("no cgroup")?;
        let mounts = std::fs::read_to_string("/proc/mounts")?;
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = mounts.find(|mount| mount.get(2) == Some(&"cgroup2")).context("no cgroup v2")?;
        let cgroup = format!("{}{own}", root.get(1).unwrap_or(&""));
        let user = std::fs::metadata(format!("/proc/{proxy}"))
            .map(|meta| std::os::unix::fs::MetadataExt::uid(&meta))?
            .to_string();
        for pid in sluice.loader().into_iter().chain([proxy]) {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
        }
        until("both are dead, and the proxy's pid is free", Duration::from_secs(10), || {
            // an orphan is ours to bury
            let _ = waitpid(Pid::from_raw(proxy.cast_signed()), Some(WaitPidFlag::WNOHANG));
            Ok(sluice.loader().is_none() && !std::path::Path::new(&format!("/proc/{proxy}")).exists())
        })?;
        let mut as_proxy = world.command_as_root("setpriv");
        as_proxy.args([&format!("--reuid={user}"), "--clear-groups", "/usr/bin/python3"]);
        for command in [python(&world), as_proxy] {
            let impostor = Impostor::sit(command)?;
            assert_eq!(impostor.seats(), 0, "{:?}", impostor.2);
            // a seat that the kernel chose for him is worth nothing
            assert!(said(python(&world), &["knock", "5"])?.contains("answered 0"), "{:?}", impostor.2);
            assert_eq!(impostor.leave()?, 0);
        }
        let again = said(python(&world), &["again", &proxy.to_string(), &cgroup])?;
        assert!(again.contains(&format!("pid {proxy}")), "it has the proxy's pid: {again}");
        assert!(again.contains("answered 0"), "{again}");
        assert_eq!(world.postgres.connections_since(mark)?, 0);

        // alive again: the file of the proxy is no pass, under whatever user
        sluice.hold_restarts(false);
        sluice.wait_guarding(&world.room)?;
        let line = format!(
            "mount --bind /usr/bin/python3 {HOME}/bin/sluiced && exec setpriv --reuid={user} --clear-groups \
             {HOME}/bin/sluiced -c \"$0\" knock 5"
        );
        let mut unshare = world.command_as_root("/usr/bin/unshare");
        let said = hear(unshare.args(["-m", "sh", "-c", &line, IMPOSTOR]))?;
        assert!(said.out.contains("answered 5"), "they meet the proxy: {}", said.all());
        assert_eq!(world.postgres.connections_since(mark)?, 0, "nobody but the proxy's own process passes");
        Ok(())
    });
}
