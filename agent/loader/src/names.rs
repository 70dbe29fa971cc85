//! Names of targets: resolved again and again beside the loop, and remembered.
//!
//! What must hold: an address that a name once had stays protected for `guard.keep_addresses`; a resolver that is away
//! takes nothing away, not even at the first start after a reboot.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_config::{Config, Host};

use crate::grounds;

/// File under the state directory.
const KEPT: &str = "addresses";

/// Addresses by name, each with the second since 1970 at which it was seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known(BTreeMap<String, BTreeMap<IpAddr, u64>>);

/// What a round of the resolver found; a name that it could not resolve is missing.
pub(crate) type Found = Vec<(String, Vec<IpAddr>)>;

impl Known {
    /// What an earlier loader knew.
    pub(crate) fn read(config: &Config) -> Self {
        let mut known = Self::default();
        for line in grounds::kept(config, KEPT).unwrap_or_default().lines() {
            let mut parts = line.split('\t');
            let (Some(name), Some(address), Some(seen)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            if let (Ok(address), Ok(seen)) = (address.parse(), seen.parse()) {
                known.0.entry(name.to_owned()).or_default().insert(address, seen);
            }
        }
        known
    }

    /// Writes it down.
    pub(crate) fn keep(&self, config: &Config) {
        let mut text = String::new();
        for (name, addresses) in &self.0 {
            for (address, seen) in addresses {
                text += &format!("{name}\t{address}\t{seen}\n");
            }
        }
        if let Err(error) = grounds::keep(config, KEPT, &text) {
            tracing::error!(%error, "the addresses of names could not be written down");
        }
    }

    /// Takes in what was found now; whether the set of addresses has changed.
    pub(crate) fn update(&mut self, found: &Found, config: &Config, now_s: u64) -> bool {
        let before: Vec<(String, IpAddr)> = self.all();
        for (name, addresses) in found {
            let known = self.0.entry(name.clone()).or_default();
            known.extend(addresses.iter().map(|address| (*address, now_s)));
            // only while the name still resolves: with the resolver away nothing grows old
            let keep = config.guard.keep_addresses.as_secs();
            known.retain(|_, seen| seen.saturating_add(keep) >= now_s);
        }
        let wanted = wanted(config);
        self.0.retain(|name, _| wanted.contains(name));
        self.all() != before
    }

    /// The addresses of a name.
    pub(crate) fn of(&self, name: &str) -> impl Iterator<Item = IpAddr> {
        self.0.get(name).into_iter().flat_map(|addresses| addresses.keys().copied())
    }

    fn all(&self) -> Vec<(String, IpAddr)> {
        self.0.iter().flat_map(|(name, list)| list.keys().map(|a| (name.clone(), *a))).collect()
    }
}

/// Every name in the targets.
pub(crate) fn wanted(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = config
        .targets
        .iter()
        // those of this host itself are for certificates alone
        .filter(|target| !target.is_ingress())
        .flat_map(|target| &target.hosts)
        .filter_map(|host| match host {
            Host::Name(name) => Some(name.clone()),
            Host::Network(_) => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// One round, for so long at most; what does not resolve by then is missing.
pub(crate) fn round(names: Vec<String>, patience: Duration) -> Found {
    let (tell, hear) = channel();
    // it ends by itself, or with this process
    std::thread::spawn(move || {
        for name in names {
            if let Ok(addresses) = (name.as_str(), 0).to_socket_addrs() {
                let _ = tell.send((name, addresses.map(|address| address.ip()).collect()));
            }
        }
    });
    let until = std::time::Instant::now() + patience;
    let mut found = Found::new();
    while let Ok(one) = hear.recv_timeout(until.saturating_duration_since(std::time::Instant::now())) {
        found.push(one);
    }
    found
}

/// The thread that asks; getaddrinfo may take as long as it likes there.
pub(crate) struct Resolver {
    orders: Sender<(Vec<String>, Duration)>,
    /// Rounds; the pipe given to [`Resolver::start`] becomes readable with each.
    pub(crate) rounds: Receiver<Found>,
}

impl Resolver {
    /// Starts it; `wake` is written to with each round.
    pub(crate) fn start(names: Vec<String>, every: Duration, wake: File) -> std::io::Result<Self> {
        let (orders, inbox) = channel();
        let (outbox, rounds) = channel();
        std::thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || resolve(names, every, &inbox, &outbox, wake))?;
        Ok(Self { orders, rounds })
    }

    /// From now on these names, and at once.
    pub(crate) fn order(&self, names: Vec<String>, every: Duration) {
        // the thread ends together with this process alone
        let _ = self.orders.send((names, every));
    }
}

fn resolve(
    mut names: Vec<String>,
    mut every: Duration,
    orders: &Receiver<(Vec<String>, Duration)>,
    rounds: &Sender<Found>,
    mut wake: File,
) {
    loop {
        let mut found = Found::new();
        for name in &names {
            match (name.as_str(), 0).to_socket_addrs() {
                Ok(addresses) => found.push((name.clone(), addresses.map(|a| a.ip()).collect())),
                Err(error) => {
                    tracing::warn!(name, %error, "a target's name does not resolve; what is known stays")
                }
            }
        }
        if rounds.send(found).is_err() || wake.write_all(b"!").is_err() {
            return;
        }
        match orders.recv_timeout(every) {
            Ok(order) => (names, every) = order,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = include_str!("../../../packaging/example/sluice.toml");
        let mut config = Config::parse("sluice.toml", text).unwrap();
        config.targets.truncate(1);
        config.targets[0].hosts = vec![Host::Name("db".into())];
        config.guard.keep_addresses = Duration::from_secs(100);
        config
    }

    #[test]
    fn an_address_is_kept_for_a_while_and_longer_while_nobody_answers() {
        let (config, mut known) = (config(), Known::default());
        let found =
            |list: &[&str]| vec![("db".to_owned(), list.iter().map(|a| a.parse().unwrap()).collect())];
        assert!(known.update(&found(&["10.0.0.1"]), &config, 1000));
        assert!(known.update(&found(&["10.0.0.2"]), &config, 1050));
        assert_eq!(known.of("db").count(), 2);
        assert!(!known.update(&Found::new(), &config, 5000), "the resolver was away");
        assert_eq!(known.of("db").count(), 2);
        assert!(known.update(&found(&["10.0.0.2"]), &config, 5001));
        assert_eq!(known.of("db").map(|a| a.to_string()).collect::<Vec<_>>(), ["10.0.0.2"]);
    }

    #[test]
    fn a_name_that_is_no_longer_configured_is_forgotten() {
        let (mut config, mut known) = (config(), Known::default());
        known.update(&vec![("db".to_owned(), vec!["10.0.0.1".parse().unwrap()])], &config, 1);
        config.targets[0].hosts = vec![Host::Name("other".into())];
        assert!(known.update(&Found::new(), &config, 2));
        assert_eq!(known.of("db").count(), 0);
    }
}
