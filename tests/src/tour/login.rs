//! Chapter 1: plain `psql`, and the person is known.

use super::{Tour, device_url};
use crate::Result;
use crate::world::network::SERVER;

pub(super) fn run(tour: &mut Tour) -> Result<()> {
    in_band(tour)?;
    bound(tour)
}

/// Without a login: psql itself says where to confirm.
fn in_band(tour: &mut Tour) -> Result<()> {
    let alice = tour.world.people.alice.clone();
    tour.stage.say("alice has no login yet and types what she always types:");
    let mut terminal = tour.terminal(&alice)?;
    terminal.type_line("psql -h db.internal shop")?;
    let issuer = tour.world.provider.issuer.clone();
    let url = terminal.find("a URL to confirm at", |screen| device_url(screen, &issuer))?;
    let screen = terminal.unread();
    tour.claim_text(
        "psql shows a NOTICE with URL and code before its prompt",
        &screen,
        &["NOTICE"],
        &["Password", "shop=> "],
    );
    terminal.show(&tour.stage);
    tour.stage.say("she opens the URL, signs in at the company's provider, and allows it");
    tour.world.provider.confirm(&url, &alice)?;
    terminal.psql_prompt(&tour.stage)?;
    let count = terminal.statement(&tour.stage, "select count(*) from orders;")?;
    tour.claim_text("the prompt comes once she has confirmed, and she works", &count, &["50000"], &["ERROR"]);
    let info = terminal.statement(&tour.stage, "\\conninfo")?;
    tour.claim_text(
        "\\conninfo shows the real address",
        &info,
        &["db.internal", SERVER, "5432"],
        &["127.0.0.1"],
    );
    terminal.run(&tour.stage, "\\q")?;
    Ok(())
}

/// After `sluice login` nothing is asked any more.
fn bound(tour: &mut Tour) -> Result<()> {
    let alice = tour.world.people.alice.clone();
    tour.stage.say("in another terminal she logs in once:");
    let mut terminal = tour.logged_in(&alice)?;
    let who = terminal.run(&tour.stage, "sluice whoami")?;
    tour.claim_text(
        "`sluice whoami` names her, her subject and her groups",
        &who.text,
        &["alice", alice.subject, "analysts"],
        &[],
    );
    let plain = terminal.run(&tour.stage, "psql -h db.internal shop -c 'select count(*) from orders'")?;
    tour.claim_text(
        "psql asks nothing any more in this terminal",
        &plain.text,
        &["50000"],
        &["NOTICE", "Password"],
    );
    let sudo = terminal
        .run(&tour.stage, "sudo -u dave psql -h db.internal shop -c 'select count(*) from payments'")?;
    tour.claim_text(
        "nor under sudo as another user from it",
        &sudo.text,
        &["40000"],
        &["NOTICE", "Password"],
    );
    let peer = terminal.run(
        &tour.stage,
        "python3 -c \"import socket; print(socket.create_connection(('db.internal', 5432)).getpeername())\"",
    )?;
    tour.claim_text(
        "getpeername shows the real address to any program",
        &peer.text,
        &[SERVER, "5432"],
        &["127.0.0.1"],
    );
    verified(tour, &mut terminal)?;

    terminal.run(&tour.stage, "sluice logout")?;
    terminal.type_line("psql -h db.internal shop")?;
    let asked = terminal.see("user_code=");
    let seen = terminal.show(&tour.stage);
    tour.stage.claim("after `sluice logout` psql asks again", asked.is_ok(), || seen);
    terminal.interrupt()?;
    let ended = terminal.prompt(&tour.stage)?;
    tour.stage.claim("Ctrl-C ends the waiting", ended.status != 0, || ended.text);
    Ok(())
}

/// A client that verifies what it talks to (`sslmode=verify-full`).
fn verified(tour: &mut Tour, terminal: &mut crate::terminal::Terminal) -> Result<()> {
    let file = "sluice-ca.pem";
    terminal.run(&tour.stage, &format!("sluice ca > {file}"))?;
    let command =
        format!("psql 'host=db.internal dbname=shop sslmode=verify-full sslrootcert={file}' -c '\\conninfo'");
    let verified = terminal.run(&tour.stage, &command)?;
    tour.claim_text(
        "sslmode=verify-full holds with the CA of this host",
        &verified.text,
        &["SSL connection"],
        &["error"],
    );
    Ok(())
}
