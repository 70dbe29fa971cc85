//! Chapter 4: what is dangerous or not understood is refused, as an ordinary PostgreSQL error.

use super::Tour;
use crate::Result;

/// Statements that must never reach the database, and a part by which the server's log would show them.
const REFUSED: [(&str, &str, &str); 9] = [
    ("drop table orders;", "drop table", "a table can't be dropped"),
    ("truncate payments;", "truncate", "nor emptied"),
    (
        "do $$ begin delete from orders; end $$;",
        "begin delete",
        "a DO block could do anything: it is unknown, and unknown is refused",
    ),
    (
        "select close_order(3);",
        "close_order",
        "a function that makes its SQL while it runs, and that nobody answers for, is unknown, too",
    ),
    (
        "select forget_orders();",
        "forget_orders",
        "a function is what its body does: a DELETE without a WHERE",
    ),
    ("selec * form orders;", "form orders", "so is what PostgreSQL's own grammar can't read"),
    (
        "with d as (delete from orders returning *) select count(*) from d;",
        "with d as",
        "a delete inside a WITH is a delete",
    ),
    ("explain analyze delete from orders;", "explain analyze", "EXPLAIN ANALYZE runs what it explains"),
    ("copy orders to program 'cat > /tmp/orders';", "to program", "COPY to a program is no export"),
];

/// Every row of the shop.
const COUNTS: &str =
    "select (select count(*) from orders), (select count(*) from payments), (select count(*) from customers)";

pub(super) fn run(tour: &mut Tour) -> Result<()> {
    let alice = tour.world.people.alice.clone();
    let mut terminal = tour.logged_in(&alice)?;
    let before = tour.world.postgres.psql("shop", COUNTS)?;
    let mark = tour.world.postgres.mark()?;
    terminal.type_line("psql -h db.internal -v VERBOSITY=verbose shop")?;
    terminal.psql_prompt(&tour.stage)?;
    let pid = terminal.statement(&tour.stage, "select order_total(3) as total;")?;
    tour.claim_text(
        "a function whose body only reads runs, whatever it is declared to be",
        &pid,
        &["total"],
        &["ERROR"],
    );
    for (sql, part, claim) in REFUSED {
        let answer = terminal.statement(&tour.stage, sql)?;
        let refusal = answer.contains("ERROR") && answer.contains("HINT");
        tour.stage.claim(&format!("{claim}: `{sql}`"), refusal, || answer.clone());
        let arrived = tour.world.postgres.statements_since(mark, part)?;
        if arrived > 0 {
            tour.stage
                .claim(&format!("`{sql}` does not reach the database"), false, || format!("{arrived} times"));
        }
    }
    let answer = terminal.statement(&tour.stage, "drop table payments;")?;
    tour.claim_text("a refusal is PostgreSQL's own kind of error, 42501", &answer, &["ERROR:  42501"], &[]);
    let transaction = terminal.statement(&tour.stage, "begin; select 1 as one;")?;
    tour.claim_text("the connection lives on", &transaction, &["one"], &["ERROR"]);
    let inside = terminal.statement(&tour.stage, "drop table customers;")?;
    tour.claim_text("in a transaction it is refused, too", &inside, &["ERROR"], &["DROP"]);
    let after = terminal.statement(&tour.stage, "rollback;")?;
    tour.claim_text("and what psql shows is the server's own state", &after, &["ROLLBACK"], &["FATAL"]);
    let after = tour.world.postgres.psql("shop", COUNTS)?;
    tour.stage.claim("every row is still there", after == before, || format!("{before}, then {after}"));
    Ok(())
}
