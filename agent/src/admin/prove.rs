//! `sluice prove`: what is enforced on this host and since when not, signed by the key that signs the recordings.
//!
//! Must hold: every word is from a probe, a digest or the record of events at this moment; what was open is in it as well as what held.

use std::io;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use sluice_api::admin::{self, response::Response};
use sluice_api::handover;

use super::answers::{Answer, sees_all};
use super::{Caller, error};
use crate::app::House;
use crate::gate::now_us;

/// What the text says it is; raised by every change of its meaning.
const KIND: &str = "sluice coverage report 1";
/// Incidents that are listed; all are counted.
const MOST: usize = 1000;

/// The signed report; for root, and for whoever policy lets see events.
pub(super) async fn prove(house: &Arc<House>, caller: &Caller, asked: &admin::Prove) -> io::Result<Answer> {
    if caller.uid != 0
        && let Err(error) = sees_all(house, caller, "events")
    {
        return Ok(Err(error));
    }
    let layers = match house.link.layers().await {
        Ok(layers) => layers,
        Err(why) => return Ok(Err(error("unavailable", why.to_string(), "see the log of sluice-loader"))),
    };
    let (incidents, count) = incidents(house, asked.since_us).await?;
    let report = report(house, &layers, asked.since_us, &incidents, count);
    let text = serde_json::to_string_pretty(&report).map_err(io::Error::other)?;
    let note = house.recorder.sign_note(&format!("{text}\n"));
    Ok(Ok(Response::Proof(admin::Proof { note })))
}

/// Everything about the guard itself: modes, gaps, what was changed and put back.
async fn incidents(house: &House, since_us: i64) -> io::Result<(Vec<Value>, usize)> {
    let mut follower = house.audit.follow(since_us, "guard", false);
    let (mut listed, mut count) = (Vec::new(), 0);
    while let Some(line) = follower.next().await? {
        count += 1;
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        // the youngest are those that count
        if listed.len() >= MOST {
            listed.remove(0);
        }
        listed.push(event);
    }
    Ok((listed, count))
}

fn report(
    house: &House,
    layers: &handover::Layers,
    since_us: i64,
    incidents: &[Value],
    count: usize,
) -> Value {
    let mode = layers.mode.clone().unwrap_or_default();
    let listed = layers.layers.iter().map(|layer| {
        json!({"name": layer.name, "state": layer.state, "proof": layer.proof, "proven_us": layer.proven_us})
    });
    let places = layers.destinations.iter().map(|place| {
        json!({"target": place.target, "network": place.network, "port": place.port, "name": place.name})
    });
    let programs = layers.programs.iter().map(|p| json!({"name": p.name, "tag": p.tag}));
    let open: u64 = incidents.iter().filter_map(|event| event.get("open_ms").and_then(Value::as_u64)).sum();
    json!({
        "kind": KIND,
        "time_us": now_us(),
        "version": env!("CARGO_PKG_VERSION"),
        "host": {"name": layers.host, "kernel": layers.kernel, "boot_id": layers.boot_id, "guarded": layers.cgroup,
                 "armed_for_s": layers.armed_for_s},
        "mode": {"mode": mode.mode, "since_us": mode.since_us, "until_us": mode.until_us, "by": mode.by,
                 "approved_by": mode.approved_by, "reason": mode.reason},
        "layers": listed.collect::<Vec<_>>(),
        "programs": programs.collect::<Vec<_>>(),
        "destinations": places.collect::<Vec<_>>(),
        "digests": {"configuration": file_digest(house), "policy": house.gate.policy_digest()},
        "degraded": layers.degraded,
        "standing": layers.standing,
        "kernel_events_lost": layers.events_dropped,
        "since": {"since_us": since_us, "incidents": count, "listed": incidents, "open_ms_at_most": open},
    })
}

/// SHA-256 of the configuration as it stands in the file, in hexadecimal digits.
fn file_digest(house: &House) -> Value {
    match std::fs::read(&house.config_path) {
        Ok(bytes) => hex::encode(digest(&SHA256, &bytes)).into(),
        Err(error) => json!({"unreadable": error.to_string()}),
    }
}
