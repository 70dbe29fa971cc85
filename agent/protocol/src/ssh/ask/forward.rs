//! Ends of forwards at the gate.
use std::net::IpAddr;

use sluice_policy::{Ask, Operation, Resource, ResourceKind};

use super::Place;
use crate::ssh::path::{Start, escaped};

impl Place<'_> {
    /// A connection through the target to a host and port (direct-tcpip).
    pub fn forward(&self, host: &[u8], port: u32) -> Operation {
        let end = named(host).zip(u16::try_from(port).ok().filter(|port| *port != 0));
        let end = end.map(|(host, port)| format!("{host}:{port}"));
        self.end("forward", "connects onward to", end, &format!("{}:{port}", escaped(host)))
    }

    /// A connection through the target to a socket there (direct-streamlocal@openssh.com).
    pub fn forward_socket(&self, path: &[u8]) -> Operation {
        self.end("forward", "connects onward to", socket(path), &escaped(path))
    }

    /// Connections to a port of the target, brought here (tcpip-forward). Port 0: whichever is free.
    pub fn listen(&self, host: &[u8], port: u32) -> Operation {
        let everywhere = matches!(host, b"" | b"*" | b"0.0.0.0" | b"::");
        let name = if everywhere { Some("*".to_owned()) } else { named(host) };
        let end = name.zip(u16::try_from(port).ok()).map(|(host, port)| format!("{host}:{port}"));
        self.end("listen", "listens at", end, &format!("{}:{port}", escaped(host)))
    }

    /// Connections to a socket of the target, brought here (streamlocal-forward@openssh.com).
    pub fn listen_socket(&self, path: &[u8]) -> Operation {
        self.end("listen", "listens at", socket(path), &escaped(path))
    }

    fn end(&self, kind: &'static str, verb: &str, end: Option<String>, written: &str) -> Operation {
        let words = format!("{verb} {}", end.as_deref().unwrap_or(written));
        let ask = match end {
            Some(end) => Ask::new(kind, Resource::new(ResourceKind::Forward, [self.target, &end])),
            None => Ask::new("unknown", self.account()),
        };
        Operation { text: written.to_owned(), ..self.operation(kind, vec![ask], &words) }
    }
}

/// A host in the one form that policies see: small letters, no dot at the end, addresses as they are written today,
/// the target itself always `localhost`. `None` for what resolvers read in different ways (`0x7f.1`).
fn named(host: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(host).ok()?.to_ascii_lowercase();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&text);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    if let Ok(address) = bare.parse::<IpAddr>() {
        let address = address.to_canonical();
        return Some(match address {
            _ if address.is_loopback() || address.is_unspecified() => "localhost".to_owned(),
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
    }
    if ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"].contains(&bare)
        || bare.ends_with(".localhost")
    {
        return Some("localhost".to_owned());
    }
    let is_part = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
    };
    let last = bare.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with("0x") || last.chars().all(|c| c.is_ascii_digit());
    (bare.split('.').all(is_part) && !is_number && bare.len() <= 253).then(|| bare.to_owned())
}

/// The path of a socket, which has to be a whole one.
fn socket(path: &[u8]) -> Option<String> {
    let path = path.starts_with(b"/").then(|| Start::HOME.resolve(path)).flatten();
    path.filter(|path| path != "/")
}
