//! What is protected, out of the configuration and the names that were resolved.

use ipnet::IpNet;
use sluice_api::handover::Destination;
use sluice_config::{Config, Host};

use crate::kernel::Place;
use crate::names::Known;

/// What is protected: every host of every target, at its ports.
pub(super) fn places(config: &Config, known: &Known) -> Vec<Place> {
    let mut places = Vec::new();
    each(config, known, |index, network, port, _| {
        places.push(Place { network, port, target: u32::try_from(index).unwrap_or(u32::MAX) });
    });
    places
}

pub(super) fn destinations(config: &Config, known: &Known) -> Vec<Destination> {
    let mut list = Vec::new();
    each(config, known, |index, network, port, name| {
        let target = config.targets.get(index).map(|target| target.name.clone()).unwrap_or_default();
        list.push(Destination {
            target,
            network: network.to_string(),
            port: u32::from(port),
            name: name.to_owned(),
        });
    });
    list
}

fn each(config: &Config, known: &Known, mut take: impl FnMut(usize, IpNet, u16, &str)) {
    for (index, target) in config.targets.iter().enumerate() {
        for port in &target.ports {
            for host in &target.hosts {
                match host {
                    Host::Network(network) => take(index, *network, *port, ""),
                    Host::Name(name) => known.of(name).for_each(|a| take(index, IpNet::from(a), *port, name)),
                }
            }
        }
    }
}

pub(super) fn target_of(config: &Config, known: &Known, event: &crate::kernel::Event) -> String {
    let mut found = "";
    each(config, known, |index, network, port, _| {
        if network.contains(&event.address) && port == event.port {
            found = config.targets.get(index).map_or("", |target| target.name.as_str());
        }
    });
    found.to_owned()
}
