//! Chapter 2: what is sensitive comes back masked, whichever way it is asked for.

use super::{Tour, quoted};
use crate::Result;
use crate::terminal::Terminal;

/// Statements whose rows must show nothing, and why each is here.
const MASKED: [(&str, &str); 8] = [
    ("select * from customers limit 5", "e-mail, phone, card and national id are masked, names are not"),
    ("select lower(email) as mail from customers limit 5", "so is what is derived from them"),
    ("select c from customers c limit 5", "and the row as a whole"),
    ("select to_jsonb(c) from customers c limit 5", "and the row as JSON"),
    ("select email || '/' || card_number as both from customers limit 5", "and what is put together"),
    ("select id, email from open_orders limit 5", "and what comes through a view"),
    ("select x.m from (select email as m from customers limit 5) x", "and what hides behind an alias"),
    (
        "copy (select id, email, card_number, national_id from customers limit 5) to stdout",
        "COPY shows no more than a plain select",
    ),
];

pub(super) fn run(tour: &mut Tour) -> Result<()> {
    let alice = tour.world.people.alice.clone();
    let secrets = secrets(tour)?;
    let mut terminal = tour.logged_in(&alice)?;
    for (sql, claim) in MASKED {
        let shown = tour.psql(&mut terminal, &[sql])?;
        none_of(tour, claim, &shown.text, &secrets, shown.status == 0);
    }
    let shown = tour.psql(&mut terminal, &["select name, city from customers limit 3"])?;
    let name = tour.world.postgres.psql("shop", "select name from customers limit 1")?;
    tour.claim_text("what is not sensitive is in clear", &shown.text, &[&name], &[]);

    let shown = tour.psql(&mut terminal, &["select id, method from payments order by id limit 3"])?;
    let methods = tour.world.postgres.psql("shop", "select distinct method from payments")?;
    let methods: Vec<String> = methods.lines().map(str::to_owned).collect();
    none_of(tour, "a column that its comment classes is masked", &shown.text, &methods, shown.status == 0);

    let cursor = [
        "begin",
        "declare c binary cursor for select email, card_number from customers limit 5",
        "fetch all from c",
        "commit",
    ];
    let shown = tour.psql(&mut terminal, &cursor)?;
    let answered = shown.text.contains("5 rows");
    none_of(tour, "a binary cursor shows no more than a plain select", &shown.text, &secrets, answered);
    leaks(tour, &mut terminal, &secrets)?;
    probes(tour, &mut terminal)
}

/// Messages that would quote a value.
fn leaks(tour: &mut Tour, terminal: &mut Terminal, secrets: &[String]) -> Result<()> {
    let error = tour.psql(terminal, &["select email::integer from customers limit 1"])?;
    let told = error.text.contains("ERROR");
    none_of(tour, "an error that would quote an e-mail does not", &error.text, secrets, told);
    let notice = tour.psql(terminal, &["select check_customer(2)"])?;
    let told = notice.text.contains("NOTICE");
    none_of(tour, "a notice that would quote one does not", &notice.text, secrets, told);
    let detail = tour.psql(terminal, &["select check_customer(1)"])?;
    let told = detail.text.contains("ERROR");
    none_of(tour, "nor the error and the detail of a function", &detail.text, secrets, told);
    Ok(())
}

/// Asking about a value instead of for it.
fn probes(tour: &mut Tour, terminal: &mut Terminal) -> Result<()> {
    let mark = tour.world.postgres.mark()?;
    for sql in [
        "select id from customers where email like 'a%'",
        "select count(*) from customers group by card_number",
        "select id from customers order by national_id limit 5",
    ] {
        let refused = tour.psql(terminal, &[sql])?;
        let claim = format!("`{sql}` is refused, with the rule and what to do");
        tour.claim_text(&claim, &refused.text, &["ERROR", "rule", "HINT"], &[" row"]);
    }
    let arrived = tour.world.postgres.statements_since(mark, "from customers")?;
    tour.stage.claim("none of them reached the database", arrived == 0, || format!("{arrived} did"));
    Ok(())
}

/// The values that nobody may see, of the first customers, as the database has them.
fn secrets(tour: &Tour) -> Result<Vec<String>> {
    let sql = "select email, lower(email), phone, card_number, national_id from customers where id <= 400";
    let rows = tour.world.postgres.psql("shop", sql)?;
    Ok(rows.lines().flat_map(|row| row.split('|')).map(str::to_owned).collect())
}

fn none_of(tour: &mut Tour, claim: &str, text: &str, secrets: &[String], answered: bool) {
    let leaked: Vec<&String> = secrets.iter().filter(|secret| text.contains(secret.as_str())).collect();
    tour.stage.claim(claim, leaked.is_empty() && answered, || {
        format!("shown in clear: {leaked:?}; answered as expected: {answered}; on the screen:\n{text}")
    });
}

impl Tour {
    /// `psql -c … -c …` in a terminal: each statement by itself, on one connection.
    pub(super) fn psql(
        &mut self,
        terminal: &mut Terminal,
        statements: &[&str],
    ) -> Result<crate::terminal::Ran> {
        let statements: Vec<String> = statements.iter().map(|sql| format!(" -c {}", quoted(sql))).collect();
        terminal.run(&self.stage, &format!("psql -h db.internal shop{}", statements.concat()))
    }
}
