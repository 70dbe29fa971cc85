//! What is protected, out of the configuration and the names that were resolved.

use std::collections::BTreeSet;

use ipnet::IpNet;
use sluice_api::handover::{Destination, Destinations, Incident, from_loader};
use sluice_config::{Config, Host};

use super::Loader;
use crate::kernel::{Place, Port};
use crate::names::Known;
use crate::queue::batches;

/// What is protected: every host of every target, at its ports.
pub(crate) fn places(config: &Config, known: &Known) -> Vec<Place> {
    let mut places = Vec::new();
    each(config, known, |index, network, port, _| {
        places.push(Place { network, port, target: u32::try_from(index).unwrap_or(u32::MAX) });
    });
    places
}

fn destinations(config: &Config, known: &Known) -> Vec<Destination> {
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
    for target in config.targets.iter().filter(|target| target.is_ingress()) {
        list.extend(target.ports.iter().map(|port| Destination {
            target: target.name.clone(),
            network: String::new(),
            port: u32::from(*port),
            name: "this host".to_owned(),
        }));
    }
    list
}

impl Loader {
    /// What the proxy has to know of them.
    pub(super) fn tell_destinations(&mut self) {
        let mut left = batches(destinations(&self.config, &self.known)).into_iter().peekable();
        while let Some(destinations) = left.next() {
            let more = left.peek().is_some();
            self.say(from_loader::Message::Destinations(Destinations { destinations, more }), Vec::new());
        }
    }

    /// Whether all of them are in the table; `fault`: why not. What did not fit is open, and nobody must overlook that.
    pub(super) fn protection(&mut self, fault: Option<String>) {
        let fault = fault.unwrap_or_default();
        if fault == self.unprotected {
            return;
        }
        if !fault.is_empty() {
            tracing::error!(fault, "not everything that the targets name is protected");
        }
        self.unprotected.clone_from(&fault);
        self.incident(Incident {
            what: "table".to_owned(),
            object: "protected places".to_owned(),
            detail: "not everything that the targets name is protected".to_owned(),
            healed: fault.is_empty(),
            failure: fault,
            open_ms: 0,
        });
    }
}

/// Ports of this host that are guarded (ingress), each with the index of its target.
pub(super) fn guarded_ports(config: &Config) -> BTreeSet<Port> {
    let targets = config.targets.iter().enumerate().filter(|(_, target)| target.is_ingress());
    targets
        .flat_map(|(index, target)| {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            target.ports.iter().map(move |port| (*port, index))
        })
        .collect()
}

fn each(config: &Config, known: &Known, mut take: impl FnMut(usize, IpNet, u16, &str)) {
    for (index, target) in config.targets.iter().enumerate().filter(|(_, target)| !target.is_ingress()) {
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
    if event.is_of_port() {
        let at = guarded_ports(config).into_iter().find(|(port, _)| *port == event.port);
        let target = at.and_then(|(_, index)| config.targets.get(usize::try_from(index).ok()?));
        return target.map(|target| target.name.clone()).unwrap_or_default();
    }
    each(config, known, |index, network, port, _| {
        if network.contains(&event.address) && port == event.port {
            found = config.targets.get(index).map_or("", |target| target.name.as_str());
        }
    });
    found.to_owned()
}
