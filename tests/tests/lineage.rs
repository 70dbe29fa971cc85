//! C3, C4, C5: what runs under the terminal of a session stands in its recording, by the kernel's word, whatever clothes
//! it wears; another session's never does.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sluice_tests::command::until;
use sluice_tests::enclosure::{Room, in_room};
use sluice_tests::road::{Outcome, Road};
use sluice_tests::scene::Scene;
use sluice_tests::world::HOME;
use sluice_tests::{Context, Failure, Result};

/// What is understood and what is not may run: here the kernel is asked, not the reader of command lines.
const ANYTHING: &str = "@id(\"anything\")\n\
    permit(principal in Group::\"analysts\", action in [Action::\"exec\", Action::\"unknown\"], resource);\n";

struct Gate {
    scene: Scene,
    road: Road,
}

impl Gate {
    fn open(room: Room) -> Result<Gate> {
        let scene = Scene::open(room)?;
        let mut road = Road::through_sluice(&scene.world, &scene.stage)?;
        fs::write(Path::new(HOME).join("sluice/policy/anything.cedar"), ANYTHING)?;
        until("the new rules", Duration::from_secs(15), || {
            let said = road.walk(&scene.stage, "ssh $HOST 'x=true; $x'", Duration::from_secs(20))?;
            Ok(said.status == 0)
        })?;
        Ok(Gate { scene, road })
    }

    /// Puts a line into a file and has it run at the server, whatever quotes are in it.
    fn run(&mut self, line: &str) -> Result<Outcome> {
        fs::write(Path::new(HOME).join("line"), line)?;
        let script = format!("ssh -n $HOST \"$(cat {HOME}/line)\"");
        self.road.walk(&self.scene.stage, &script, Duration::from_secs(60))
    }

    /// What a command of alice's prints, by her other terminal.
    fn alice(&mut self, command: &str) -> Result<String> {
        let file = self.scene.world.people.alice.home.join("said");
        let ran = self.scene.alice.run(&self.scene.stage, &format!("{command} > {}", file.display()))?;
        assert_eq!(ran.status, 0, "{command}: {}", ran.text);
        Ok(fs::read_to_string(file)?)
    }

    /// Id of the last session.
    fn id(&mut self) -> Result<String> {
        let list: Value = serde_json::from_str(&self.alice("sluice sessions --json --limit 1")?)?;
        Ok(list.pointer("/sessions/0/id").and_then(Value::as_str).context("no session")?.to_owned())
    }

    /// The last session's entries, once it is closed.
    fn last(&mut self) -> Result<Vec<Value>> {
        let id = self.id()?;
        self.closed(&id)
    }

    /// A session's entries, once it is closed.
    fn closed(&mut self, id: &str) -> Result<Vec<Value>> {
        for _ in 0..100 {
            let text = self.alice(&format!("sluice replay {id} --json"))?;
            let entries: Vec<Value> =
                text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
            if entries.iter().any(|entry| entry.pointer("/entry/Closed").is_some()) {
                return Ok(entries);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(Failure::new(format!("the session {id} is not closed")))
    }

    /// Runs a line and gives what the kernel said of it.
    fn truth(&mut self, line: &str) -> Result<(Outcome, Vec<Value>)> {
        let said = self.run(line)?;
        Ok((said, self.last()?))
    }
}

/// Whether there is an execution with this program's name and this among its arguments.
fn ran(entries: &[Value], program: &str, argument: &str) -> bool {
    executed(entries).iter().any(|one| {
        let path = one["program"].as_str().unwrap_or_default();
        let arguments = one["arguments"].as_array().cloned().unwrap_or_default();
        path.rsplit('/').next() == Some(program)
            && (argument.is_empty() || arguments.iter().any(|own| own == argument))
    })
}

fn executed(entries: &[Value]) -> Vec<&Value> {
    entries.iter().filter_map(|entry| entry.pointer("/entry/Executed")).collect()
}

fn lineage(entries: &[Value], state: &str) -> bool {
    entries.iter().any(|entry| entry.pointer("/entry/Lineage/state").is_some_and(|own| own == state))
}

/// A program under a name and with an argument that nothing else has, made and run from memory.
const MEMORY: &str = "import os\n\
    fd = os.memfd_create('ghost')\n\
    os.write(fd, open('/bin/true', 'rb').read())\n\
    os.execve(fd, ['innocent', 'from-memory'], {})\n";

#[test]
fn c3_c4_what_runs_under_the_terminal_is_seen() {
    in_room("c3_c4_what_runs_under_the_terminal_is_seen", |room| {
        let mut gate = Gate::open(room)?;
        let memory = gate.scene.script("memory.py", MEMORY)?;
        let script = gate.scene.script("hidden.sh", "#!/bin/sh\n/bin/uname --kernel-name > /dev/null\n")?;
        let encoded = "L2Jpbi91bmFtZSAtLW5vZGVuYW1lCg==";
        let cases: [(String, &str, &str); 14] = [
            ("/bin/uname -m".into(), "uname", "-m"),
            ("bash -ic 'alias look=\"/bin/uname -r\"; eval look'".into(), "uname", "-r"),
            ("look() { /bin/uname -v; }; look".into(), "uname", "-v"),
            ("echo $(/bin/uname -o)".into(), "uname", "-o"),
            (format!("sh {script}"), "uname", "--kernel-name"),
            (format!("echo {encoded} | base64 -d | sh"), "uname", "--nodename"),
            (
                "/usr/bin/python3 -c 'import subprocess; subprocess.run([\"/bin/uname\",\"-p\"])'".into(),
                "uname",
                "-p",
            ),
            ("/usr/bin/sudo -n -u report /bin/uname -i".into(), "uname", "-i"),
            (
                "/usr/bin/sudo -n su report -s /bin/sh -c '/bin/uname --processor'".into(),
                "uname",
                "--processor",
            ),
            ("nohup /bin/uname -s".into(), "uname", "-s"),
            ("setsid -f /bin/uname -n; sleep 0.2".into(), "uname", "-n"),
            ("tmux -L t new-session -d '/bin/uname -a; sleep 0.2'; sleep 0.5".into(), "uname", "-a"),
            ("/bin/busybox sh -c '/bin/busybox uname -m'".into(), "busybox", "uname"),
            (format!("/usr/bin/python3 {memory}"), "", "from-memory"),
        ];
        for (line, program, argument) in &cases {
            let (said, entries) = gate.truth(line)?;
            assert!(lineage(&entries, "followed"), "{line}: {}\n{entries:#?}", said.shown());
            let seen = match *program {
                "" => executed(&entries).iter().any(|one| {
                    one["unlinked"] == true
                        && one["arguments"].as_array().is_some_and(|a| a.iter().any(|own| own == argument))
                }),
                program => ran(&entries, program, argument),
            };
            assert!(seen, "{line}: {}\n{:#?}", said.shown(), executed(&entries));
        }
        let (_, entries) = gate.truth("/usr/bin/sudo -n -u report /usr/bin/id -u")?;
        let as_report = executed(&entries).iter().any(|one| {
            one["user"] == "report" && one["program"].as_str().is_some_and(|path| path.ends_with("/id"))
        });
        assert!(as_report, "who it became: {:#?}", executed(&entries));

        // what the auditor sees, with nothing in it that a terminal would obey
        gate.run("/bin/echo \"$(printf 'a\\033]0;evil\\007')\" > /dev/null")?;
        gate.last()?;
        let id = gate.id()?;
        let text = gate.alice(&format!("sluice replay {id} --text --color never"))?;
        assert!(text.contains("ran /bin/echo") && !text.contains('\u{1b}'), "{text}");
        Ok(())
    });
}

#[test]
fn c4_sessions_do_not_mix_and_a_flood_of_processes_is_all_there() {
    in_room("c4_sessions_do_not_mix_and_a_flood_of_processes_is_all_there", |room| {
        let mut gate = Gate::open(room)?;
        let script = "for n in 1 2 3 4 5 6; do\n\
                      ssh -n $HOST \"for i in 1 2 3 4 5 6 7 8 9; do /bin/uname --$n-\\$i; done; true\" & done; wait";
        gate.road.walk(&gate.scene.stage, script, Duration::from_secs(60))?;
        let list: Value = serde_json::from_str(&gate.alice("sluice sessions --json --limit 6")?)?;
        let sessions = list["sessions"].as_array().cloned().unwrap_or_default();
        let mut seen = std::collections::BTreeSet::new();
        for session in &sessions {
            let entries = gate.closed(session["id"].as_str().unwrap_or_default())?;
            let own: Vec<String> = executed(&entries)
                .iter()
                .filter(|one| one["program"] == "/bin/uname")
                .filter_map(|one| one["arguments"][1].as_str().map(str::to_owned))
                .collect();
            assert_eq!(own.len(), 9, "{own:?} in {entries:#?}");
            let number = own[0].get(..4).unwrap_or_default().to_owned();
            assert!(own.iter().all(|one| one.starts_with(&number)), "another session's in it: {own:?}");
            seen.insert(number);
        }
        assert_eq!(seen.len(), 6);

        let said = gate.run("i=0; while [ $i -lt 10000 ]; do /bin/true $i; i=$((i+1)); done")?;
        assert_eq!(said.status, 0, "{}", said.shown());
        let entries = gate.last()?;
        let count = executed(&entries).iter().filter(|one| one["program"] == "/bin/true").count();
        let said_lost = entries.iter().any(|entry| entry.pointer("/entry/Gap").is_some());
        assert!(count == 10_000 || said_lost, "{count} of 10,000, and nothing is said to be missing");
        println!("10,000 programs in {:.1?}: {count} on record, a gap: {said_lost}", said.took);

        // nobody reads while more runs than the ring holds
        let mark = gate.scene.world.app.mark()?;
        let over = gate.scene.world.people.deploy.home.join("over");
        gate.road.start(
            "ssh -n $HOST 'i=0; while [ $i -lt 8000 ]; do /bin/true $i; i=$((i+1)); done; touch ~/over; sleep 1'",
            Duration::from_secs(120),
        )?;
        until("it runs", Duration::from_secs(20), || {
            Ok(!gate.scene.world.app.commands_since(mark)?.is_empty())
        })?;
        let loader = Pid::from_raw(gate.scene.sluice()?.loader().context("a loader")?.cast_signed());
        kill(loader, Signal::SIGSTOP)?;
        let ended = until("all have run", Duration::from_secs(90), || Ok(over.exists()));
        kill(loader, Signal::SIGCONT)?;
        ended?;
        gate.road.finish(&gate.scene.stage)?;
        let entries = gate.last()?;
        let count = executed(&entries).iter().filter(|one| one["program"] == "/bin/true").count();
        let gap = entries.iter().find_map(|entry| entry.pointer("/entry/Gap"));
        assert!(count < 8_000, "the ring holds all of them, and the test proves nothing");
        assert!(gap.is_some(), "{count} of 8,000, and nothing is said to be missing");
        println!("8,000 programs while nobody reads: {count} on record, {gap:?}");
        Ok(())
    });
}

/// A spool of the server's own, where its daemons look for what somebody has left with them.
const SPOOL: &str = "mount -t tmpfs -o mode=755 tmpfs /var/spool/cron && cd /var/spool/cron && \
    mkdir atjobs atspool crontabs && touch atjobs/.SEQ && chmod 600 atjobs/.SEQ && \
    chown daemon:daemon atjobs atjobs/.SEQ atspool && chmod 1770 atjobs atspool && \
    chgrp crontab crontabs && chmod 1730 crontabs && /usr/sbin/atd < /dev/null > /dev/null 2>&1";

/// What a session leaves with the real atd and cron: that it does is stated, and what they run for it is not seen, in a
/// session that is still there and in none. A service manager is none to be had here: that it is asked is stated as well.
fn what_daemons_run(gate: &mut Gate) -> Result<()> {
    let made = gate.scene.world.app.administer(SPOOL)?;
    assert!(made.ok(), "{}", made.all());
    let ends_at = |entries: &[Value], program: &str| {
        let mut messages = entries
            .iter()
            .filter(|entry| entry.pointer("/entry/Lineage/state").is_some_and(|state| state == "outside"));
        messages.any(|entry| entry.to_string().contains(&format!("`{program}`")))
    };
    let (at, cron) =
        ("until test -e ~/by-at; do sleep 0.1; done", "until test -e ~/by-cron; do sleep 0.1; done");
    let job = |name: &str| format!("/bin/uname --by-{name} > /dev/null 2>&1; touch ~/by-{name}");

    let line = format!("echo '{}' | /usr/bin/at now; {at}; /bin/uname --besides-at; true", job("at"));
    let (said, entries) = gate.truth(&line)?;
    assert!(said.status == 0 && ends_at(&entries, "at"), "{}\n{entries:#?}", said.shown());
    assert!(ran(&entries, "uname", "--besides-at"), "it was there while atd ran it: {entries:#?}");
    assert!(!ran(&entries, "uname", "--by-at"), "{entries:#?}");

    // cron runs this when it starts, and not only at the next minute
    let line = format!(
        "echo '@reboot {}' | /usr/bin/crontab -; {cron}; /bin/uname --besides-cron; true",
        job("cron")
    );
    fs::write(Path::new(HOME).join("line"), line)?;
    gate.road.start(&format!("ssh -n $HOST \"$(cat {HOME}/line)\""), Duration::from_secs(60))?;
    until("a crontab", Duration::from_secs(20), || {
        Ok(gate.scene.world.app.administer("test -s /var/spool/cron/crontabs/deploy")?.ok())
    })?;
    let made = gate.scene.world.app.administer("/usr/sbin/cron < /dev/null > /dev/null 2>&1")?;
    assert!(made.ok(), "{}", made.all());
    let said = gate.road.finish(&gate.scene.stage)?;
    let entries = gate.last()?;
    assert!(said.status == 0 && ends_at(&entries, "crontab"), "{}\n{entries:#?}", said.shown());
    assert!(ran(&entries, "uname", "--besides-cron") && !ran(&entries, "uname", "--by-cron"), "{entries:#?}");

    let (_, entries) = gate.truth("systemd-run --user /bin/uname --by-systemd; true")?;
    assert!(ends_at(&entries, "systemd-run"), "{entries:#?}");
    Ok(())
}

#[test]
fn c5_what_lives_on_or_runs_elsewhere_is_stated() {
    in_room("c5_what_lives_on_or_runs_elsewhere_is_stated", |room| {
        let mut gate = Gate::open(room)?;
        what_daemons_run(&mut gate)?;

        let (said, entries) =
            gate.truth("setsid -f sh -c 'sleep 4; exec /bin/uname --later' > /dev/null 2>&1 < /dev/null")?;
        assert!(lineage(&entries, "outlived"), "{}\n{entries:#?}", said.shown());
        assert!(!ran(&entries, "uname", "--later"));
        let id = gate.id()?;
        until("the event of what it did later", Duration::from_secs(15), || {
            Ok(gate.scene.event("lineage", "--later")? && gate.scene.event("lineage", &id)?)
        })?;
        let events = gate.scene.sluice()?.events()?;
        let is_later = |event: &&Value| event["class"] == "lineage" && event.to_string().contains("--later");
        let later = events.iter().rfind(is_later).context("an event")?;
        assert_eq!((&later["session"], &later["actor"]["name"]), (&id.into(), &"alice".into()), "{later}");
        // it came last: nothing of what the daemons ran is still on its way
        for unseen in ["--by-at", "--by-cron"] {
            let told =
                events.iter().find(|event| event["class"] == "lineage" && event.to_string().contains(unseen));
            assert!(told.is_none(), "{told:?}");
        }

        // the loader and the proxy die under a session: what goes on is seen by the next ones
        gate.road.start(
            "ssh -n $HOST 'setsid -f sh -c \"sleep 8; exec /bin/uname --survivor\" > /dev/null 2>&1; sleep 30'",
            Duration::from_secs(60),
        )?;
        std::thread::sleep(Duration::from_secs(2));
        let loader = gate.scene.sluice()?.loader().context("a loader")?;
        kill(Pid::from_raw(loader.cast_signed()), Signal::SIGKILL)?;
        gate.road.finish(&gate.scene.stage)?;
        gate.scene.sluice()?.wait_guarding(&gate.scene.world.room)?;
        until("the event of the survivor", Duration::from_secs(20), || {
            gate.scene.event("lineage", "--survivor")
        })
    });
}

/// Whoever has none of these words runs anything; `hostname` when somebody of the dba group agrees.
const PROGRAMS: &str = "@id(\"programs\")\n\
    permit(principal in Group::\"analysts\", action == Action::\"run\", resource in Target::\"app\")\n\
    unless { resource.program like \"*/uname\" || resource.program like \"*/busybox\" || \
    resource.program like \"*/hostname\" };\n\
    @id(\"no-uname\") @message(\"what this host is, is nobody's business\")\n\
    forbid(principal, action == Action::\"run\", resource) when { resource.program like \"*/uname\" };\n\
    @id(\"hostname-held\") @approval(\"dba:1\")\n\
    permit(principal in Group::\"analysts\", action == Action::\"run\", resource in Target::\"app\")\n\
    when { resource.program like \"*/hostname\" };\n";

#[test]
fn c4_a_program_is_refused_or_held_whatever_starts_it() {
    in_room("c4_a_program_is_refused_or_held_whatever_starts_it", |room| {
        let mut gate = Gate::open(room)?;
        let memory = MEMORY.replace("/bin/true", "/bin/sleep").replace("from-memory", "30");
        let memory = gate.scene.script("memory.py", &memory)?;
        let script = gate.scene.script("hidden.sh", "#!/bin/sh\n/bin/uname -s\n")?;
        let lines = [
            "/bin/uname -s".to_owned(),
            "bash -ic 'alias look=\"/bin/uname -s\"; eval look'".into(),
            format!("sh {script}"),
            "echo L2Jpbi91bmFtZSAtcwo= | base64 -d | sh".into(),
            "/usr/bin/python3 -c 'import subprocess; subprocess.run([\"/bin/uname\",\"-s\"])'".into(),
            "/usr/bin/sudo -n -u report /bin/uname -s".into(),
            "ln -sf /bin/uname ~/innocent && ~/innocent -s".into(),
            "/bin/busybox uname -s".into(),
            "/lib64/ld-linux-x86-64.so.2 /bin/uname -s".into(),
        ];
        for line in &lines {
            let said = gate.run(line)?;
            assert!(
                said.text().contains("Linux"),
                "it works where nobody is asked: {line}: {}",
                said.shown()
            );
        }
        fs::write(Path::new(HOME).join("sluice/policy/programs.cedar"), PROGRAMS)?;
        let config = Path::new(HOME).join("sluice/sluice.toml");
        let text = fs::read_to_string(&config)?;
        fs::write(&config, text.replace("name = \"app\"\n", "name = \"app\"\ntruth = \"judge\"\n"))?;
        gate.scene.hangup()?;
        until("programs are judged", Duration::from_secs(15), || {
            Ok(!gate.run("/bin/uname -s")?.text().contains("Linux"))
        })?;
        for line in &lines {
            let said = gate.run(line)?;
            assert!(!said.text().contains("Linux"), "{line}: {}", said.shown());
        }
        let said = gate.run("/bin/uname -s")?;
        let words = String::from_utf8_lossy(&said.err).into_owned();
        assert!(words.contains("nobody's business (rule no-uname)"), "{}", said.shown());
        let said = gate.run("/bin/echo still; /usr/bin/id -un")?;
        assert!(said.text().contains("still\ndeploy"), "{}", said.shown());
        let said = gate.run(&format!("/usr/bin/python3 {memory}; echo after it"))?;
        let ended = said.text().contains("after it") && said.took < Duration::from_secs(15);
        assert!(ended, "what nobody could be asked for is ended when it is seen: {}", said.shown());

        // held, and granted by somebody else
        let bob = gate.scene.world.people.bob.clone();
        let mut bob = gate.scene.logged_in(&bob)?;
        gate.road.start("ssh -n $HOST 'echo $(/bin/hostname)'", Duration::from_secs(60))?;
        let mut id = String::new();
        until("a request for approval", Duration::from_secs(20), || {
            let said = bob.run(&gate.scene.stage, "sluice approvals --json")?.text;
            let list: Value = serde_json::from_str(said.get(said.find('{').unwrap_or(0)..).unwrap_or(""))
                .unwrap_or_default();
            id = list.pointer("/approvals/0/id").and_then(Value::as_str).unwrap_or_default().to_owned();
            Ok(!id.is_empty())
        })?;
        assert_eq!(bob.run(&gate.scene.stage, &format!("sluice approve {id}"))?.status, 0);
        let said = gate.road.finish(&gate.scene.stage)?;
        assert!(said.text().contains("app"), "{}", said.shown());
        assert!(String::from_utf8_lossy(&said.err).contains("waiting for the approval"), "{}", said.shown());

        // what is mounted during the session holds no program that nobody is asked for
        let place = gate.scene.world.people.deploy.home.join("later");
        fs::create_dir_all(&place)?;
        let at = place.display().to_string();
        let mark = gate.scene.world.app.mark()?;
        let script = format!(
            "ssh -n $HOST 'until test -e {at}/uname; do sleep 0.1; done; sleep 0.3; {at}/uname -s; {at}/other -s; echo tried'"
        );
        gate.road.start(&script, Duration::from_secs(60))?;
        until("the session runs", Duration::from_secs(20), || {
            Ok(!gate.scene.world.app.commands_since(mark)?.is_empty())
        })?;
        let mount = format!(
            "mount -t tmpfs tmpfs {at} && cp /bin/uname {at}/other && cp /bin/uname {at}/uname && chmod 755 {at} {at}/*"
        );
        let said = gate.scene.world.app.administer(&mount)?;
        assert!(said.ok(), "{}", said.all());
        let said = gate.road.finish(&gate.scene.stage)?;
        assert!(said.text().contains("Linux\ntried"), "what is permitted runs: {}", said.shown());
        assert_eq!(said.text().matches("Linux").count(), 1, "{}", said.shown());

        // the proxy alone dies while a program waits: it does not run
        let ran = gate.scene.world.people.deploy.home.join("ran");
        gate.road.start("ssh -n $HOST '/bin/hostname && touch ~/ran'", Duration::from_secs(60))?;
        until("a request for approval", Duration::from_secs(20), || {
            Ok(bob.run(&gate.scene.stage, "sluice approvals --json")?.text.contains("\"id\""))
        })?;
        for pid in gate.scene.sluice()?.proxies() {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
        }
        let said = gate.road.finish(&gate.scene.stage)?;
        assert!(said.status != 0 && said.took < Duration::from_secs(20), "{}", said.shown());
        std::thread::sleep(Duration::from_secs(1));
        assert!(!ran.exists() && !said.text().contains("app"), "{}", said.shown());
        Ok(())
    });
}

/// Carries every connection in one process, so that the kernel can't tell whose programs are whose.
const RELAY: &str = "import socket, threading\n\
    server = socket.create_server(('10.78.0.2', 2300))\n\
    def carry(a, b):\n\
    \x20   while (data := a.recv(65536)): b.sendall(data)\n\
    \x20   b.shutdown(socket.SHUT_WR)\n\
    while True:\n\
    \x20   near = server.accept()[0]; far = socket.create_connection(('10.78.0.2', 22))\n\
    \x20   for ends in ((near, far), (far, near)): threading.Thread(target=carry, args=ends, daemon=True).start()\n";

const RELAYED: &str = "\n[[target]]\nname = \"relayed\"\nprotocol = \"ssh\"\nhosts = [\"app.internal\"]\nports = [2300]\n\
    truth = \"record\"\n\n[target.upstream]\nuser = \"deploy\"\nkey_file = \"/run/demo/sluice/secrets/app\"\n";

#[test]
fn c4_who_demands_the_truth_serves_nobody_without_it() {
    in_room("c4_who_demands_the_truth_serves_nobody_without_it", |room| {
        let mut gate = Gate::open(room)?;
        let mut relay = gate.scene.world.app.beside("/usr/bin/python3").args(["-c", RELAY]).spawn()?;
        let rule = "@id(\"relayed\")\npermit(principal in Group::\"analysts\", action, resource);\n";
        fs::write(Path::new(HOME).join("sluice/policy/relayed.cedar"), rule)?;
        let config = Path::new(HOME).join("sluice/sluice.toml");
        let text = fs::read_to_string(&config)?;
        fs::write(&config, format!("{text}{RELAYED}"))?;
        gate.scene.hangup()?;
        let ssh = "ssh -n -p 2300 -o StrictHostKeyChecking=no $HOST echo in";
        let mut said = String::new();
        until("the relay's target", Duration::from_secs(20), || {
            let outcome = gate.road.walk(&gate.scene.stage, ssh, Duration::from_secs(20))?;
            said = outcome.shown();
            Ok(outcome.text() == "in\n")
        })
        .context(said)?;
        let entries = gate.last()?;
        assert!(!lineage(&entries, "followed"), "the kernel can't tell, and that is said: {entries:#?}");
        for truth in ["require", "judge"] {
            fs::write(&config, format!("{text}{}", RELAYED.replace("\"record\"", &format!("\"{truth}\""))))?;
            gate.scene.hangup()?;
            let mut said = None;
            until("the session is refused", Duration::from_secs(20), || {
                let outcome = gate.road.walk(&gate.scene.stage, ssh, Duration::from_secs(20))?;
                let refused = outcome.status != 0;
                said = Some(outcome);
                Ok(refused)
            })?;
            let said = said.context("an outcome")?;
            assert!(!said.text().contains("in"), "{truth}: {}", said.shown());
            assert!(
                String::from_utf8_lossy(&said.err).contains("can't be seen"),
                "{truth}: {}",
                said.shown()
            );
        }
        relay.kill()?;
        relay.wait()?;
        Ok(())
    });
}
