//! Memory and descriptors of the proxy: once a second under load, and when nobody is connected.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::world::World;
use crate::{Context, Result};

use super::Finding;

/// Memory may end so much above where it began: what allocators keep is not given back at once.
const SLACK_KB: f64 = 8192.0;
/// And so much of it, for a larger one.
const SLACK: f64 = 0.1;
/// Descriptors that come and go by themselves: the file of events, a connection for the catalogue.
const SLACK_DESCRIPTORS: usize = 3;

/// Recordings of sessions that have just ended stay open until they are on the disk.
const SETTLE: Duration = Duration::from_secs(3);
/// The port of the proxy's listeners (`guard.port` of the world).
const PROXY: u16 = 15432;

#[derive(Clone, Copy)]
struct Sample {
    seconds: f64,
    resident_kb: f64,
    descriptors: usize,
}

/// Follows one process.
pub(super) struct Gauge {
    pid: u32,
    begun: Instant,
    rests: Vec<Sample>,
    /// Descriptors at the first rest, by what they are of.
    first: BTreeMap<String, usize>,
    under_load: Arc<Mutex<Vec<Sample>>>,
    over: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl Gauge {
    /// The process that serves now; nobody is connected.
    pub(super) fn begin(world: &World) -> Result<Gauge> {
        let sluice = world.sluice.as_ref().context("Sluice has not been started")?;
        let pid = sluice.proxies().first().copied().context("no proxy runs")?;
        std::thread::sleep(SETTLE);
        let begun = Instant::now();
        let (under_load, over) = (Arc::<Mutex<Vec<Sample>>>::default(), Arc::new(AtomicBool::new(false)));
        let (samples, stop) = (Arc::clone(&under_load), Arc::clone(&over));
        let watcher = std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                if let Ok(sample) = sample(pid, begun) {
                    samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let (rests, first, watcher) = (vec![sample(pid, begun)?], kinds(pid)?, Some(watcher));
        Ok(Gauge { pid, begun, rests, first, under_load, over, watcher })
    }

    /// Nobody is connected again.
    pub(super) fn rest(&mut self, _world: &World) -> Result<()> {
        std::thread::sleep(SETTLE);
        let sample = sample(self.pid, self.begun).context("the proxy that was measured has ended")?;
        self.rests.push(sample);
        Ok(())
    }

    pub(super) fn findings(mut self, world: &World) -> Result<Vec<Finding>> {
        self.rest(world)?;
        self.over.store(true, Ordering::SeqCst);
        if let Some(watcher) = self.watcher.take() {
            drop(watcher.join());
        }
        let samples = self.under_load.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let first = self.rests.first().copied().context("no rest")?;
        let last = self.rests.last().copied().context("no rest")?;
        let most = first.resident_kb + SLACK_KB.max(first.resident_kb * SLACK);
        let peak = samples.iter().map(|sample| sample.resident_kb).fold(0.0, f64::max);
        let minutes = (last.seconds - first.seconds) / 60.0;
        let at_rest: Vec<String> =
            self.rests.iter().map(|one| format!("{:.1}", one.resident_kb / 1024.0)).collect();
        println!("resident memory at each rest, MB: {}", at_rest.join(" "));
        Ok(vec![
            Finding::new(
                format!("resident memory at rest, after {minutes:.1} minutes"),
                format!("{:.1} MB, then {:.1} MB", first.resident_kb / 1024.0, last.resident_kb / 1024.0),
                format!("at most {:.1} MB", most / 1024.0),
                last.resident_kb <= most,
            ),
            Finding::new(
                "slope of resident memory",
                format!(
                    "{:+.0} KB/min at rest, {:+.0} KB/min under load, peak {:.1} MB",
                    slope(&self.rests) * 60.0,
                    slope(&samples) * 60.0,
                    peak / 1024.0
                ),
                "(stated)",
                true,
            ),
            Finding::new(
                "descriptors at rest",
                format!(
                    "{}, then {}{}",
                    first.descriptors,
                    last.descriptors,
                    more(&self.first, &kinds(self.pid)?)
                ),
                "the same",
                last.descriptors <= first.descriptors + SLACK_DESCRIPTORS,
            ),
        ])
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

fn sample(pid: u32, begun: Instant) -> Result<Sample> {
    let resident_kb = resident_kb(pid)?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok(Sample { seconds: begun.elapsed().as_secs_f64(), resident_kb, descriptors })
}

/// What the descriptors of a process are of; sockets by the port at the other end.
fn kinds(pid: u32) -> Result<BTreeMap<String, usize>> {
    let mut ports = HashMap::new();
    for table in ["tcp", "tcp6"] {
        for line in fs::read_to_string(format!("/proc/{pid}/net/{table}"))?.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, here, there, state, .., inode] = fields.get(..10).unwrap_or_default() else { continue };
            let port =
                |end: &str| u16::from_str_radix(end.rsplit(':').next().unwrap_or_default(), 16).unwrap_or(0);
            let what = match (port(here), port(there)) {
                (here, 0) => format!("listener at port {here}"),
                (PROXY, _) => format!("client, state {state}"),
                (_, there) => format!("connection to port {there}, state {state}"),
            };
            ports.insert(format!("socket:[{inode}]"), what);
        }
    }
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let link = link.to_string_lossy().into_owned();
        let kind = link.split_once(':').map_or(link.as_str(), |(kind, _)| kind);
        let what = ports.get(&link).map_or(kind, String::as_str).to_owned();
        *found.entry(what).or_default() += 1;
    }
    Ok(found)
}

/// What there is more of.
fn more(before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>) -> String {
    let grown = after.iter().filter_map(|(what, count)| {
        let had = before.get(what).copied().unwrap_or_default();
        (*count > had).then(|| format!(" (+{} {what})", count - had))
    });
    grown.collect()
}

/// Resident set of a process.
pub(super) fn resident_kb(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.split_whitespace().next().and_then(|number| number.parse().ok()).context("VmRSS is no number")
}

/// KB a second by least squares.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|s| s.seconds), mean(|s| s.resident_kb));
    let (mut above, mut below) = (0.0, 0.0);
    for sample in samples {
        above += (sample.seconds - x) * (sample.resident_kb - y);
        below += (sample.seconds - x).powi(2);
    }
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::{Sample, slope};

    #[test]
    fn a_line_has_its_slope_and_a_point_has_none() {
        let at = |seconds: f64| Sample { seconds, resident_kb: 7.0 + 3.0 * seconds, descriptors: 0 };
        assert!((slope(&[at(0.0), at(1.0), at(5.0)]) - 3.0).abs() < 1e-9);
        assert!(slope(&[at(1.0)]).abs() < 1e-9 && slope(&[]).abs() < 1e-9);
    }
}
