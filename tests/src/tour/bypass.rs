//! Chapter 5: there is no other road, not even over dead agents.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Tour;
use crate::Result;
use crate::command::{hear, until};
use crate::prober::Prober;
use crate::world::certificates;
use crate::world::network::SERVER;
use crate::world::postgres::Postgres;

/// Connects, asks for TLS, and says who answered, by whose certificate.
const DIRECT: &str = r#"
import hashlib, os, socket, ssl, struct, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family); s.settimeout(5); s.connect((sys.argv[1], 5432))
print("pid", os.getpid(), "peer", s.getpeername()[0])
s.sendall(struct.pack("!II", 8, 80877103)); print("answer", s.recv(1))
c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
print("certificate", hashlib.sha256(c.wrap_socket(s).getpeercert(binary_form=True)).hexdigest())
"#;

/// Tries to become the proxy while the proxy is dead.
const IMPOSTOR: &str = r#"
import socket
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try: s.bind((address, 15432)); print("bound", address)
    except OSError as e: print("refused", address, e.strerror)
"#;

pub(super) fn run(tour: &mut Tour) -> Result<()> {
    let fingerprint = Postgres::fingerprint(&certificates::paths())?;
    direct(tour, &fingerprint)?;
    deaths(tour, &fingerprint)?;
    let alice = tour.world.people.alice.clone();
    let mut terminal = tour.logged_in(&alice)?;
    let works = tour.psql(&mut terminal, &["select count(*) from customers"])?;
    tour.claim_text("afterwards everything works again", &works.text, &["20000"], &["ERROR"]);
    Ok(())
}

/// Root, by a script of his own.
fn direct(tour: &mut Tour, fingerprint: &str) -> Result<()> {
    tour.stage.say("root on the guarded host connects by a script of his own:");
    for address in [SERVER, "::ffff:10.77.0.2"] {
        let said = hear(tour.world.command_as_root("/usr/bin/python3").args(["-c", DIRECT, address]))?;
        tour.stage.screen("root", &said.all());
        let claim = format!("a direct connection to {address} as root lands at the proxy");
        tour.claim_text(&claim, &said.all(), &["peer", "certificate"], &[fingerprint]);
        let pid = said.out.split_whitespace().nth(1).unwrap_or("none").to_owned();
        let seen = until("the event", Duration::from_secs(5), || {
            Ok(tour.sluice()?.events()?.iter().any(|event| {
                let text = event.to_string();
                text.contains(&format!(":{pid},")) && text.contains("python3")
            }))
        });
        let last = tour.sluice()?.events()?;
        tour.stage.claim("an event shows which process tried", seen.is_ok(), || {
            let from = last.len().saturating_sub(5);
            last[from..].iter().map(|event| format!("{event}\n")).collect()
        });
    }
    Ok(())
}

fn deaths(tour: &mut Tour, fingerprint: &str) -> Result<()> {
    let outside = Prober::start(&tour.world.outside(), fingerprint)?.finish()?;
    tour.stage.claim(
        "(the prober knows the real server when it meets it)",
        outside.contains_key("server"),
        || format!("{outside:?}"),
    );
    let prober = Prober::start(&tour.world.guarded(), fingerprint)?;

    tour.stage.say("kill -9 of sluiced, while somebody knocks at the database without pause:");
    let old = tour.sluice()?.proxies();
    slay(&old);
    let back = until("another sluiced", Duration::from_secs(30), || {
        let sluice = tour.sluice()?;
        Ok(sluice.proxies().iter().any(|pid| !old.contains(pid)) && sluice.answers(&tour.world.room)?)
    });
    tour.stage.claim("the loader brings the proxy back", back.is_ok(), || format!("{back:?}"));

    tour.stage.say("kill -9 of the loader and of sluiced; nobody restarts them for two seconds:");
    let sluice = tour.sluice()?;
    sluice.hold_restarts(true);
    let mut all = sluice.proxies();
    all.extend(sluice.loader());
    slay(&all);
    until("they are dead", Duration::from_secs(5), || {
        Ok(tour.sluice()?.loader().is_none() && tour.sluice()?.proxies().is_empty())
    })?;
    let mark = tour.world.postgres.mark()?;
    let said = hear(tour.world.command_as_root("/usr/bin/python3").args(["-c", IMPOSTOR]))?;
    tour.stage.screen("root", &said.all());
    tour.claim_text(
        "nobody else takes the proxy's port meanwhile, not even root",
        &said.all(),
        &["refused"],
        &["bound"],
    );
    std::thread::sleep(Duration::from_secs(2));
    let arrived = tour.world.postgres.connections_since(mark)?;
    tour.stage.claim("while both are dead, the database sees no connection at all", arrived == 0, || {
        format!("{arrived} connections")
    });
    tour.sluice()?.hold_restarts(false);
    let back = tour.sluice()?.wait_guarding(&tour.world.room);
    tour.stage.claim("both come back", back.is_ok(), || format!("{back:?}"));

    let counts = prober.finish()?;
    let knocks: u64 = counts.values().sum();
    let through = counts.get("server").copied().unwrap_or_default();
    let claim = format!("of {knocks} knocks none reached the database");
    tour.stage.claim(&claim, through == 0 && counts.contains_key("proxy"), || format!("{counts:?}"));
    Ok(())
}

fn slay(pids: &[u32]) {
    for pid in pids {
        // It may be dead already.
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
}
