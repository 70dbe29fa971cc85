//! Sessions while they run: who may watch them, who may end them, and that nobody's word but the policy's counts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sluice_tests::Result;
use sluice_tests::command::until;
use sluice_tests::enclosure::in_room;
use sluice_tests::stage::Stage;
use sluice_tests::terminal::Terminal;
use sluice_tests::tour::device_url;
use sluice_tests::world::people::Person;
use sluice_tests::world::{HOME, World};

const KILL: &str = "@id(\"admins-end\") @reason(\"required\")\n\
                    permit(principal in Group::\"sluice-admins\", action == Action::\"kill\", resource);\n";

fn log_in(world: &World, stage: &Stage, who: &Person) -> Result<Terminal> {
    let mut terminal = Terminal::open(world, who)?;
    terminal.type_line("sluice login")?;
    let url = terminal.find("a URL to confirm at", |screen| device_url(screen, &world.provider.issuer))?;
    world.provider.confirm(&url, who)?;
    assert_eq!(terminal.prompt(stage)?.status, 0);
    Ok(terminal)
}

/// The live session of somebody to the shop, as alice, who may look at all of them, finds it.
fn session_of(alice: &mut Terminal, stage: &Stage, who: &str) -> Result<String> {
    let mut id = String::new();
    until("a live session", Duration::from_secs(10), || {
        let listed = alice.run(stage, &format!("sluice sessions --live --json --subject {who}"))?.text;
        let list: Value = serde_json::from_str(listed.get(listed.find('{').unwrap_or(0)..).unwrap_or(""))?;
        let found = list.pointer("/sessions/0/id").and_then(Value::as_str).unwrap_or_default();
        id = found.to_owned();
        Ok(!id.is_empty())
    })?;
    Ok(id)
}

#[test]
fn live_sessions_are_watched_and_ended() {
    in_room("live_sessions_are_watched_and_ended", |room| {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        world.guard(&stage)?;
        let (alice, bob) = (world.people.alice.clone(), world.people.bob.clone());
        let mut alice_shell = log_in(&world, &stage, &alice)?;
        let mut alice_watch = log_in(&world, &stage, &alice)?;
        let mut bob_shell = log_in(&world, &stage, &bob)?;
        let mut bob_psql = log_in(&world, &stage, &bob)?;
        let event = |activity: &str, part: &str| -> Result<bool> {
            let events = world.sluice.as_ref().expect("Sluice").events()?;
            let found = |e: &Value| {
                e["class"] == "session" && e["activity"] == activity && e.to_string().contains(part)
            };
            Ok(events.iter().any(found))
        };

        bob_psql.type_line("psql -h db.internal shop")?;
        bob_psql.psql_prompt(&stage)?;
        let id = session_of(&mut alice_shell, &stage, "bob")?;
        alice_watch.type_line(&format!("sluice watch {id} --color never"))?;
        alice_watch.see("/shop at")?;
        assert!(event("watched", &id)?, "that she looks is on record");
        bob_psql.statement(&stage, "select 40 + 2 as answer;")?;
        alice_watch.see("select 40 + 2 as answer")?;
        bob_psql.statement(&stage, "select email from customers where id = 1;")?;
        let seen = alice_watch.see("***")?;
        assert!(!seen.contains("@example"), "masked, as it was for him: {seen}");

        // who may not
        let said = alice_shell.run(&stage, &format!("sluice kill {id} --reason why"))?;
        assert!(said.status != 0 && said.text.contains("default-deny"), "{}", said.text);
        let said = alice_shell.run(&stage, &format!("sluice watch {id} --moderate"))?;
        assert!(said.status != 0 && said.text.contains("needs no moderator"), "{}", said.text);
        let said = bob_shell.run(&stage, "sluice kill 01890000-0000-7000-8000-000000000000")?;
        assert!(said.status != 0 && said.text.contains("is not open"), "{}", said.text);
        bob_psql.statement(&stage, "select 41 + 2 as answer;")?;

        let rules = Path::new(HOME).join("sluice/policy/kill.cedar");
        fs::write(&rules, KILL)?;
        until("the rule that lets her", Duration::from_secs(10), || {
            let said = alice_shell.run(&stage, &format!("sluice kill {id}"))?.text;
            Ok(said.contains("demands a reason"))
        })?;
        let said = alice_shell.run(&stage, &format!("sluice kill {id} --reason 'wrong host'"))?;
        assert_eq!(said.status, 0, "{}", said.text);
        alice_watch.see("the session has ended")?;
        assert!(event("killed", "wrong host")?);
        bob_psql.type_line("select 1;")?;
        bob_psql.see("ended this session")?;
        assert!(bob_psql.unread().contains("(wrong host)"), "{}", bob_psql.unread());

        // one's own, without any rule; somebody else's, neither to look at nor to end
        let mut alice_psql = log_in(&world, &stage, &alice)?;
        alice_psql.type_line("psql -h db.internal shop")?;
        alice_psql.psql_prompt(&stage)?;
        let id = session_of(&mut alice_shell, &stage, "alice")?;
        for command in ["watch", "kill"] {
            let said = bob_shell.run(&stage, &format!("sluice {command} {id}"))?;
            assert!(said.status != 0 && said.text.contains("default-deny"), "{command}: {}", said.text);
        }
        fs::remove_file(&rules)?;
        let said = alice_shell.run(&stage, &format!("sluice kill {id}"))?;
        assert_eq!(said.status, 0, "{}", said.text);

        // what can't be paused is not let in alone
        let rules = Path::new(HOME).join("sluice/policy/tour.cedar");
        let moderated = fs::read_to_string(&rules)?
            .replace("@id(\"analysts-connect\")", "@id(\"analysts-connect\") @moderator(\"dba\")");
        fs::write(&rules, moderated)?;
        until("the rule that wants a moderator", Duration::from_secs(10), || {
            Ok(alice_shell.run(&stage, "psql -h db.internal shop -c 'select 1'")?.text.contains("@moderator"))
        })?;
        let verified = world.sluice.as_ref().expect("Sluice").tool(&world.room, &["verify"])?;
        assert!(verified.ok(), "{}", verified.all());
        Ok(())
    });
}
