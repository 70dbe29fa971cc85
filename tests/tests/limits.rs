//! `@limit` with a real server: rows by every road, time, sessions.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use sluice_tests::command::until;
use sluice_tests::enclosure::in_room;
use sluice_tests::scene::Scene;
use sluice_tests::world::HOME;

const LIMITED: &str = r#"
@id("two-sessions") @limit("sessions=2")
permit(principal in Group::"analysts", action == Action::"connect", resource in Target::"shop");
@id("settings")
permit(principal in Group::"analysts", action == Action::"session", resource in Target::"shop");
@id("a-little") @limit("rows=3, time=2s")
permit(principal in Group::"analysts", action == Action::"select", resource in Target::"shop");
"#;

#[test]
fn limits_hold_by_every_road() {
    in_room("limits_hold_by_every_road", |room| {
        let mut scene = Scene::open(room)?;
        let directory = Path::new(HOME).join("sluice/policy");
        fs::write(directory.join("tour.cedar"), LIMITED)?;
        let rows = "select id from customers order by id";
        until("the limited policy", Duration::from_secs(10), || {
            let said = scene.alice.run(&scene.stage, &format!("psql -h db.internal shop -Atc '{rows}'"))?;
            Ok(said.text.contains("a-little"))
        })?;
        for (road, asked) in [
            ("a SELECT", format!("{rows};")),
            ("a COPY", format!("copy ({rows}) to stdout;")),
            (
                "FETCH after FETCH",
                format!("begin; declare c cursor for {rows};\nfetch 2 from c;\nfetch 2 from c;"),
            ),
            ("psql's FETCH_COUNT", format!("\\set FETCH_COUNT 2\n{rows};")),
        ] {
            let file = scene.script("asked.sql", &asked)?;
            let said = scene.alice.run(&scene.stage, &format!("psql -h db.internal shop -At -f {file}"))?;
            let ids = said.text.lines().filter(|line| line.trim().parse::<u64>().is_ok()).count();
            assert!(ids <= 3 && said.text.contains("a-little"), "{road}: {ids} rows\n{}", said.text);
            assert!(said.text.contains("3 rows"), "{road}: {}", said.text);
        }
        let started = Instant::now();
        let slow = "select count(*) from generate_series(1, 100000000000);\nselect 40 + 2;";
        let file = scene.script("slow.sql", slow)?;
        let said = scene.alice.run(&scene.stage, &format!("psql -h db.internal shop -At -f {file}"))?;
        assert!(said.text.contains("2 s") && said.text.contains("a-little"), "{}", said.text);
        assert!(said.text.contains("42"), "the session goes on: {}", said.text);
        assert!(started.elapsed() < Duration::from_secs(20));
        let busy = "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() \
                    and query like '%generate_series%'";
        until("the target has stopped it", Duration::from_secs(5), || {
            Ok(scene.world.postgres.psql("shop", busy)?.trim() == "0")
        })?;

        let mut others = Vec::new();
        for _ in 0..2 {
            let mut terminal = scene.logged_in(&scene.world.people.alice)?;
            terminal.type_line("psql -h db.internal shop")?;
            terminal.psql_prompt(&scene.stage)?;
            others.push(terminal);
        }
        let third = scene.alice.run(&scene.stage, "psql -h db.internal shop -c 'select 1'")?;
        assert!(third.status != 0 && third.text.contains("2 sessions"), "{}", third.text);
        Ok(())
    });
}
