//! What monitoring gets: a real scrape, after people have done what is counted.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use sluice_tests::enclosure::in_room;
use sluice_tests::scene::Scene;
use sluice_tests::{Context, Result};

const SOCKET: &str = "/run/sluice/metrics.sock";

fn ask(request: &str) -> Result<String> {
    let mut stream = UnixStream::connect(SOCKET)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Each sample by its name with labels, and the whole text. Whatever is neither comment nor sample fails.
fn scrape() -> Result<(BTreeMap<String, f64>, String)> {
    let answer = ask("GET /metrics HTTP/1.1\r\nHost: bastion\r\n\r\n")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("version=0.0.4"), "{head}");
    let mut samples = BTreeMap::new();
    for line in body.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').context(format!("no sample: {line}"))?;
        let value: f64 = value.parse().map_err(|e| sluice_tests::Failure::new(format!("{line}: {e}")))?;
        assert!(samples.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    Ok((samples, body.to_owned()))
}

#[test]
fn what_happens_is_counted_and_names_nobody() {
    in_room("what_happens_is_counted_and_names_nobody", |room| {
        let mut scene = Scene::open(room)?;
        let (before, _) = scrape()?;
        let of = |samples: &BTreeMap<String, f64>, name: &str| samples.get(name).copied().unwrap_or(0.0);
        for statement in ["select email from customers limit 5", "drop table orders", "delete from orders"] {
            scene.says(&format!("psql -h db.internal shop -Atc '{statement}'"))?;
        }
        let (after, text) = scrape()?;
        for (name, least) in [
            ("sluice_verdicts_total{verdict=\"permit\"}", 1.0),
            ("sluice_verdicts_total{verdict=\"refuse\"}", 2.0),
            ("sluice_events_total{class=\"session\",activity=\"opened\"}", 3.0),
            ("sluice_events_total{class=\"bypass\",activity=\"redirected\"}", 3.0),
            ("sluice_masked_total{by=\"class\"}", 5.0),
            ("sluice_recorded_bytes_total", 500.0),
            ("sluice_recording_sync_seconds_count", 1.0),
        ] {
            let more = of(&after, name) - of(&before, name);
            assert!(more >= least, "{name} grew by {more}:\n{text}");
        }
        for (name, value) in [
            ("sluice_layer_enforced{layer=\"connect\"}", 1.0),
            ("sluice_loader_answers", 1.0),
            ("sluice_logins", 1.0),
            ("sluice_recorder_failed", 0.0),
            ("sluice_upstream_failures_total", 0.0),
        ] {
            assert!((of(&after, name) - value).abs() < f64::EPSILON, "{name} is not {value}:\n{text}");
            assert!(after.contains_key(name), "{name} is missing:\n{text}");
        }
        let alice = scene.world.people.alice.clone();
        for secret in [alice.name, alice.subject, "10.", "psql", "customers", "shop"] {
            assert!(!text.contains(secret), "`{secret}` is in what anybody may read:\n{text}");
        }
        assert!(ask("GET / HTTP/1.1\r\n\r\n")?.starts_with("HTTP/1.1 404 "));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n")?.starts_with("HTTP/1.1 405 "));
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
        assert!(ask(&long).map_or(true, |said| said.starts_with("HTTP/1.1 400 ")), "a line without end");
        Ok(())
    });
}
