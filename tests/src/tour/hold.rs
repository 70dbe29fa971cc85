//! Chapter 3: a risky statement waits for somebody else.

use serde_json::Value;

use super::Tour;
use crate::terminal::Terminal;
use crate::{Context, Result};

const RISKY: &str = "delete from orders where id = 7;";

pub(super) fn run(tour: &mut Tour) -> Result<()> {
    let (alice, bob) = (tour.world.people.alice.clone(), tour.world.people.bob.clone());
    let mut alice_psql = tour.logged_in(&alice)?;
    let mut alice_shell = tour.logged_in(&alice)?;
    let mut bob_shell = tour.logged_in(&bob)?;
    let mark = tour.world.postgres.mark()?;

    alice_psql.type_line("psql -h db.internal shop")?;
    alice_psql.psql_prompt(&tour.stage)?;
    let refused = alice_psql.statement(&tour.stage, "delete from orders;")?;
    tour.claim_text(
        "`delete from orders` is refused, with a hint",
        &refused,
        &["ERROR", "HINT"],
        &["DELETE 5"],
    );

    let first = hold(tour, &mut alice_psql)?;
    let own = alice_shell.run(&tour.stage, &format!("sluice approve {first}"))?;
    tour.stage.claim(
        "her own approval is refused, although she is an administrator",
        own.status != 0,
        || own.text,
    );
    let as_dave = alice_shell.run(&tour.stage, &format!("sudo -u dave sluice approve {first}"))?;
    tour.stage.claim("also from another account of the host", as_dave.status != 0, || as_dave.text);
    let arrived = tour.world.postgres.statements_since(mark, "delete")?;
    tour.stage.claim("until now nothing has reached the database", arrived == 0, || {
        format!("{arrived} statements")
    });

    let listed = bob_shell.run(&tour.stage, "sluice approvals")?;
    tour.claim_text(
        "bob sees who wants what",
        &listed.text,
        &["alice", "delete from orders where id = 7", &first],
        &[],
    );
    tour.claim_text(
        "and what it would do: how many rows, and the server's plan",
        &listed.text,
        &["touches 1 row now", "Delete on orders"],
        &[],
    );
    let granted = bob_shell.run(&tour.stage, &format!("sluice approve {first}"))?;
    tour.stage.claim("bob's approval is accepted", granted.status == 0, || granted.text);
    let done = alice_psql.psql_prompt(&tour.stage)?;
    tour.claim_text("the statement runs", &done, &["DELETE 1"], &["ERROR"]);

    let second = hold(tour, &mut alice_psql)?;
    tour.stage
        .claim("typed again, it is held again: an approval serves once", first != second, || first.clone());
    alice_psql.interrupt()?;
    let withdrawn = alice_psql.psql_prompt(&tour.stage)?;
    tour.claim_text("Ctrl-C withdraws it", &withdrawn, &["ERROR"], &["DELETE"]);
    let left = waiting(&mut bob_shell, tour)?;
    tour.stage.claim("nothing waits any more", left.is_empty(), || format!("{left:?}"));
    let late = bob_shell.run(&tour.stage, &format!("sluice approve {second}"))?;
    tour.stage.claim("a withdrawn request can't be approved", late.status != 0, || late.text);

    let third = hold(tour, &mut alice_psql)?;
    bob_shell.run(&tour.stage, &format!("sluice deny {third} --reason 'ask me tomorrow'"))?;
    let denied = alice_psql.psql_prompt(&tour.stage)?;
    tour.claim_text(
        "a denial comes as an error with bob's reason",
        &denied,
        &["ERROR", "ask me tomorrow"],
        &["DELETE"],
    );
    for_a_time(tour, &mut alice_psql, &mut alice_shell, &mut bob_shell)?;
    reasons(tour, &mut alice_psql, &mut alice_shell)?;
    let alive = alice_psql.statement(&tour.stage, "select 40 + 2 as answer;")?;
    tour.claim_text("her connection has lived through all of it", &alive, &["42"], &["ERROR"]);
    let arrived = tour.world.postgres.statements_since(mark, "delete from orders where id = 7")?;
    tour.stage.claim("the database's own log has the statement exactly once", arrived == 1, || {
        format!("{arrived} times")
    });
    Ok(())
}

/// An approval that holds for some time: for this table, of this person, until it ends.
fn for_a_time(tour: &mut Tour, psql: &mut Terminal, own: &mut Terminal, bob: &mut Terminal) -> Result<()> {
    const OTHER: &str = "delete from orders where id = -1;";
    psql.statement(&tour.stage, "set sluice.reason = 'OPS-12, ordered twice';")?;
    psql.type_line(OTHER)?;
    let id = psql.find("the id that it waits under", |screen| after(screen, "sluice approve "))?;
    let listed = bob.run(&tour.stage, "sluice approvals")?;
    tour.claim_text("bob reads the reason that she gave", &listed.text, &["OPS-12, ordered twice"], &[]);
    let own_try = own.run(&tour.stage, &format!("sluice approve {id} --for 30m"))?;
    tour.stage.claim("nobody grants himself half an hour", own_try.status != 0, || own_try.text);
    let granted = bob.run(&tour.stage, &format!("sluice approve {id} --for 30m"))?;
    tour.claim_text("bob grants deletes of orders for half an hour", &granted.text, &["1800 s"], &[]);
    psql.psql_prompt(&tour.stage)?;
    let again = psql.statement(&tour.stage, OTHER)?;
    tour.claim_text("the next one runs at once", &again, &["DELETE 0"], &["ERROR", "NOTICE"]);
    let all = psql.statement(&tour.stage, "delete from orders;")?;
    tour.claim_text("what a rule forbids stays forbidden", &all, &["ERROR"], &["DELETE 5"]);
    let listed = own.run(&tour.stage, "sluice grants")?;
    tour.claim_text("`sluice grants` shows it", &listed.text, &[&id, "delete on table public.orders"], &[]);
    let ended = own.run(&tour.stage, &format!("sluice revoke {id}"))?;
    tour.stage.claim("and it can be given back", ended.status == 0, || ended.text);
    psql.type_line(OTHER)?;
    psql.find("the id that it waits under", |screen| {
        let next = after(screen, "sluice approve ")?;
        (next != id).then_some(next)
    })?;
    psql.interrupt()?;
    let withdrawn = psql.psql_prompt(&tour.stage)?;
    tour.claim_text("then the next one waits again", &withdrawn, &["ERROR"], &["DELETE"]);
    psql.statement(&tour.stage, "reset sluice.reason;")?;
    Ok(())
}

/// What is permitted to whoever says why.
fn reasons(tour: &mut Tour, psql: &mut Terminal, shell: &mut Terminal) -> Result<()> {
    const CHANGE: &str = "update payments set method = method where id = -1";
    let refused = psql.statement(&tour.stage, &format!("{CHANGE};"))?;
    tour.claim_text(
        "an update of payments without a reason is refused, and she reads how to give one",
        &refused,
        &["payments-with-reason", "-- reason:", "sluice.reason"],
        &["UPDATE 0"],
    );
    let done = psql.statement(&tour.stage, &format!("{CHANGE} /* reason: OPS-13, wrong method */;"))?;
    tour.claim_text("with a reason in a comment it runs", &done, &["UPDATE 0"], &["ERROR"]);
    let alarms = shell.run(&tour.stage, "sluice events --class alarm --since 10m")?;
    tour.claim_text(
        "whom the rule names finds it in the events, with the reason",
        &alarms.text,
        &["security", "OPS-13, wrong method"],
        &[],
    );
    Ok(())
}

/// Types the risky statement and gives the id that it waits under.
fn hold(tour: &mut Tour, terminal: &mut Terminal) -> Result<String> {
    terminal.type_line(RISKY)?;
    let id = terminal.find("the id that it waits under", |screen| after(screen, "sluice approve "))?;
    let screen = terminal.show(&tour.stage);
    tour.claim_text("alice sees that it waits, why, and where", &screen, &["NOTICE", "dba"], &["DELETE"]);
    Ok(id)
}

/// The word behind `marker`, once more stands behind it.
pub(super) fn after(text: &str, marker: &str) -> Option<String> {
    let (_, rest) = text.rsplit_once(marker)?;
    let word: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    (!word.is_empty() && rest.len() > word.len()).then_some(word)
}

fn waiting(terminal: &mut Terminal, tour: &Tour) -> Result<Vec<Value>> {
    let ran = terminal.run(&tour.stage, "sluice approvals --json")?;
    let start = ran.text.find(['{', '[']).unwrap_or(ran.text.len());
    let value: Value = serde_json::from_str(&ran.text[start..]).context(&ran.text)?;
    let list = value.get("approvals").unwrap_or(&value).as_array().cloned().unwrap_or_default();
    Ok(list
        .into_iter()
        .filter(|approval| approval.get("state").is_none_or(|state| state == "waiting"))
        .collect())
}
