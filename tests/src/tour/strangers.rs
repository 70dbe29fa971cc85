//! Chapter 6: who is nobody here, and whose token is no token, gets nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::Tour;
use crate::Result;
use crate::terminal::Terminal;
use crate::world::certificates;
use crate::world::people::Person;
use crate::world::provider::{FOREIGN, Provider};

pub(super) fn run(tour: &mut Tour) -> Result<()> {
    carol(tour)?;
    tokens(tour)
}

fn carol(tour: &mut Tour) -> Result<()> {
    let carol = tour.world.people.carol.clone();
    tour.stage.say("carol has an account at the company and is in no group:");
    let mut terminal = tour.logged_in(&carol)?;
    let mark = tour.world.postgres.mark()?;
    let refused = tour.psql(&mut terminal, &["select 'carol was here'"])?;
    tour.stage.claim(
        "she is told so, and by which rule",
        refused.status != 0 && refused.text.contains("rule"),
        || refused.text.clone(),
    );
    let arrived = tour.world.postgres.statements_since(mark, "carol was here")?;
    tour.stage
        .claim("nothing of hers reaches the database", arrived == 0, || format!("{arrived} statements"));
    Ok(())
}

/// Tokens as the password, as programs use them, and by `sluice login`.
fn tokens(tour: &mut Tour) -> Result<()> {
    let alice = tour.world.people.alice.clone();
    let issuer = tour.world.provider.issuer.clone();
    let mut foreign = Provider::start(&tour.world.room, &certificates::paths(), &tour.world.people, FOREIGN)?;
    foreign.wait_ready()?;
    let mine = &tour.world.provider;
    let cases = [
        (
            "good",
            "(a good token of hers opens the database, so the next ones mean something)",
            mine.mint(&alice, &issuer, "good")?,
        ),
        ("expired", "an expired token opens nothing", mine.mint(&alice, &issuer, "expired")?),
        ("foreign", "nor does one of a foreign provider", foreign.mint(&alice, &foreign.issuer, "good")?),
        (
            "forged",
            "nor one signed by a foreign key in our provider's name",
            foreign.mint(&alice, &issuer, "good")?,
        ),
        ("none", "nor one with `alg: none`", mine.mint(&alice, &issuer, "none")?),
        ("hs256", "nor one signed by HS256 with the public key", mine.mint(&alice, &issuer, "hs256")?),
    ];
    let mut terminal = tour.terminal(&alice)?;
    for (name, claim, token) in cases {
        let good = name == "good";
        let file = hand_over(&alice, name, &token)?;
        let login = terminal.run(&tour.stage, &format!("sluice login --token-file {file}"))?;
        let held = (login.status == 0) == good;
        tour.stage.claim(&format!("{claim}: sluice login"), held, || login.text);
        if good {
            terminal.run(&tour.stage, "sluice logout")?;
        }
        let answer = as_password(tour, &mut terminal, &file)?;
        let held = answer.contains("20000") == good;
        tour.stage.claim(&format!("{claim}: as password"), held, || answer);
    }
    foreign.stop()
}

/// Without a login the token is the password. What opens nothing may also lead to the device flow: that is not opening.
fn as_password(tour: &Tour, terminal: &mut Terminal, file: &str) -> Result<String> {
    let command = format!(
        "PGPASSWORD=\"$(cat {file})\" timeout 10 psql -h db.internal -U oidc-token shop -c 'select count(*) from customers'"
    );
    Ok(terminal.run(&tour.stage, &command)?.text)
}

/// A file in the person's home that only she can read.
fn hand_over(person: &Person, name: &str, token: &str) -> Result<String> {
    let file = person.home.join(format!("{name}.jwt"));
    fs::write(&file, token)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let file = file.to_string_lossy().into_owned();
    crate::world::own(std::path::Path::new(&file), person.name)?;
    Ok(file)
}
