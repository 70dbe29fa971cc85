//! The names under which clients reach a target.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::extensions::GeneralName;

/// What a target's certificate may say, and what the CA may sign for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The target's name in the configuration; empty for a union of several.
    pub target: String,
    /// Host names, lower case.
    pub dns: Vec<String>,
    /// Addresses and networks: first address and length of the prefix.
    pub networks: Vec<(IpAddr, u8)>,
}

impl Names {
    /// Nothing in `other` is missing here.
    pub(super) fn includes(&self, other: &Self) -> bool {
        other.dns.iter().all(|name| self.dns.contains(name))
            && other.networks.iter().all(|&(address, prefix)| {
                self.networks.iter().any(|&network| network.1 <= prefix && within(network, address))
            })
    }

    /// Takes over what `other` has more.
    pub(super) fn add(&mut self, other: &Self) {
        for name in &other.dns {
            if !self.dns.contains(name) {
                self.dns.push(name.clone());
            }
        }
        for network in &other.networks {
            if !self.networks.contains(network) {
                self.networks.push(*network);
            }
        }
    }

    /// `address` is in one of the networks that are more than a single address.
    pub(super) fn has_network_of(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|&network| !is_single(network) && within(network, address))
    }

    /// The networks that are one address.
    pub(super) fn single_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.networks.iter().filter(|network| is_single(**network)).map(|network| network.0)
    }

    /// The reverse of the constraints that the CA's certificate carries.
    pub(super) fn from_constraints(constraints: &x509_parser::extensions::NameConstraints<'_>) -> Self {
        let mut names = Self::default();
        for subtree in constraints.permitted_subtrees.iter().flatten() {
            match subtree.base {
                GeneralName::DNSName(name) => names.dns.push(name.to_owned()),
                GeneralName::IPAddress(bytes) => names.networks.extend(network(bytes)),
                _ => {}
            }
        }
        names
    }
}

fn is_single((address, prefix): (IpAddr, u8)) -> bool {
    prefix == if address.is_ipv4() { 32 } else { 128 }
}

fn within((network, prefix): (IpAddr, u8), address: IpAddr) -> bool {
    match (network, address.to_canonical()) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

/// RFC 5280, 4.2.1.10: the address and its mask.
fn network(bytes: &[u8]) -> Option<(IpAddr, u8)> {
    if let Ok(bytes) = <[u8; 8]>::try_from(bytes) {
        let bits = u64::from_be_bytes(bytes);
        let address = Ipv4Addr::from_bits(u32::try_from(bits >> 32).ok()?);
        return Some((address.into(), u8::try_from((bits as u32).leading_ones()).ok()?));
    }
    let (address, mask) = bytes.split_at_checked(16)?;
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?);
    let mask = u128::from_be_bytes(<[u8; 16]>::try_from(mask).ok()?);
    Some((address.into(), u8::try_from(mask.leading_ones()).ok()?))
}
