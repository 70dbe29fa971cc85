//! Section C of the threats, and what of section P shows on SSH: each in a test with its number.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use sluice_tests::Result;
use sluice_tests::command::{hear, until};
use sluice_tests::enclosure::in_room;
use sluice_tests::gate::{Gate, both};
use sluice_tests::road::Road;
use sluice_tests::world::HOME;

#[test]
fn c1_each_channel_of_a_connection_is_judged_by_itself() {
    in_room("c1_each_channel_of_a_connection_is_judged_by_itself", |room| {
        let mut gate = Gate::open(room)?;
        let mark = gate.scene.world.app.mark()?;
        let said = gate.walk(
            "ssh -M -S $PWD/control -fnNT $HOST\n\
             ssh -S $PWD/control $HOST 'echo first'\n\
             ssh -S $PWD/control $HOST 'rm -rf /' > refused 2>&1; echo status $?\n\
             printf 'echo shell\\n' | ssh -T -S $PWD/control $HOST\n\
             echo 'ls customers.txt' | sftp -o ControlPath=$PWD/control -b - $HOST | tail -1\n\
             ssh -S $PWD/control $HOST 'rm -r -f /' >> refused 2>&1; echo status $?\n\
             grep -c 'rule no-emptying' refused\n\
             ssh -S $PWD/control -O exit $HOST 2> /dev/null",
        )?;
        let text = said.text();
        assert_eq!(text.matches("status 1").count(), 2, "{}", said.shown());
        for part in ["first", "shell", "customers.txt"] {
            assert!(text.contains(part), "{part} in {}", said.shown());
        }
        let arrived = gate.scene.world.app.commands_since(mark)?;
        assert!(arrived.iter().all(|line| !line.starts_with(b"rm")), "{arrived:?}");
        assert_eq!(gate.scene.world.app.logins_since(mark)?, 1, "one connection, one login at the target");
        Ok(())
    });
}

#[test]
fn c2_c6_what_no_rule_permits_does_not_pass() {
    in_room("c2_c6_what_no_rule_permits_does_not_pass", |room| {
        let mut gate = Gate::open(room)?;
        for variable in ["LD_PRELOAD", "BASH_ENV", "PATH", "ENV", "PROMPT_COMMAND"] {
            let said = gate.walk(&format!("ssh -o SetEnv={variable}=/tmp/evil $HOST env"))?;
            assert!(!said.text().contains("/tmp/evil"), "{variable}: {}", said.shown());
        }
        let said = gate.walk("ssh -o SetEnv=LC_ALL=C.UTF-8 $HOST env")?;
        assert!(said.text().contains("LC_ALL=C.UTF-8"), "{}", said.shown());
        let said = gate.walk(
            "eval $(ssh-agent) > /dev/null; ssh -A $HOST 'echo ${SSH_AUTH_SOCK:-none}'; kill $SSH_AGENT_PID",
        )?;
        assert!(said.text().contains("none"), "{}", said.shown());
        let said = gate.walk("DISPLAY=:7 ssh -Y $HOST 'echo ${DISPLAY:-none}'")?;
        assert!(said.text().contains("none"), "{}", said.shown());
        for forward in
            ["-W localhost:22", "-W 10.77.0.2:5432", "-W [fd77::2]:5432", "-J $HOST nobody@10.77.0.2"]
        {
            let said = gate.walk(&format!("timeout 10 ssh {forward} $HOST < /dev/null"))?;
            assert!(said.status != 0 && !both(&said).contains("SSH-2.0"), "{forward}: {}", said.shown());
        }
        for listen in ["-R 127.0.0.1:0:localhost:22", "-R /tmp/c6.sock:localhost:22", "-w any:any"] {
            let said =
                gate.walk(&format!("timeout 10 ssh -o ExitOnForwardFailure=yes {listen} $HOST true"))?;
            assert!(said.status != 0, "{listen}: {}", said.shown());
        }
        let said = gate.walk("ssh report@$HOST id -un")?;
        assert!(said.status != 0 && both(&said).contains("rule"), "an account of its own: {}", said.shown());
        Ok(())
    });
}

/// A person's evening at a terminal: what readline, tmux, an editor and an interpreter make of the keys that are pressed.
const KEYS: [(&str, &str, usize); 17] = [
    ("echo abX\x7fc; echo one-$((40+1))\r", "one-41", 1),
    ("\x1b[A\r", "one-41", 2),
    ("\x12one-\r", "one-41", 3),
    ("!!\r", "one-41", 4),
    ("echo wrong-$((1+1))\x03", "^C", 1),
    ("echo two-$((40+2))\r", "two-42", 1),
    ("\x1b[200~echo three-$((40+3))\necho four-$((40+4))\x1b[201~\r", "four-44", 1),
    ("stty size\r", "40 100", 1),
    ("stty -echo; printf 'hid%s\\n' den\r", "hidden", 1),
    ("/bin/uname --kernel-release > /dev/null; stty echo; printf 'sh%s\\n' own\r", "shown", 1),
    ("/usr/bin/python3 -q\r", ">>> ", 1),
    ("import os; os.system('/bin/uname --machine > /dev/null; echo re''pl')\r", "repl", 1),
    ("exit()\r", "deploy@app:~$ ", 10),
    ("vi -u NONE -N\r", "[?1049h", 1),
    (":!/bin/uname --operating-system\r", "GNU/Linux", 1),
    ("\r:q!\r", "[?1049l", 2),
    ("tmux -L c3 -f /dev/null new '/bin/uname --processor; sleep 1'\r", "unknown", 1),
];

#[test]
fn c3_what_is_recorded_is_what_the_terminal_showed_and_what_ran() {
    in_room("c3_what_is_recorded_is_what_the_terminal_showed_and_what_ran", |room| {
        let mut gate = Gate::open(room)?;
        let stage = &gate.scene.stage;
        let terminal = &mut gate.road.terminal;
        terminal.type_line("TERM=xterm ssh -tt app.internal | tee ~/shown")?;
        terminal.see("deploy@app:~$ ")?;
        for (keys, sign, times) in KEYS {
            if sign == "40 100" {
                terminal.resize(40, 100)?;
            }
            // whoever reads next is ready to: keys that come earlier are the line discipline's
            let mut before = String::new();
            while terminal.unread() != before {
                before = terminal.unread();
                std::thread::sleep(Duration::from_millis(400));
            }
            terminal.press(keys.as_bytes())?;
            terminal.find(&format!("`{sign}` {times} times"), |screen| {
                (screen.matches(sign).count() >= times).then_some(())
            })?;
        }
        std::thread::sleep(Duration::from_secs(2));
        terminal.press(b"exit\r")?;
        terminal.prompt(stage)?;
        let home = gate.scene.world.people.alice.home.clone();
        let id = gate.scene.closed_session()?;
        gate.scene.says(&format!(
            "sluice replay {id} --asciicast - > ~/cast; sluice replay {id} --json > ~/entries"
        ))?;

        let shown = String::from_utf8_lossy(&fs::read(home.join("shown"))?).into_owned();
        let events: Vec<serde_json::Value> =
            fs::read_to_string(home.join("cast"))?.lines().skip(1).flat_map(serde_json::from_str).collect();
        let of = |kind: &str| -> Vec<&str> {
            events.iter().filter(|event| event[1] == kind).filter_map(|event| event[2].as_str()).collect()
        };
        assert_eq!(of("o").concat(), shown, "byte for byte");
        assert!(of("r").contains(&"100x40"), "{:?}", of("r"));
        for unseen in ["--kernel-release", "wrong-2"] {
            assert!(!shown.contains(unseen), "{unseen}: {shown}");
        }
        assert!(shown.contains("\u{1b}[?1049h"), "an editor took the whole screen: {shown:?}");

        let entries = fs::read_to_string(home.join("entries"))?;
        let ran: Vec<String> = entries
            .lines()
            .flat_map(serde_json::from_str::<serde_json::Value>)
            .filter_map(|entry| Some(entry.pointer("/entry/Executed/arguments")?.to_string()))
            .collect();
        for argument in ["--kernel-release", "--machine", "--operating-system", "--processor"] {
            assert!(ran.iter().any(|own| own.contains(argument)), "{argument}: {ran:#?}");
        }
        Ok(())
    });
}

#[test]
fn c14_who_comes_by_another_way_is_nobody_here() {
    in_room("c14_who_comes_by_another_way_is_nobody_here", |room| {
        let mut gate = Gate::open(room)?;
        assert_eq!(gate.walk("ssh $HOST echo in")?.text(), "in\n");
        let alice = gate.scene.world.people.alice.clone();
        let mut console = gate.scene.world.command_as(&gate.scene.world.guarded(), &alice, "ssh");
        let said = hear(console.args(["-o", "BatchMode=yes", "app.internal", "echo in"]))?;
        assert!(
            !said.ok() && !said.out.contains("in"),
            "a console of hers, her uid is not her login: {}",
            said.all()
        );

        // a session of the kernel below hers is hers, as long as its parents are there
        for below in ["setsid -w", "setsid -w sh -c 'setsid -w \"$@\"' sh", "nohup"] {
            let said = gate.walk(&format!("{below} ssh -n -o BatchMode=yes $HOST echo in"))?;
            assert_eq!(said.text(), "in\n", "{below}: {}", said.shown());
        }
        let orphan = "exec > said 2>&1; until [ $(cut -d\" \" -f4 /proc/$$/stat) != $PARENT ]; do sleep 0.1; done\n\
                      ssh -n -o BatchMode=yes $HOST echo in; echo over";
        for (start, is_hers) in [("setsid", false), ("", true)] {
            let said = gate.walk(&format!(
                "rm -f said; echo '{orphan}' > orphan\n\
                 sh -c 'export PARENT=$$; {start} sh orphan & sleep 0.3'\n\
                 until grep -q over said; do sleep 0.1; done; cat said"
            ))?;
            assert_eq!(
                said.text().contains("in\n"),
                is_hers,
                "`{start}`, its parents are gone: {}",
                said.shown()
            );
        }

        // at the server itself: nobody's session, while there is one
        let mark = gate.scene.world.app.mark()?;
        gate.road.start("ssh -n $HOST 'sleep 3; /bin/uname --own'", Duration::from_secs(30))?;
        until("the session runs", Duration::from_secs(10), || {
            Ok(!gate.scene.world.app.commands_since(mark)?.is_empty())
        })?;
        let deploy = gate.scene.world.people.deploy.clone();
        let mut local = gate.scene.world.command_as(&gate.scene.world.outside(), &deploy, "sh");
        hear(local.args(["-c", "/bin/uname --console; true"]))?;
        gate.road.finish(&gate.scene.stage)?;
        let id = gate.scene.closed_session()?;
        let told = gate.scene.says(&format!("sluice replay {id} --json"))?;
        assert!(told.contains("\"--own\"") && !told.contains("--console"), "{told}");
        Ok(())
    });
}

#[test]
fn c4_a_refused_command_in_other_clothes_does_not_run() {
    in_room("c4_a_refused_command_in_other_clothes_does_not_run", |room| {
        let mut gate = Gate::open(room)?;
        let mark = gate.scene.world.app.mark()?;
        // GNU rm would not do it either: what counts is that it does not arrive.
        for line in [
            "rm -rf /",
            "rm -rf -- /",
            "rm -r -f //",
            "rm --recursive --force /",
            "/bin/rm -rf /",
            "echo $(rm -rf /)",
            "echo `rm -rf /`",
            "true && rm -rf /",
            "if true; then rm -rf /; fi",
            "sh -c 'rm -rf /'",
            "bash -c \"eval rm -rf /\"",
            "eval 'rm -rf /'",
            "echo cm0gLXJmIC8= | base64 -d | sh",
            "r=rm; $r -rf /",
            "r\\m -rf /",
            "'rm' \"-rf\" /",
            "f() { rm -rf /; }; f",
            "cat <(rm -rf /)",
            "sh <<'E'\nrm -rf /\nE",
            "env rm -rf /",
            "nohup rm -rf / &",
            "xargs rm -rf <<< /",
            "find / -delete",
        ] {
            fs::write(Path::new(HOME).join("line"), line)?;
            let said = gate.walk(&format!("timeout 5 ssh -n $HOST \"$(cat {HOME}/line)\""))?;
            assert!(said.status != 0, "{line}: {}", said.shown());
        }
        // What waits, waits in other clothes, too, or is refused.
        for line in [
            "systemctl restart db",
            "/run/demo/app/bin/systemctl restart db",
            "true; systemctl restart db",
            "sh -c 'systemctl restart db'",
            "env systemctl restart db",
            "systemctl --no-block restart db",
            "s=systemctl; $s restart db",
        ] {
            fs::write(Path::new(HOME).join("line"), line)?;
            let said = gate.walk(&format!("timeout 3 ssh -n $HOST \"$(cat {HOME}/line)\""))?;
            assert!(said.status != 0, "{line}: {}", said.shown());
        }
        let (arrived, told) =
            (gate.scene.world.app.commands_since(mark)?, gate.scene.world.app.units_since(mark)?);
        assert!(arrived.is_empty() && told.is_empty(), "{arrived:?} {told:?}");
        Ok(())
    });
}

#[test]
fn c7_p4_a_revocation_ends_a_control_master_and_its_channels() {
    in_room("c7_p4_a_revocation_ends_a_control_master_and_its_channels", |room| {
        let mut gate = Gate::open(room)?;
        let mark = gate.scene.world.app.mark()?;
        let script = "ssh -M -S $PWD/control $HOST 'echo begun; sleep 1000' > first 2>&1; echo status $?; cat first\n\
                      timeout 5 ssh -S $PWD/control $HOST 'echo second' 2>&1; echo status $?";
        gate.road.start(script, Duration::from_secs(60))?;
        until("the command has begun", Duration::from_secs(10), || {
            Ok(!gate.scene.world.app.commands_since(mark)?.is_empty())
        })?;
        let rules = Path::new(HOME).join("sluice/policy/ssh.cedar");
        let good = fs::read_to_string(&rules)?;
        let begun = Instant::now();
        fs::write(
            &rules,
            good.replace(
                "@id(\"analysts-enter-app\")\npermit(principal in Group::\"analysts\"",
                "@id(\"analysts-enter-app\")\npermit(principal in Group::\"nobody\"",
            ),
        )?;
        let said = gate.road.finish(&gate.scene.stage)?;
        let text = both(&said);
        assert!(!text.contains("second") && text.matches("status 255").count() >= 1, "{}", said.shown());
        assert!(text.contains("no longer permits"), "she is told why: {}", said.shown());
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());

        fs::write(&rules, good)?;
        until("she may again", Duration::from_secs(15), || Ok(gate.walk("ssh $HOST true")?.status == 0))?;
        let mark = gate.scene.world.app.mark()?;
        // A login that ends ends what lives by it: she logs out in the same terminal, by the script's own last line.
        gate.road.start(
            "ssh $HOST 'sleep 1000' > out 2>&1 & child=$!; sleep 3; sluice logout; wait $child; echo status $?; cat out",
            Duration::from_secs(20),
        )?;
        let said = gate.road.finish(&gate.scene.stage)?;
        assert!(
            said.text().contains("status 255"),
            "{}\n{}",
            said.shown(),
            gate.scene.world.app.since(mark)?
        );
        Ok(())
    });
}

#[test]
fn c7_p1_p3_an_approval_serves_one_command_once_and_never_its_own() {
    in_room("c7_p1_p3_an_approval_serves_one_command_once_and_never_its_own", |room| {
        let mut gate = Gate::open(room)?;
        let mut bob = gate.scene.logged_in(&gate.scene.world.people.bob)?;
        let mark = gate.scene.world.app.mark()?;
        gate.road.start(
            "ssh -M -S $PWD/control -fnNT $HOST\n\
             ssh -n -S $PWD/control $HOST 'systemctl restart db' 2> first\n\
             timeout 4 ssh -n -S $PWD/control $HOST 'systemctl restart db' 2> second; echo status $?\n\
             timeout 4 ssh -n -S $PWD/control $HOST 'systemctl restart web' 2> third; echo status $?\n\
             ssh -S $PWD/control -O exit $HOST 2> /dev/null",
            Duration::from_secs(60),
        )?;
        let stage = &gate.scene.stage;
        let mut id = String::new();
        until("bob sees what waits", Duration::from_secs(15), || {
            let listed = bob.run(stage, "sluice approvals --json")?;
            id =
                listed.text.split('"').skip_while(|word| *word != "id").nth(2).unwrap_or_default().to_owned();
            Ok(!id.is_empty())
        })?;
        let own = gate.scene.alice.run(stage, &format!("sluice approve {id}"))?;
        assert!(own.status != 0, "she is an administrator, and it does not help: {}", own.text);
        let as_dave = gate.scene.alice.run(stage, &format!("sudo -u dave sluice approve {id}"))?;
        assert!(as_dave.status != 0, "{}", as_dave.text);
        assert!(gate.scene.world.app.units_since(mark)?.is_empty());
        assert_eq!(bob.run(stage, &format!("sluice approve {id}"))?.status, 0);
        let said = gate.road.finish(stage)?;
        let told = gate.scene.world.app.units_since(mark)?;
        assert_eq!(told, ["deploy: restart db"], "{}", said.shown());
        assert!(said.text().contains("done: restart db"), "{}", said.shown());
        assert_eq!(said.text().matches("status 124").count(), 2, "the others wait: {}", said.shown());
        let again = bob.run(stage, &format!("sluice approve {id}"))?;
        assert!(again.status != 0, "{}", again.text);
        Ok(())
    });
}

#[test]
fn c8_a_forbidden_file_is_closed_by_every_road() {
    in_room("c8_a_forbidden_file_is_closed_by_every_road", |room| {
        let mut gate = Gate::open(room)?;
        let home = gate.scene.world.people.deploy.home.display().to_string();
        let (place, open) = (format!("{home}/closed"), format!("{home}/open"));
        let made = gate.walk(&format!(
            "ssh $HOST 'mkdir {place} {open}; echo secret > {place}/file; echo plain > {open}/file'"
        ))?;
        assert_eq!(made.status, 0, "{}", made.shown());
        let rule = format!(
            "@id(\"closed\") @message(\"nobody touches this\")\nforbid(principal, action in [Action::\"file_list\", \
             Action::\"file_read\", Action::\"file_write\", Action::\"file_remove\", Action::\"file_attributes\"], resource in \
             Path::\"app{place}\");\n"
        );
        gate.rules("closed.cedar", &rule, &format!("echo 'get {place}/file x' | sftp -b - $HOST"), false)?;
        let good = gate.walk(&format!("echo 'get {open}/file x' | sftp -b - $HOST && cat x"))?;
        assert!(good.text().contains("plain"), "{}", good.shown());
        for batch in [
            format!("get {place}/file got"),
            format!("get {open}/../closed/file got"),
            format!("put /etc/hostname {place}/new"),
            format!("ls {place}"),
            format!("rm {place}/file"),
            format!("rename {place}/file {open}/moved"),
            format!("rename -l {open}/file {place}/moved"),
            format!("ln {place}/file {open}/linked"),
            format!("ln -s {place}/file {open}/link"),
            format!("chmod 777 {place}/file"),
            format!("copy {place}/file {open}/copied"),
        ] {
            let said = gate.walk(&format!(
                "printf '{batch}\\n' | sftp -b - $HOST; s=$?; cat got 2> /dev/null; exit $s"
            ))?;
            assert!(said.status != 0 && !said.text().contains("secret"), "{batch}: {}", said.shown());
        }
        for command in [
            format!("scp -q $HOST:{place}/file got"),
            format!("scp -O -q $HOST:{place}/file got"),
            format!("scp -q /etc/hostname $HOST:{place}/new"),
            format!("scp -O -q /etc/hostname $HOST:{place}/new"),
            format!("scp -qr $HOST:{home} tree; cat tree/closed/file"),
            format!("rsync $HOST:{place}/file got"),
            format!("rsync /etc/hostname $HOST:{place}/new"),
        ] {
            let said = gate.walk(&format!("{command}; s=$?; cat got 2> /dev/null; exit $s"))?;
            assert!(said.status != 0 && !said.text().contains("secret"), "{command}: {}", said.shown());
        }
        let closed = gate.scene.world.people.deploy.home.join("closed");
        let left: Vec<_> = fs::read_dir(&closed)?.flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["file"], "nothing came, nothing went");
        Ok(())
    });
}

#[test]
fn c9_garbage_and_crowds_disturb_nobody() {
    in_room("c9_garbage_and_crowds_disturb_nobody", |room| {
        let mut gate = Gate::open(room)?;
        assert_eq!(gate.walk("ssh $HOST true")?.status, 0);
        let proxies = gate.scene.sluice()?.proxies();
        let listed = |gate: &mut Gate| -> Result<usize> {
            let said = gate.scene.says("sluice sessions --json --limit 1000")?;
            Ok(said.matches("\"id\"").count())
        };
        let (before, memory) = (listed(&mut gate)?, gate.scene.resident_kb()?);
        let script = gate.scene.script("crowd.py", include_str!("../fixtures/ssh/crowd.py"))?;
        let mut second =
            sluice_tests::terminal::Terminal::open(&gate.scene.world, &gate.scene.world.people.carol)?;
        second.type_line(&format!("python3 {script} app.internal"))?;
        second.see("held")?;
        let said = gate.walk("ssh $HOST echo still here")?;
        assert!(said.text().contains("still here") && said.took < Duration::from_secs(5), "{}", said.shown());
        let crowded = gate.scene.resident_kb()?;
        assert!(crowded < memory + 100_000, "memory: {memory} KB, then {crowded} KB");
        let ended = second.prompt(&gate.scene.stage)?;
        let closed =
            ended.text.split("closed ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
        assert!(closed == Some(100), "{}", ended.text);
        assert_eq!(
            gate.scene.sluice()?.proxies(),
            proxies,
            "the proxy is the same process: nothing crashed it"
        );
        let after = listed(&mut gate)?;
        assert!(
            before > 0 && after <= before + 1,
            "who did not log in leaves no row: {before}, then {after}"
        );
        Ok(())
    });
}

#[test]
fn c10_a_changed_host_key_of_the_target_is_refused() {
    in_room("c10_a_changed_host_key_of_the_target_is_refused", |room| {
        let mut gate = Gate::open(room)?;
        assert_eq!(gate.walk("ssh $HOST true && ssh -p 2222 $HOST true")?.status, 0);
        for kind in ["ed25519", "ecdsa", "rsa"] {
            gate.scene.world.app.restart_with_new_key(kind)?;
            let mark = gate.scene.world.app.mark()?;
            for port in [22, 2222] {
                let said = gate.walk(&format!("ssh -p {port} $HOST true"))?;
                assert!(
                    said.status != 0 && both(&said).contains("host key"),
                    "{kind}, {port}: {}",
                    said.shown()
                );
            }
            assert_eq!(gate.scene.world.app.logins_since(mark)?, 0, "{kind}");
        }
        assert!(gate.scene.event("upstream", "host key")?, "an alarm");
        gate.scene.world.app.restart_with_old_key()?;
        let said = gate.walk("ssh $HOST true && ssh -p 2222 $HOST true")?;
        assert_eq!(said.status, 0, "{}", said.shown());
        Ok(())
    });
}

#[test]
fn c11_c13_what_a_terminal_showed_is_kept_and_what_was_typed_unseen_is_not() {
    in_room("c11_c13_what_a_terminal_showed_is_kept_and_what_was_typed_unseen_is_not", |room| {
        let mut gate = Gate::open(room)?;
        let terminal = &mut gate.road.terminal;
        terminal.type_line("ssh app.internal")?;
        terminal.see("deploy@app:~$ ")?;
        terminal.type_line("read -rsp 'Password: ' x; echo; echo length ${#x}")?;
        // The echo of the line that was typed has the same words in it, not at its end.
        terminal.find("the prompt", |screen| screen.ends_with("Password: ").then_some(()))?;
        terminal.type_line("geheim-4711-geheim")?;
        terminal.see("length 18")?;
        terminal.type_line("printf '\\033]0;evil title\\007\\033[2Jvisible-%d\\n' 42; exit")?;
        terminal.see("visible-42")?;
        terminal.prompt(&gate.scene.stage)?;
        let id = gate.scene.closed_session()?;
        let replay = gate.scene.says(&format!("sluice replay {id} --color never"))?;
        assert!(replay.contains("visible-42") && replay.contains("length 18"), "{replay}");
        assert!(!replay.contains("geheim"), "{replay}");
        assert!(!replay.contains('\u{1b}') && !replay.contains('\u{7}'), "{replay:?}");
        Ok(())
    });
}

/// Keeps everybody from writing to a file system, for as long as it lives.
struct Frozen<'p>(&'p Path);

impl Frozen<'_> {
    fn new(at: &Path) -> Result<Frozen<'_>> {
        hear(std::process::Command::new("fsfreeze").arg("-f").arg(at))?;
        Ok(Frozen(at))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = hear(std::process::Command::new("fsfreeze").arg("-u").arg(self.0));
    }
}

/// A device that is slow, and then takes nothing for a while: the session waits with it, and goes on behind it.
fn while_the_device_stands_still(gate: &mut Gate, recordings: &Path) -> Result<()> {
    let seen = gate.scene.world.people.alice.home.join("seen");
    let lines = || fs::read_to_string(&seen).unwrap_or_default().matches("line-").count();
    gate.road.start(
        "ssh -tt $HOST 'for n in $(seq 100); do echo line-$n; sleep 0.05; done; echo all-of-them' < /dev/null > ~/seen",
        Duration::from_secs(60),
    )?;
    until("its first lines", Duration::from_secs(20), || Ok(lines() > 5))?;
    let frozen = Frozen::new(recordings)?;
    // what was on record before is still on its way
    std::thread::sleep(Duration::from_secs(1));
    let before = lines();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(lines(), before, "a terminal goes on while nothing can be recorded");
    assert!(before < 60, "there was nothing left to come: {before} lines");
    drop(frozen);
    let said = gate.road.finish(&gate.scene.stage)?;
    let text = fs::read_to_string(&seen)?;
    assert!(said.status == 0 && lines() == 100 && text.contains("all-of-them"), "{}\n{text}", said.shown());
    // by the terminal that logged in after the old proxy's end
    let listed = gate.walk("sluice sessions --json --limit 1")?.text();
    let id = listed.split('"').find(|word| word.len() == 36).map(str::to_owned);
    let id = id.ok_or_else(|| sluice_tests::Failure::new(listed))?;
    until("the recording is closed", Duration::from_secs(10), || {
        Ok(gate.walk(&format!("sluice replay {id} --json"))?.text().contains("\"Closed\""))
    })?;
    let told = gate.walk(&format!("sluice replay {id} --text --color never"))?.text();
    let kept = (1..=100).filter(|n| told.lines().any(|line| line.trim_end().ends_with(&format!("line-{n}"))));
    assert_eq!(kept.count(), 100, "{told}");
    Ok(())
}

#[test]
fn c12_nobody_goes_on_when_the_recorder_is_slow_or_full() {
    in_room("c12_nobody_goes_on_when_the_recorder_is_slow_or_full", |room| {
        let mut gate = Gate::open(room)?;
        let recordings = Path::new(HOME).join("lib/recordings");
        // The next proxy starts on a small file system of its own.
        let make = format!(
            "cd {HOME} && truncate -s 24M device && mke2fs -q -t ext4 -O ^has_journal -m 0 device && \
             mount -o loop device {0} && rmdir {0}/lost+found && chown {1}:{1} {0} && chmod 700 {0}",
            recordings.display(),
            gate.scene.world.people.sluice.uid
        );
        let made = hear(std::process::Command::new("sh").args(["-c", &make]))?;
        assert!(made.ok(), "{}", made.all());
        let old = gate.scene.sluice()?.proxies();
        for pid in &old {
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid.cast_signed()),
                nix::sys::signal::Signal::SIGKILL,
            )?;
        }
        until("another proxy", Duration::from_secs(20), || {
            let sluice = gate.scene.sluice()?;
            Ok(sluice.proxies().iter().any(|pid| !old.contains(pid))
                && sluice.answers(&gate.scene.world.room)?)
        })?;
        gate.road = Road::through_sluice(&gate.scene.world, &gate.scene.stage)?;
        assert_eq!(gate.walk("ssh $HOST true")?.status, 0);
        while_the_device_stands_still(&mut gate, &recordings)?;
        let mark = gate.scene.world.app.mark()?;
        // A terminal's output is kept whole: this one fills what is left.
        gate.road.start(
            "ssh -tt $HOST 'while :; do head -c 100000 /dev/urandom | base64; done' < /dev/null",
            Duration::from_secs(60),
        )?;
        until("the command has begun", Duration::from_secs(10), || {
            Ok(!gate.scene.world.app.commands_since(mark)?.is_empty())
        })?;
        let said = gate.road.finish(&gate.scene.stage)?;
        assert!(said.status != 0 && said.status != 124 && both(&said).contains("record"), "{}", {
            let err = String::from_utf8_lossy(&said.err).into_owned();
            format!("status {} after {:.1?}: {err}", said.status, said.took)
        });
        let said = gate.walk("ssh $HOST true")?;
        assert!(
            said.status != 0 && both(&said).contains("record"),
            "no new session either: {}",
            said.shown()
        );
        Ok(())
    });
}

#[test]
fn c12_a_killed_recorder_leaves_what_it_had_and_nobody_goes_on() {
    in_room("c12_a_killed_recorder_leaves_what_it_had_and_nobody_goes_on", |room| {
        let mut gate = Gate::open(room)?;
        let rule = "@id(\"anything\")\npermit(principal in Group::\"analysts\", action == Action::\"unknown\", resource);\n";
        gate.rules("anything.cedar", rule, "ssh $HOST 'x=true; $x'", true)?;
        let marker = gate.scene.world.people.deploy.home.join("count");
        gate.road.start(
            "ssh -tt $HOST 'n=0; while :; do n=$((n+1)); echo $n > ~/count; echo line-$n; sleep 0.1; done' < /dev/null",
            Duration::from_secs(60),
        )?;
        let count = || fs::read_to_string(&marker).ok().and_then(|text| text.trim().parse::<u32>().ok());
        until("it writes", Duration::from_secs(20), || Ok(count().is_some_and(|count| count > 20)))?;
        let id = gate.scene.last_session()?;
        let killed = Instant::now();
        for pid in gate.scene.sluice()?.proxies() {
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
        }
        let said = gate.road.finish(&gate.scene.stage)?;
        assert!(said.status == 255 && killed.elapsed() < Duration::from_secs(10), "{}", said.shown());
        std::thread::sleep(Duration::from_secs(1));
        let at_the_end = count();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(count(), at_the_end, "what had a terminal ends with it");
        until("another proxy", Duration::from_secs(20), || {
            gate.scene.sluice()?.answers(&gate.scene.world.room)
        })?;
        gate.road = Road::through_sluice(&gate.scene.world, &gate.scene.stage)?;
        let told = gate.walk(&format!("sluice replay {id} --text --color never"))?;
        for line in ["line-1", "line-10"] {
            assert!(told.text().contains(line), "{line}: {}", told.shown());
        }
        // what she had seen is on record: nothing goes out before
        let seen = said.text().lines().filter(|line| line.starts_with("line-")).count();
        let kept = told.text().lines().filter(|line| line.contains("line-")).count();
        assert!(seen > 10 && kept >= seen, "{seen} lines seen, {kept} on record: {}", told.shown());
        let verified = gate.scene.sluice()?.tool(&gate.scene.world.room, &["verify"])?;
        println!("{}", verified.all());
        Ok(())
    });
}
