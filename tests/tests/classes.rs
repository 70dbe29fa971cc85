//! `sluice classify` at a real database: what it proposes, what it counts, and who may ask.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sluice_tests::Context as _;
use sluice_tests::command::until;
use sluice_tests::enclosure::in_room;
use sluice_tests::scene::Scene;
use sluice_tests::world::HOME;

const MAY: &str = r#"
@id("may-classify")
permit(principal in Group::"analysts", action == Action::"classify", resource in Target::"shop");
"#;

const TABLES: &str = "set role app;
create table leads (id bigint, contact text, note text, birth_date date, iban text, code text);
insert into leads select i, 'lead' || i || '@example.com', case when i % 4 = 0 then 'call +4930901820' || (100 + i % 900) else 'nothing' end,
    date '1970-01-01' + i, 'DE89370400440532013000', 'A-' || i from generate_series(1, 400) i;
create table closed (secret_email text);
insert into closed values ('x@example.com');
reset role;
alter table closed owner to postgres;";

#[test]
fn classes_are_proposed_and_values_stay() {
    in_room("classes_are_proposed_and_values_stay", |room| {
        let mut scene = Scene::open(room)?;
        scene.world.postgres.psql("shop", TABLES)?;
        let classify = "sluice classify shop --schema public --rows 300";
        let said = scene.alice.run(&scene.stage, classify)?;
        assert!(said.status == 1 && said.text.contains("classify"), "without the right: {}", said.text);

        fs::write(Path::new(HOME).join("sluice/policy/classify.cedar"), MAY)?;
        until("the right to classify", Duration::from_secs(10), || {
            Ok(scene.alice.run(&scene.stage, classify)?.status == 0)
        })?;
        let said = scene.alice.run(&scene.stage, classify)?;
        for line in [
            "\"public.leads.contact\" = \"pii.email\"  # text: email in 300 of 300",
            "\"public.leads.birth_date\" = \"pii.birth\"  # date: birth in 300 of 300",
            "\"public.leads.iban\" = \"pii.iban\"",
            "\"public.leads.note\" = \"pii.phone\"",
            "# public.closed: the account of the target may not read it (SQLSTATE 42501)",
        ] {
            assert!(said.text.contains(line), "{line}\n{}", said.text);
        }
        for none in ["leads.id", "leads.code", "customers.email\"", "@example.com", "DE8937"] {
            assert!(!said.text.contains(none), "{none}\n{}", said.text);
        }

        // the proposal is a configuration that can be read
        let config = Path::new(HOME).join("sluice/sluice.toml");
        let before = fs::read_to_string(&config)?;
        let lines: Vec<&str> = said.text.lines().filter(|line| line.starts_with("\"public.leads.")).collect();
        fs::write(
            &config,
            before.replacen("[target.classes]\n", &format!("[target.classes]\n{}\n", lines.join("\n")), 1),
        )?;
        until("the column is masked", Duration::from_secs(10), || {
            let said = scene
                .alice
                .run(&scene.stage, "psql -h db.internal shop -Atc 'select iban from leads limit 1'")?;
            // a detector's stars would be as many as the value has characters
            Ok(said.text.lines().any(|line| line.trim() == "***"))
        })?;

        // it is a session under her name, with every statement in it
        let said = scene.alice.run(&scene.stage, "sluice sessions --json")?;
        let text = said.text.get(said.text.find('{').unwrap_or(0)..).unwrap_or_default();
        let sessions: serde_json::Value =
            serde_json::Deserializer::from_str(text).into_iter().next().context("no answer")??;
        let ids = sessions["sessions"].as_array().context("no sessions")?.iter();
        let mut shown = String::new();
        for id in ids.filter_map(|session| session["id"].as_str()) {
            shown.push_str(&scene.alice.run(&scene.stage, &format!("sluice replay {id} --text"))?.text);
        }
        assert!(shown.contains("FROM \"public\".\"leads\" LIMIT 300"), "{shown}");
        Ok(())
    });
}
