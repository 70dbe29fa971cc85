//! C3, C4, C5: what runs under the terminal of a session stands in its recording, by the kernel's word, whatever clothes
//! it wears; another session's never does.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sluice_tests::command::until;
use sluice_tests::enclosure::{Room, in_room};
use sluice_tests::road::{Outcome, Road};
use sluice_tests::scene::Scene;
use sluice_tests::world::HOME;
use sluice_tests::{Context, Result};

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

    fn sluice(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.scene.sluice()?.tool(&self.scene.world.room, arguments)?.out)
    }

    /// The last session's entries, once it is closed.
    fn last(&self) -> Result<Vec<Value>> {
        let mut entries = Vec::new();
        until("the recording of the last session", Duration::from_secs(10), || {
            let list: Value = serde_json::from_str(&self.sluice(&["sessions", "--json", "--limit", "1"])?)?;
            let id = list.pointer("/sessions/0/id").and_then(Value::as_str).context("no session")?.to_owned();
            let text = self.sluice(&["replay", &id, "--json"])?;
            entries = text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
            Ok(entries.iter().any(|entry: &Value| entry.pointer("/entry/Closed").is_some()))
        })?;
        Ok(entries)
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
            ("/usr/bin/python3 -c 'import subprocess; subprocess.run([\"/bin/uname\",\"-p\"])'".into(), "uname", "-p"),
            ("/usr/bin/sudo -n -u report /bin/uname -i".into(), "uname", "-i"),
            ("/usr/bin/sudo -n su report -s /bin/sh -c '/bin/uname --processor'".into(), "uname", "--processor"),
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
        let list: Value = serde_json::from_str(&gate.sluice(&["sessions", "--json", "--limit", "1"])?)?;
        let id = list.pointer("/sessions/0/id").and_then(Value::as_str).context("no session")?.to_owned();
        let text = gate.sluice(&["replay", &id, "--text", "--color", "never"])?;
        assert!(text.contains("ran /bin/echo") && !text.contains('\u{1b}'), "{text}");
        Ok(())
    });
}
