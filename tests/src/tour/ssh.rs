//! Chapter 9: plain `ssh` by the same gate.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::hold::after;
use super::{Tour, device_url};
use crate::terminal::Terminal;
use crate::world::network::APP;
use crate::world::sluice::processes;
use crate::{Context, Result};

/// In `customers.txt`, and never on a screen.
const EMAIL: &str = "ada.albers@example.com";
const CARD: &str = "4526018159083012";
/// The prompt of the application server.
const PROMPT: &str = "deploy@app:~$ ";

pub(super) fn run(tour: &mut Tour) -> Result<()> {
    let (alice, bob) = (tour.world.people.alice.clone(), tour.world.people.bob.clone());
    in_band(tour)?;
    let mut terminal = tour.logged_in(&alice)?;
    let mut second = tour.logged_in(&bob)?;
    bound(tour, &mut terminal)?;
    refused(tour, &mut terminal)?;
    held(tour, &mut terminal, &mut second)?;
    files(tour, &mut terminal)?;
    forwards(tour, &mut terminal)?;
    watched(tour, &mut terminal, &mut second)?;
    nowhere(tour)
}

/// Without a login: ssh itself says where to confirm.
fn in_band(tour: &mut Tour) -> Result<()> {
    let alice = tour.world.people.alice.clone();
    let mut terminal = tour.terminal(&alice)?;
    tour.stage
        .say("once on this host: clients know Sluice by a certificate, as they would know the server's key");
    terminal.run(&tour.stage, "mkdir -p ~/.ssh && sluice ca --ssh > ~/.ssh/known_hosts")?;
    tour.stage.say("alice has no login yet and types what she always types:");
    let mark = tour.world.app.mark()?;
    terminal.type_line("ssh app.internal")?;
    let issuer = tour.world.provider.issuer.clone();
    let url = terminal.find("a URL to confirm at", |screen| device_url(screen, &issuer))?;
    let screen = terminal.show(&tour.stage);
    tour.claim_text(
        "ssh shows URL and code, warns of no host key and asks for no password",
        &screen,
        &["user_code="],
        &["assword", "authenticity", "WARNING"],
    );
    let logins = tour.world.app.logins_since(mark)?;
    tour.stage.claim("until she has confirmed nothing reaches the server", logins == 0, || {
        format!("{logins} logins")
    });
    tour.world.provider.confirm(&url, &alice)?;
    terminal.type_line("")?;
    terminal.see(PROMPT)?;
    terminal.show(&tour.stage);
    let where_at = remote(tour, &mut terminal, "hostname; id -un")?;
    tour.claim_text(
        "then she is on the server, as its account `deploy`",
        &where_at,
        &["app\n", "deploy"],
        &["alice"],
    );
    let shown = remote(tour, &mut terminal, "cat customers.txt")?;
    tour.claim_text(
        "a file with e-mails and card numbers is masked on her screen",
        &shown,
        &["Ada Albers", "***"],
        &[EMAIL, CARD],
    );
    let ended = terminal.run(&tour.stage, "exit 3")?;
    tour.stage.claim("`exit 3` ends it with status 3", ended.status == 3, || ended.text);
    Ok(())
}

/// Types a command at the server's prompt and gives what it printed.
fn remote(tour: &Tour, terminal: &mut Terminal, command: &str) -> Result<String> {
    terminal.type_line(command)?;
    terminal.find("the server's prompt", |screen| {
        // behind the command: the prompt of the line before may come as late as its echo
        let (_, behind) = screen.rsplit_once(command)?;
        behind.ends_with(PROMPT).then_some(())
    })?;
    Ok(terminal.show(&tour.stage))
}

fn bound(tour: &mut Tour, terminal: &mut Terminal) -> Result<()> {
    tour.stage.say("in another terminal she has logged in once:");
    let plain = terminal.run(&tour.stage, "ssh app.internal 'hostname; exit 5'")?;
    tour.stage.claim(
        "ssh asks nothing any more, and the status is the command's",
        plain.text.trim() == "app" && plain.status == 5,
        || format!("status {}: {}", plain.status, plain.text),
    );
    let masked = terminal.run(&tour.stage, "ssh app.internal cat customers.txt | tail -3")?;
    tour.claim_text(
        "what a command prints is masked as well",
        &masked.text,
        &["Lorenz", "***"],
        &["lorenz@example.com"],
    );
    let peer = terminal.run(
        &tour.stage,
        "ssh -v app.internal true 2>&1 | grep -E 'Connecting to|Server host certificate'",
    )?;
    tour.claim_text("the address that she sees is the server's", &peer.text, &[APP], &["127.0.0.1"]);
    Ok(())
}

fn refused(tour: &mut Tour, terminal: &mut Terminal) -> Result<()> {
    let mark = tour.world.app.mark()?;
    let said = terminal.run(&tour.stage, "ssh app.internal 'rm -rf /'")?;
    tour.stage.claim(
        "`rm -rf /` is refused, with the rule's message",
        said.status != 0 && said.text.contains("whole file system") && said.text.contains("rule"),
        || said.text,
    );
    let hidden = terminal.run(&tour.stage, "ssh app.internal 'echo $(true; rm -r -f //)'")?;
    tour.stage
        .claim("also in a substitution", hidden.status != 0 && hidden.text.contains("rule"), || hidden.text);
    let arrived = tour.world.app.commands_since(mark)?;
    tour.stage.claim("neither has reached the server", arrived.is_empty(), || format!("{arrived:?}"));
    Ok(())
}

fn held(tour: &mut Tour, terminal: &mut Terminal, bob: &mut Terminal) -> Result<()> {
    let mark = tour.world.app.mark()?;
    let silent = terminal.run(&tour.stage, "ssh app.internal getent passwd root")?;
    tour.claim_text(
        "what wants a reason is refused without one, and she reads how to give it",
        &silent.text,
        &["people-with-reason", "SLUICE_REASON"],
        &["/root"],
    );
    let said =
        "SLUICE_REASON='OPS-14, who is it' ssh -o SendEnv=SLUICE_REASON app.internal getent passwd root";
    let said = terminal.run(&tour.stage, said)?;
    tour.claim_text("with one it runs", &said.text, &["/root"], &["refused"]);
    terminal.type_line("ssh app.internal systemctl restart db")?;
    let id = terminal.find("the id that it waits under", |screen| after(screen, "sluice approve "))?;
    let screen = terminal.show(&tour.stage);
    tour.claim_text("`systemctl restart db` waits, and says for whom", &screen, &["dba"], &["done:"]);
    let listed = bob.run(&tour.stage, "sluice approvals")?;
    tour.claim_text("bob sees who wants what", &listed.text, &["alice", "systemctl restart db", &id], &[]);
    let early = tour.world.app.units_since(mark)?;
    tour.stage
        .claim("until now the service manager was told nothing", early.is_empty(), || format!("{early:?}"));
    let granted = bob.run(&tour.stage, &format!("sluice approve {id}"))?;
    tour.stage.claim("bob's approval is accepted", granted.status == 0, || granted.text);
    let done = terminal.prompt(&tour.stage)?;
    tour.stage
        .claim("the command runs", done.status == 0 && done.text.contains("done: restart db"), || done.text);
    let told = tour.world.app.units_since(mark)?;
    tour.stage.claim("exactly once", told == ["deploy: restart db"], || format!("{told:?}"));

    terminal.type_line("ssh app.internal systemctl restart db")?;
    terminal.find("another id", |screen| after(screen, "sluice approve "))?;
    terminal.interrupt()?;
    let withdrawn = terminal.prompt(&tour.stage)?;
    let told = tour.world.app.units_since(mark)?;
    tour.stage.claim(
        "asked for again it waits again, and Ctrl-C withdraws it",
        withdrawn.status != 0 && told.len() == 1,
        || format!("{}{told:?}", withdrawn.text),
    );
    Ok(())
}

fn files(tour: &mut Tour, terminal: &mut Terminal) -> Result<()> {
    let there_and_back = "head -c 200000 /dev/urandom > photo; scp -q photo app.internal: && \
                          scp -q app.internal:photo back && cmp photo back && echo identical";
    let copied = terminal.run(&tour.stage, there_and_back)?;
    tour.claim_text("scp carries a file there and back unharmed", &copied.text, &["identical"], &[]);
    let old = terminal.run(&tour.stage, &there_and_back.replace("-q", "-O -q"))?;
    tour.claim_text("also by the old protocol", &old.text, &["identical"], &[]);
    let listed = terminal
        .run(&tour.stage, "printf 'rename photo picture\\nls -l\\nrm picture\\n' | sftp -b - app.internal")?;
    tour.stage.claim(
        "sftp renames, lists and removes",
        listed.status == 0 && listed.text.contains(" picture"),
        || listed.text,
    );
    Ok(())
}

fn forwards(tour: &mut Tour, terminal: &mut Terminal) -> Result<()> {
    let said = terminal.run(&tour.stage, "ssh -W db.internal:5432 app.internal")?;
    tour.stage.claim(
        "a forward past the gate to the database is refused, and where to go instead is said",
        said.status != 0 && said.text.contains("protected by Sluice"),
        || said.text,
    );
    let said = terminal
        .run(&tour.stage, "ssh -o ExitOnForwardFailure=yes -R 127.0.0.1:0:localhost:22 app.internal true")?;
    tour.stage.claim("in the other direction, too", said.status != 0, || said.text);
    Ok(())
}

/// Bob looks over her shoulder, and afterwards at the recording.
fn watched(tour: &mut Tour, terminal: &mut Terminal, bob: &mut Terminal) -> Result<()> {
    terminal.type_line("ssh app.internal")?;
    terminal.see(PROMPT)?;
    terminal.show(&tour.stage);
    let id = newest(tour, bob)?;
    bob.type_line(&format!("sluice watch {id}"))?;
    bob.see(PROMPT)?;
    remote(tour, terminal, "echo watched-$((6*7)); tail -n 1 customers.txt")?;
    let seen = bob.see("watched-42\n").map(|_| ());
    let screen = bob.show(&tour.stage);
    tour.stage.claim("bob sees her terminal while she types", seen.is_ok(), || screen.clone());
    bob.interrupt()?;
    bob.prompt(&tour.stage)?;
    terminal.run(&tour.stage, "exit")?;
    let replay = bob.run(&tour.stage, &format!("sluice replay {id} --color never"))?;
    tour.claim_text(
        "`sluice replay` shows what was on it",
        &replay.text,
        &["watched-42", "Lorenz"],
        &["lorenz@example.com"],
    );

    tour.stage.say("bob does not like what he sees:");
    terminal.type_line("ssh app.internal")?;
    terminal.see(PROMPT)?;
    terminal.show(&tour.stage);
    let id = newest(tour, bob)?;
    let killed = bob.run(&tour.stage, &format!("sluice kill {id} --reason 'not today'"))?;
    tour.stage.claim("`sluice kill` is accepted", killed.status == 0, || killed.text);
    let ended = terminal.prompt(&tour.stage)?;
    tour.stage.claim(
        "and her session ends, with his reason",
        ended.status != 0 && ended.text.contains("not today"),
        || ended.text,
    );
    Ok(())
}

/// The id of the newest session, as bob finds it.
fn newest(tour: &Tour, bob: &mut Terminal) -> Result<String> {
    let ran = bob.run(&tour.stage, "sluice sessions --json --limit 1")?;
    let start = ran.text.find('{').context(format!("no JSON in {}", ran.text))?;
    let value: Value = serde_json::from_str(&ran.text[start..])?;
    let session = value.get("sessions").and_then(|list| list.get(0)).context("no session is listed")?;
    Ok(session.get("id").and_then(Value::as_str).context("a session has an id")?.to_owned())
}

/// Searches, as root, wherever the private key might have been left.
fn nowhere(tour: &mut Tour) -> Result<()> {
    let key = fs::read_to_string(&tour.world.app.key)?;
    // The line in the middle is of the private part.
    let lines: Vec<&str> = key.lines().collect();
    let part = lines.get(lines.len() / 2 + 1).context("a key has lines")?.as_bytes();
    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    for pid in processes(&tour.world.guarded()) {
        for file in ["environ", "cmdline"] {
            let path = format!("/proc/{pid}/{file}");
            // A process may end while we look.
            if let Ok(bytes) = fs::read(&path) {
                places.push((path, bytes));
            }
        }
    }
    let (state, log) = (tour.sluice()?.state.clone(), tour.sluice()?.log.clone());
    for directory in [&state, &log, &tour.world.people.alice.home, &PathBuf::from("/run/sluice")] {
        let files = tour.world.files_below(directory)?;
        places.extend(files.into_iter().map(|(path, bytes)| (path.display().to_string(), bytes)));
    }
    let searched = places.len();
    let found: Vec<&String> = places
        .iter()
        .filter(|(_, bytes)| bytes.windows(part.len()).any(|window| window == part))
        .map(|(place, _)| place)
        .collect();
    let claim = "the key of the server's account is in no environment, command line, log, recording or file of alice's";
    tour.stage.claim(claim, found.is_empty() && searched > 10, || {
        format!("searched {searched}, found in {found:?}")
    });
    Ok(())
}
