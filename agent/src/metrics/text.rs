//! The text exposition format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sluice_api::handover::Layers;

use super::{BOUNDS, Counter, HELD, Latency, PERMITTED, RECORDED, REFUSED, SYNC};
use crate::app::House;

/// A text in the making.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    /// A metric with its help; then its samples.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let _ = if labels.is_empty() {
            writeln!(self.0, "{name} {value}")
        } else {
            writeln!(self.0, "{name}{{{}}} {value}", labels.join(","))
        };
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.metric(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, label: &str, values: &[(&str, &Counter)]) {
        self.metric(name, "counter", help);
        for (value, counter) in values {
            self.sample(name, &[(label, value)], counter.get());
        }
    }

    fn latency(&mut self, name: &str, help: &str, latency: &Latency) {
        self.metric(name, "histogram", help);
        // what comes in between only makes the later ones larger
        let mut sum = 0;
        for (bound, counter) in BOUNDS.iter().zip(&latency.within) {
            sum += counter.get();
            self.sample(&format!("{name}_bucket"), &[("le", &bound.to_string())], sum);
        }
        let all = latency.all.get().max(sum);
        self.sample(&format!("{name}_bucket"), &[("le", "+Inf")], all);
        let seconds = latency.micros.get() as f64 / 1e6;
        self.sample(&format!("{name}_sum"), &[], seconds);
        self.sample(&format!("{name}_count"), &[], all);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Everything. `layers`: the loader's last probe, where it answered.
pub(super) fn render(house: &House, layers: Option<&Layers>) -> String {
    let mut out = Exposition::default();
    out.metric("sluice_build_info", "gauge", "The running version.");
    out.sample("sluice_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    sessions(&mut out, house);
    operations(&mut out);
    recording(&mut out, house);
    events(&mut out, &house.audit.counts());
    kernel(&mut out, layers, house.link.destinations().len());
    out.0
}

fn sessions(out: &mut Exposition, house: &House) {
    out.gauge("sluice_sessions_open", "Sessions that are open.", house.gate.open_sessions());
    out.gauge("sluice_logins", "Logins that are bound to a terminal session.", house.bindings.count());
    out.gauge("sluice_approvals_waiting", "Requests that wait for somebody.", house.gate.approvals().count());
    out.gauge("sluice_policy_generation", "Counts up with each policy.", house.gate.generation());
    let settings = house.settings.load();
    out.gauge("sluice_targets", "Targets of the configuration.", settings.targets.len());
    out.gauge(
        "sluice_connections_free",
        "Connections that would be let in before limits.connections is reached.",
        house.connections.available_permits(),
    );
}

fn operations(out: &mut Exposition) {
    let verdicts = [("permit", &PERMITTED), ("hold", &HELD), ("refuse", &REFUSED)];
    out.counter("sluice_verdicts_total", "Operations, by what was said to them.", "verdict", &verdicts);
    out.metric(
        "sluice_masked_total",
        "counter",
        "Values of classed columns that were masked; values and pieces of output in which a detector found something.",
    );
    for (by, times) in crate::masking::masked() {
        out.sample("sluice_masked_total", &[("by", by)], times);
    }
}

fn recording(out: &mut Exposition, house: &House) {
    let health = house.recorder.health();
    out.gauge("sluice_recordings_live", "Sessions that are being recorded.", health.live);
    out.gauge("sluice_recording_free_bytes", "Free bytes where recordings go.", health.free);
    out.gauge("sluice_recording_min_free_bytes", "Below this no session is opened.", health.wanted);
    out.gauge("sluice_recorder_failed", "1: nothing can be recorded.", u8::from(health.failed.is_some()));
    out.gauge("sluice_audit_failed", "1: events can't be written.", u8::from(house.audit.health().is_err()));
    out.metric("sluice_recorded_bytes_total", "counter", "Bytes written to recordings.");
    out.sample("sluice_recorded_bytes_total", &[], RECORDED.get());
    out.latency("sluice_recording_sync_seconds", "How long fdatasync of a recording takes.", &SYNC);
}

/// What the audit has counted since this process started: (class, activity, action) → how many.
pub(crate) type Counts = BTreeMap<(&'static str, String, String), u64>;

fn events(out: &mut Exposition, counts: &Counts) {
    const NAME: &str = "sluice_events_total";
    out.metric(
        NAME,
        "counter",
        "Audit events, by class and activity; refusals also by the action that was refused.",
    );
    for ((class, activity, action), count) in counts {
        let mut labels = vec![("class", *class), ("activity", activity.as_str())];
        labels.extend((!action.is_empty()).then_some(("action", action.as_str())));
        out.sample(NAME, &labels, count);
    }
    // there from the first scrape on, so that a first failure is seen as one
    out.metric("sluice_upstream_failures_total", "counter", "Targets that could not be reached or proven.");
    let failures = counts.iter().filter(|((class, ..), _)| *class == "upstream").map(|(_, count)| count);
    out.sample("sluice_upstream_failures_total", &[], failures.sum::<u64>());
}

fn kernel(out: &mut Exposition, layers: Option<&Layers>, protected: usize) {
    let up = u8::from(layers.is_some());
    out.gauge("sluice_loader_answers", "0: the loader did not answer the last question.", up);
    let Some(layers) = layers else { return };
    out.metric("sluice_layer_enforced", "gauge", "1: the last live probe has shown that the layer holds.");
    for layer in &layers.layers {
        let enforced = u8::from(layer.state == "enforced");
        out.sample("sluice_layer_enforced", &[("layer", &layer.name)], enforced);
    }
    let enforces = layers.mode.as_ref().is_some_and(|mode| mode.mode == "enforce");
    out.gauge(
        "sluice_guard_enforces",
        "0: the guard observes, or is disarmed: nothing is enforced.",
        u8::from(enforces),
    );
    out.metric(
        "sluice_layer_proven_timestamp_seconds",
        "gauge",
        "When a canary has shown last that the layer holds; 0: never since the loader started.",
    );
    for layer in &layers.layers {
        let labels = [("layer", layer.name.as_str())];
        out.sample("sluice_layer_proven_timestamp_seconds", &labels, layer.proven_us / 1_000_000);
    }
    out.metric(
        "sluice_guard_incidents_total",
        "counter",
        "Times that the guard was not as it was left (pins, links, programs, tables, layers, foreign programs).",
    );
    out.sample("sluice_guard_incidents_total", &[], layers.incidents);
    let standing = layers.standing.len();
    out.gauge(
        "sluice_guard_incidents_standing",
        "Of these, what stands: can't be repaired, or is foreign.",
        standing,
    );
    out.metric("sluice_kernel_events_lost_total", "counter", "Events of the kernel that nobody could take.");
    out.sample("sluice_kernel_events_lost_total", &[], layers.events_dropped);
    out.gauge("sluice_protected_destinations", "Entries of the kernel's table.", protected);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_ends_where_it_should() {
        let mut out = Exposition::default();
        out.sample("x", &[("a", "b\"\\\n")], 1);
        assert_eq!(out.0, "x{a=\"b\\\"\\\\\\n\"} 1\n");
    }

    #[test]
    fn refusals_are_told_by_action() {
        let mut out = Exposition::default();
        let counts = Counts::from([
            (("decision", "refused".to_owned(), "delete".to_owned()), 3),
            (("upstream", "failed".to_owned(), String::new()), 2),
        ]);
        events(&mut out, &counts);
        assert!(
            out.0.contains(
                "sluice_events_total{class=\"decision\",activity=\"refused\",action=\"delete\"} 3\n"
            )
        );
        assert!(out.0.contains("\nsluice_upstream_failures_total 2\n"), "{}", out.0);
    }

    #[test]
    fn a_histogram_counts_up() {
        let latency = Latency::new();
        latency.took(std::time::Duration::from_millis(3));
        let mut out = Exposition::default();
        out.latency("x", "", &latency);
        assert!(out.0.contains("x_bucket{le=\"0.0025\"} 0\nx_bucket{le=\"0.005\"} 1\n"), "{}", out.0);
        assert!(out.0.ends_with("x_bucket{le=\"+Inf\"} 1\nx_sum 0.003\nx_count 1\n"), "{}", out.0);
    }
}
