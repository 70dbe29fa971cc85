//! The guard is looked after: several times a second compared to what was put there, once a minute proven by canaries.
//!
//! What is found goes to the proxy as an incident, and from there on record.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sluice_api::handover::Incident;

use super::Loader;
use crate::kernel::{Finding, Layer};
use crate::names::now_s;

/// The guard is compared to what was put there this often: what somebody did is seen and undone within a second.
const LOOK: Duration = Duration::from_millis(300);
/// Canaries go down every road this often.
const PROVE: Duration = Duration::from_secs(60);

/// When, and what came of it.
pub(super) struct Rounds {
    look_at: Instant,
    prove_at: Instant,
    /// What was told of each layer last.
    states: BTreeMap<&'static str, &'static str>,
    /// Second since 1970 at which a canary has shown last that the layer holds.
    proven: BTreeMap<&'static str, u64>,
    incidents: u64,
}

impl Rounds {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let (states, proven) = (BTreeMap::new(), BTreeMap::new());
        Self { look_at: now, prove_at: now + PROVE, states, proven, incidents: 0 }
    }

    /// When the loop has to turn next.
    pub(super) fn next(&self) -> Instant {
        self.look_at.min(self.prove_at)
    }

    /// How many incidents there were.
    pub(super) fn incidents(&self) -> u64 {
        self.incidents
    }

    /// Microseconds since 1970 at which a canary has shown last that the layer holds; 0: never.
    pub(super) fn proven_us(&self, layer: &str) -> i64 {
        let s = self.proven.get(layer).copied().unwrap_or_default();
        i64::try_from(s).unwrap_or_default().saturating_mul(1_000_000)
    }
}

impl Loader {
    /// Does what is due.
    pub(super) fn look_after(&mut self) {
        let now = Instant::now();
        if self.rounds.look_at <= now {
            self.mode_now();
            for finding in self.guard.inspect() {
                self.found(&finding);
            }
            self.rounds.look_at = Instant::now() + LOOK;
        }
        if self.rounds.prove_at <= now && self.stopping.is_none() {
            // can't be read, so it is written again
            if let Err(error) = self.guard.seat(&self.listeners) {
                tracing::error!(%error, "the table of listeners could not be written");
            }
            self.layers();
            self.rounds.prove_at = Instant::now() + PROVE;
        }
    }

    fn found(&mut self, finding: &Finding) {
        let Finding { what, object, detail, healed, open } = finding;
        let failure = healed.clone().err().unwrap_or_default();
        tracing::error!(
            what,
            object,
            detail,
            healed = healed.is_ok(),
            failure,
            ?open,
            "the guard was changed"
        );
        self.incident(Incident {
            what: (*what).to_owned(),
            object: object.clone(),
            detail: detail.clone(),
            healed: healed.is_ok(),
            failure,
            open_ms: u64::try_from(open.as_millis()).unwrap_or(u64::MAX),
        });
    }

    /// On record, as soon as a proxy takes it.
    pub(super) fn incident(&mut self, incident: Incident) {
        self.rounds.incidents += 1;
        self.kept.incident(incident);
        self.tell_events();
    }

    /// Canaries have come back. A layer that held and does not any more, or the other way round, is an incident.
    pub(super) fn proven(&mut self, layers: &[Layer]) {
        for layer in layers {
            let before = self.rounds.states.insert(layer.name, layer.state);
            if layer.state != "absent" {
                self.rounds.proven.insert(layer.name, now_s());
            }
            // from enforced to observed is the mode's doing, and told by that
            let told = |before: &&str| *before != layer.state && [*before, layer.state].contains(&"absent");
            let Some(before) = before.filter(told) else { continue };
            let healed = before == "absent";
            tracing::error!(
                layer = layer.name,
                before,
                now = layer.state,
                proof = layer.proof,
                "a canary tells"
            );
            self.incident(Incident {
                what: "layer".to_owned(),
                object: layer.name.to_owned(),
                detail: format!("was {before}, is {}: {}", layer.state, layer.proof),
                healed,
                failure: if healed { String::new() } else { layer.proof.clone() },
                open_ms: 0,
            });
        }
    }
}
