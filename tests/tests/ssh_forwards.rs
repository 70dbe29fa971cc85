//! Forwards to what Sluice protects itself: they end at that target's own service, under the person's own name.

use sluice_tests::enclosure::in_room;
use sluice_tests::gate::{Gate, both};

const FORWARDS: &str = "@id(\"analysts-forward\")\n\
    permit(principal in Group::\"analysts\", action == Action::\"forward\", resource in Target::\"app\");\n";
/// A forward that stands shows that the rule does.
const TRY: &str = "timeout 5 ssh -W localhost:22 $HOST < /dev/null | head -c 7 | grep -q SSH-2.0";

/// A script with a forward to the database as the socket that psql looks for.
fn through(end: &str, script: &str) -> String {
    format!(
        "rm -f .s.PGSQL.5432; ssh -fN -M -S $PWD/control -o ExitOnForwardFailure=yes \
         -L $PWD/.s.PGSQL.5432:{end} $HOST || exit 9\n\
         {script}\ns=$?; ssh -S $PWD/control -O exit $HOST 2> /dev/null; exit $s"
    )
}

#[test]
fn c6_h15_a_forward_to_a_protected_database_ends_at_its_own_service() {
    in_room("c6_h15_a_forward_to_a_protected_database_ends_at_its_own_service", |room| {
        let mut gate = Gate::open(room)?;
        let psql = "psql -h $PWD -d shop -AtX";
        let look = format!(
            "{psql} -c 'select email from customers order by id limit 1' -c 'select count(*) from orders'"
        );
        let said = gate.walk(&through("db.internal:5432", &look))?;
        assert!(said.status == 2 && said.text().is_empty(), "no rule yet: {}", said.shown());

        gate.rules("forwards.cedar", FORWARDS, TRY, true)?;
        let direct = gate
            .walk("psql -h db.internal -d shop -AtX -c 'select email from customers order by id limit 1'")?;
        let masked = direct.text();
        assert!(masked.contains('*'), "{}", direct.shown());
        for end in ["db.internal:5432", "DB.Internal.:5432", "10.77.0.2:5432", "[::ffff:10.77.0.2]:5432"] {
            let said = gate.walk(&through(end, &look))?;
            assert!(said.status == 0 && said.text().starts_with(&masked), "{end}: {}", said.shown());
        }
        // Judged as hers: nothing of the SSH target's.
        let said = gate.walk(&through("db.internal:5432", &format!("{psql} -c 'delete from customers'")))?;
        assert!(said.status != 0 && both(&said).contains("no-delete-without-where"), "{}", said.shown());
        // Ctrl-C takes the same way.
        let said = gate.walk(&through(
            "db.internal:5432",
            &format!("timeout -s INT 2 {psql} -c 'select pg_sleep(60)'; {psql} -c 'select 1'"),
        ))?;
        assert!(said.status == 0 && both(&said).contains("canceling statement"), "{}", said.shown());
        // On record as a session of its own, which says through which it came.
        let said = gate.walk(
            "id=$(sluice sessions | grep shop | grep -o '[0-9a-f]\\{8\\}-[0-9a-f-]*' | head -1); sluice replay --json $id | head -3",
        )?;
        assert!(said.text().contains("\"via\""), "{}", said.shown());

        // Its own gate has the last word.
        let no = "@id(\"not-now\")\nforbid(principal, action == Action::\"connect\", resource == Database::\"shop/shop\");\n";
        gate.rules("not-now.cedar", no, "psql -h db.internal -d shop -AtXc 'select 1'", false)?;
        let said = gate.walk(&through("db.internal:5432", &look))?;
        assert!(said.status != 0 && both(&said).contains("not-now"), "{}", said.shown());
        Ok(())
    });
}

#[test]
fn c6_a_jump_to_a_protected_target_is_a_session_there() {
    in_room("c6_a_jump_to_a_protected_target_is_a_session_there", |room| {
        let mut gate = Gate::open(room)?;
        let jump = |end: &str| {
            format!(
                "timeout 15 ssh -J $HOST -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null {end} \
                 'echo behind; rm -rf /'; timeout 15 ssh -J $HOST -o StrictHostKeyChecking=no \
                 -o UserKnownHostsFile=/dev/null {end} 'id -un'"
            )
        };
        let said = gate.walk(&jump("10.78.0.2"))?;
        assert!(said.status != 0, "no rule yet: {}", said.shown());
        gate.rules("forwards.cedar", FORWARDS, TRY, true)?;
        for end in ["10.78.0.2", "localhost", "127.0.0.1"] {
            let mark = gate.scene.world.app.mark()?;
            let said = gate.walk(&jump(end))?;
            // She has no key: by the target's own loopback she would not get in, by Sluice she does, and is judged.
            assert_eq!(said.text(), "deploy\n", "{end}: {}", said.shown());
            assert!(both(&said).contains("no-emptying-of-the-host"), "{end}: {}", said.shown());
            let ran = gate.scene.world.app.commands_since(mark)?;
            assert!(ran.iter().all(|line| !line.starts_with(b"echo behind")), "{ran:?}");
        }
        Ok(())
    });
}
