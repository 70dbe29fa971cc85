//! Counts for monitoring, in Prometheus' text format, on a listener of its own that the loader has opened.
//!
//! Enters: single adds, from any room, each one atomic operation. Leaves: the text. Must hold: a label has one of few
//! values that Sluice itself chose (a layer, a verdict, an action of the schema), never a name, an address or a word of
//! somebody's; nothing is decided by a count.

mod serve;
mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use serve::serve;
pub(crate) use text::Counts;

/// Counts up.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// At nothing.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Some more.
    pub fn add(&self, more: u64) {
        // one number a counter, and no order among them
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of [`Latency`], in seconds.
const BOUNDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// How long something took, by [`BOUNDS`].
pub struct Latency {
    within: [Counter; BOUNDS.len()],
    all: Counter,
    micros: Counter,
}

impl Latency {
    const fn new() -> Self {
        Self { within: [const { Counter::new() }; BOUNDS.len()], all: Counter::new(), micros: Counter::new() }
    }

    /// It took so long, once.
    pub fn took(&self, time: Duration) {
        let at = BOUNDS.iter().position(|bound| time.as_secs_f64() <= *bound);
        if let Some(bucket) = at.and_then(|at| self.within.get(at)) {
            bucket.add(1);
        }
        self.all.add(1);
        self.micros.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
}

/// Operations that were permitted at once.
pub static PERMITTED: Counter = Counter::new();
/// Operations that wait, or waited, for somebody.
pub static HELD: Counter = Counter::new();
/// Operations that were refused at once.
pub static REFUSED: Counter = Counter::new();
/// Bytes that were written to recordings.
pub static RECORDED: Counter = Counter::new();
/// How long fdatasync of a recording took.
pub static SYNC: Latency = Latency::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_it_fits() {
        let latency = Latency::new();
        latency.took(Duration::from_millis(1));
        latency.took(Duration::from_secs(9));
        let counts: Vec<u64> = latency.within.iter().map(Counter::get).collect();
        assert_eq!(counts, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((latency.all.get(), latency.micros.get()), (2, 9_001_000));
    }
}
