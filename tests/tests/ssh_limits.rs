//! What a connection may be made of: algorithms, channels, a screen that is lent, and what would run later.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sluice_tests::command::until;
use sluice_tests::enclosure::in_room;
use sluice_tests::gate::{Gate, both};
use sluice_tests::road::Road;
use sluice_tests::world::HOME;
use sluice_tests::world::network::APP;

#[test]
fn c10_weak_algorithms_are_not_on_offer_and_strict_key_exchange_is() {
    in_room("c10_weak_algorithms_are_not_on_offer_and_strict_key_exchange_is", |room| {
        let mut gate = Gate::open(room)?;
        let mut direct = Road::direct(&gate.scene.world)?;
        let sha1 = "ssh -c aes256-ctr -m hmac-sha1 $HOST echo in";
        let said = direct.walk(&gate.scene.stage, sha1, Duration::from_secs(20))?;
        assert_eq!(said.text(), "in\n", "the server takes it directly: {}", said.shown());
        for weak in [
            "-c aes256-ctr -m hmac-sha1",
            "-c aes256-ctr -m umac-64@openssh.com",
            "-c aes128-cbc",
            "-c 3des-cbc",
            "-o KexAlgorithms=diffie-hellman-group14-sha1",
            "-o KexAlgorithms=diffie-hellman-group-exchange-sha1",
            "-o HostKeyAlgorithms=ssh-rsa",
        ] {
            let said = gate.walk(&format!("ssh {weak} $HOST echo in"))?;
            assert!(said.status == 255 && both(&said).contains("no matching"), "{weak}: {}", said.shown());
        }
        let said = gate.walk("ssh -vv -C $HOST echo in 2>&1 | grep -e kex-strict -e mlkem -e zlib")?;
        assert!(said.text().contains("kex-strict-s-v00@openssh.com"), "{}", said.shown());
        let theirs: Vec<_> =
            said.text().lines().filter(|line| line.contains("zlib")).map(str::to_owned).collect();
        assert_eq!(theirs.len(), 2, "the client's offer in both directions, and none of ours: {theirs:?}");
        for served in ["-c chacha20-poly1305@openssh.com", "-c aes128-ctr -m hmac-sha2-256-etm@openssh.com"] {
            let said = gate.walk(&format!("ssh {served} $HOST echo in"))?;
            assert_eq!(said.text(), "in\n", "it has strict key exchange: {}", said.shown());
        }
        Ok(())
    });
}

/// Terrapin (CVE-2023-48795) needs a cipher that it concerns and a client without strict key exchange.
#[test]
fn c10_a_client_without_strict_key_exchange_is_served_by_nothing_that_can_be_cut() {
    in_room("c10_a_client_without_strict_key_exchange_is_served_by_nothing_that_can_be_cut", |room| {
        let mut gate = Gate::open(room)?;
        let script = gate.scene.script("offers.py", include_str!("../fixtures/ssh/offers.py"))?;
        let mut direct = Road::direct(&gate.scene.world)?;
        let patience = Duration::from_secs(20);
        let said = direct.walk(&gate.scene.stage, &format!("python3 {script} {APP}"), patience)?;
        let open = "chacha20-poly1305@openssh.com";
        assert!(
            said.text().contains(&format!("chacha, not strict: {open}")),
            "the server itself takes it, or the test proves nothing: {}",
            said.shown()
        );
        let said = gate.walk(&format!("python3 {script} app.internal"))?;
        let text = said.text();
        let answer = |kind: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(": "));
            line.unwrap_or_default().to_owned()
        };
        for kind in ["chacha, not strict", "etm, not strict"] {
            let said = answer(kind);
            assert!(said.starts_with("refused: ") && said.contains("CVE-2023-48795"), "{kind}: {text}");
        }
        assert_eq!(answer("chacha, strict").split(' ').next(), Some(open), "{text}");
        assert_eq!(answer("gcm, not strict"), "aes256-gcm@openssh.com", "{text}");
        for kind in ["counter, not strict", "chacha or counter, not strict", "silent"] {
            assert_eq!(answer(kind), "aes256-ctr hmac-sha2-512", "{kind}: {text}");
        }
        Ok(())
    });
}

#[test]
fn c9_a_connection_has_so_many_channels_and_the_next_is_refused_alone() {
    in_room("c9_a_connection_has_so_many_channels_and_the_next_is_refused_alone", |room| {
        let mut gate = Gate::open(room)?;
        let mut direct = Road::direct(&gate.scene.world)?;
        // Whoever is refused a channel makes a connection of his own: what counts is what the client was told.
        let script = "ssh -M -S $PWD/control -fnNT $HOST\n\
            for n in $(seq 131); do ssh -S $PWD/control $HOST 'sleep 9; echo ok' < /dev/null > out$n 2>&1 & done; sleep 7\n\
            grep -l 'refused by peer' out* | wc -l; wait; cat out* | grep -cx ok\n\
            ssh -S $PWD/control $HOST 'echo after'; ssh -S $PWD/control -O exit $HOST 2> /dev/null";
        let said = direct.walk(&gate.scene.stage, script, Duration::from_secs(60))?;
        assert_eq!(said.text(), "0\n131\nafter\n", "directly: {}", said.shown());
        let said = gate.road.walk(&gate.scene.stage, script, Duration::from_secs(60))?;
        assert_eq!(said.text(), "3\n131\nafter\n", "{}", said.shown());
        Ok(())
    });
}

/// A display that answers every X client with these words; stands for a screen.
const DISPLAY: &str = "cat > display.py <<'E'\n\
import socket, struct\n\
server = socket.create_server(('127.0.0.1', 6077))\n\
while True:\n\
\x20   client = server.accept()[0]\n\
\x20   order = '<' if client.recv(4096)[:1] == b'l' else '>'\n\
\x20   words = b'the display was reached.....'\n\
\x20   client.sendall(struct.pack(order + 'BBHHH', 0, len(words), 11, 0, len(words) // 4) + words)\n\
\x20   client.close()\n\
E\n\
python3 display.py & screen=$!; sleep 0.5\n\
DISPLAY=127.0.0.1:77 timeout 15 ssh -Y $HOST 'echo ${DISPLAY:-none}; xdpyinfo'; kill $screen";

#[test]
fn c6_a_screen_is_lent_by_a_rule_alone() {
    in_room("c6_a_screen_is_lent_by_a_rule_alone", |room| {
        let mut gate = Gate::open(room)?;
        let mut direct = Road::direct(&gate.scene.world)?;
        let reached = "the display was reached";
        let said = direct.walk(&gate.scene.stage, DISPLAY, Duration::from_secs(30))?;
        assert!(both(&said).contains(reached), "directly: {}", said.shown());
        let said = gate.road.walk(&gate.scene.stage, DISPLAY, Duration::from_secs(30))?;
        assert!(said.text().starts_with("none") && !both(&said).contains(reached), "{}", said.shown());
        let rule = "@id(\"screens\")\npermit(principal in Group::\"analysts\", action == Action::\"x11_forward\", \
                    resource in Target::\"app\");\n";
        let lent = "DISPLAY=127.0.0.1:77 ssh -Y $HOST 'echo ${DISPLAY:-none}' | grep -q localhost";
        gate.rules("screens.cedar", rule, lent, true)?;
        let said = gate.road.walk(&gate.scene.stage, DISPLAY, Duration::from_secs(30))?;
        assert!(both(&said).contains(reached), "{}", said.shown());
        Ok(())
    });
}

#[test]
fn c5_what_would_run_later_does_not_pass_as_something_harmless() {
    in_room("c5_what_would_run_later_does_not_pass_as_something_harmless", |room| {
        let mut gate = Gate::open(room)?;
        let mark = gate.scene.world.app.mark()?;
        for line in [
            "nohup rm -rf / &",
            "echo 'rm -rf /' | at now",
            "echo 'rm -rf /' | batch",
            "(crontab -l; echo '* * * * * rm -rf /') | crontab -",
            "systemd-run --user rm -rf /",
            "trap 'rm -rf /' EXIT",
            "setsid -f rm -rf /",
            "(sleep 1; rm -rf /) &",
            "tmux new -d 'rm -rf /'",
            "screen -dm rm -rf /",
        ] {
            let said = gate.walk(&format!("ssh $HOST \"$(cat <<'E'\n{line}\nE\n)\""))?;
            assert!(said.status != 0 && both(&said).contains("(rule "), "{line}: {}", said.shown());
        }
        let arrived = gate.scene.world.app.commands_since(mark)?;
        assert!(arrived.is_empty(), "{arrived:?}");
        Ok(())
    });
}

#[test]
fn explain_says_how_a_command_line_is_judged() {
    in_room("explain_says_how_a_command_line_is_judged", |room| {
        let mut gate = Gate::open(room)?;
        for (line, words) in [
            ("uptime", "analysts-run-commands"),
            ("rm -rf /", "no-emptying-of-the-host"),
            ("sh -c \"rm -rf /\"", "no-emptying-of-the-host"),
            ("systemctl restart app", "restart-with-approval"),
            ("$(cat program)", "default-deny"),
        ] {
            let said = gate.walk(&format!("sluice explain --target app '{line}'"))?;
            assert!(both(&said).contains(words), "{line}: {}", said.shown());
        }
        Ok(())
    });
}

/// What was carried comes out of the recording again, byte for byte, where the configuration keeps it.
#[test]
fn content_of_transfers_is_kept_where_the_configuration_says_so() {
    in_room("content_of_transfers_is_kept_where_the_configuration_says_so", |room| {
        let mut gate = Gate::open(room)?;
        let carry = "head -c 300000 /dev/urandom > in; scp -q in $HOST:/tmp/kept-sftp; scp -q -O in $HOST:/tmp/kept-scp\n\
            scp -q $HOST:/tmp/kept-sftp back; scp -q -O $HOST:/tmp/kept-scp back\n\
            n=0; for id in $(sluice sessions | grep -o '[0-9a-f]\\{8\\}-[0-9a-f-]*' | head -4); do\n\
            sluice replay --files out-$id $id > said 2>&1 && for file in out-$id/*; do cmp $file in && n=$((n+1)); done; done\n\
            echo kept $n";
        let said = gate.walk(carry)?;
        assert_eq!(said.text(), "kept 0\n", "off by default: {}", said.shown());
        let file = Path::new(HOME).join("sluice/sluice.toml");
        let text = fs::read_to_string(&file)?;
        fs::write(&file, text.replace("[recording]\n", "[recording]\ntransfers = \"content\"\n"))?;
        gate.scene.hangup()?;
        until("content is kept", Duration::from_secs(20), || Ok(gate.walk(carry)?.text() == "kept 4\n"))
    });
}
