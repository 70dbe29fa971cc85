//! `[[target]]`, and what targets must not do to each other. What one protocol alone has stands in its own file.
mod postgres;
mod ssh;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::names::foreign_character;
use crate::parse::once;
use crate::reader::{At, Section, Sink, Span};
use crate::values::ModeWord;
use crate::{Guard, Host, Mode, Protocol, Service, Target};

/// A target with the places that messages about several targets point to.
pub(crate) struct ReadTarget {
    pub(crate) target: Target,
    name: Span,
    hosts: Vec<At<Host>>,
}

/// Reads one target; `None` after saying why not.
pub(crate) fn target(mut section: Section<'_, '_>, sink: &mut Sink<'_>) -> Option<ReadTarget> {
    let name = section.required::<At<String>>("name", sink);
    if let Some(name) = &name {
        check_name(name, sink);
    }
    let protocol = section.required::<Protocol>("protocol", sink);
    let ingress = section.or("mode", ModeWord::Egress, sink) == ModeWord::Ingress;
    let hosts = if ingress && section.raw("hosts").is_none() {
        Some(this_host(section.span()))
    } else {
        section.required::<Vec<At<Host>>>("hosts", sink)
    };
    let ports = section.required::<Vec<At<u16>>>("ports", sink);
    if let Some(zero) = ports.iter().flatten().find(|port| port.value == 0) {
        sink.say(&zero.span, "`target.ports`: 0 is no port");
    }
    not_empty(hosts.as_deref(), "hosts", &section, sink);
    not_empty(ports.as_deref(), "ports", &section, sink);
    let service = match protocol {
        Some(Protocol::Postgres) => {
            postgres::read(&mut section, ingress, sink).map(|(read, at)| (Service::Postgres(read), at))
        }
        Some(Protocol::Ssh) => {
            ssh::read(&mut section, ingress, sink).map(|(read, at)| (Service::Ssh(read), at))
        }
        // which keys it may have nobody can say
        None => return None,
    };
    section.finish(sink);
    let (name, hosts) = (name?, hosts?);
    let (service, address) = service?;
    Some(ReadTarget {
        target: Target {
            name: name.value,
            mode: if ingress { Mode::Ingress { address } } else { Mode::Egress },
            hosts: once(hosts.clone(), "target.hosts", sink),
            ports: once(ports?, "target.ports", sink),
            service,
        },
        name: name.span,
        hosts,
    })
}

/// The names that every host has for itself.
fn this_host(span: &Span) -> Vec<At<Host>> {
    let single = |address: IpAddr| Host::Network(IpNet::from(address));
    [Host::Name("localhost".into()), single(Ipv4Addr::LOCALHOST.into()), single(Ipv6Addr::LOCALHOST.into())]
        .map(|value| At { value, span: span.clone() })
        .into()
}

/// `[target.upstream] address`: where a service of this host listens.
fn address(section: &mut Section<'_, '_>, ingress: bool, sink: &mut Sink<'_>) -> IpAddr {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let Some(given) = section.get::<At<IpAddr>>("address", sink) else { return loopback };
    if !ingress {
        sink.say_hint(
            &given.span,
            "`target.upstream.address` is for a service of this host",
            "mode = \"ingress\"; elsewhere the address is the one that the client asked for",
        );
    }
    if given.value.is_unspecified() || given.value.is_multicast() {
        sink.say(&given.span, format!("`target.upstream.address`: nobody connects to {}", given.value));
    }
    given.value
}

/// A key of `[target.client]` that only a service of this host has.
fn ingress_only(span: &Span, key: &str, ingress: bool, sink: &mut Sink<'_>) {
    if !ingress {
        sink.say_hint(
            span,
            format!("`target.client.{key}` is for a service of this host"),
            "mode = \"ingress\"; elsewhere clients see what Sluice's own CA has signed",
        );
    }
}

fn not_empty<T>(list: Option<&[T]>, key: &str, section: &Section<'_, '_>, sink: &mut Sink<'_>) {
    if list.is_some_and(<[T]>::is_empty) {
        sink.say(
            section.span(),
            format!("`target.{key}` is empty: nothing of this target would be protected"),
        );
    }
}

/// Names of targets stand in policies, commands and audit: one way to write each, nothing that looks alike.
fn check_name(name: &At<String>, sink: &mut Sink<'_>) {
    let text = &name.value;
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    if let Some(odd) = foreign_character(text) {
        sink.say_hint(
            &name.span,
            format!("the target's name `{}` is not plain ASCII: {odd}", text.escape_debug()),
            "lower-case letters, digits, `-`, `_` and `.`",
        );
    } else if !text.bytes().all(plain)
        || !text.starts_with(|first: char| first.is_ascii_alphanumeric())
        || text.len() > 63
    {
        sink.say_hint(
            &name.span,
            format!("`{text}` is no name of a target"),
            "lower-case letters, digits, `-`, `_` and `.`, beginning with a letter or a digit, at most 63",
        );
    }
}

/// No two targets may claim the same address and port: which rules hold there would be a matter of order.
pub(crate) fn check_together(targets: &[ReadTarget], guard: &Guard, sink: &mut Sink<'_>) {
    for (index, one) in targets.iter().enumerate() {
        for other in targets.iter().take(index) {
            if one.target.name == other.target.name {
                let line = sink.line(&other.name);
                sink.say(
                    &one.name,
                    format!("the target `{}` is already defined in line {line}", one.target.name),
                );
            }
            check_pair(one, other, sink);
        }
        if one.target.is_ingress() {
            if guard.port != 0 && one.target.ports.contains(&guard.port) {
                let message = format!("port {} is the proxy's own", guard.port);
                sink.say_hint(&one.name, message, "choose another `guard.port`");
            }
            continue;
        }
        for host in &one.hosts {
            // the proxy's own port: connects to the target would be connects to the proxy, in a circle
            if guard.port != 0 && one.target.ports.contains(&guard.port) && loops(&host.value) {
                sink.say_hint(
                    &host.span,
                    format!("`{}` on port {} is the proxy's own address", host.value, guard.port),
                    "choose another `guard.port`",
                );
            }
        }
    }
}

fn check_pair(one: &ReadTarget, other: &ReadTarget, sink: &mut Sink<'_>) {
    let Some(port) = one.target.ports.iter().find(|port| other.target.ports.contains(port)) else { return };
    match (one.target.is_ingress(), other.target.is_ingress()) {
        (false, false) => {}
        (true, true) => {
            let line = sink.line(&other.name);
            let name = &other.target.name;
            let message =
                format!("port {port} of this host belongs to the target `{name}` already (line {line})");
            return sink.say(&one.name, message);
        }
        _ => {
            // by its own address a service of this host is reached one way only
            let egress = if one.target.is_ingress() { other } else { one };
            if let Some(own) = egress.hosts.iter().find(|host| loops(&host.value)) {
                let message =
                    format!("`{}` port {port} is guarded by `mode = \"ingress\"` already", own.value);
                sink.say(&own.span, message);
            }
            return;
        }
    }
    for host in &one.hosts {
        if let Some(same) = other.hosts.iter().find(|same| overlap(&host.value, &same.value)) {
            let line = sink.line(&same.span);
            sink.say(
                &host.span,
                format!(
                    "`{}` port {port} belongs to the target `{}` already (`{}`, line {line})",
                    host.value, other.target.name, same.value
                ),
            );
        }
    }
}

fn overlap(a: &Host, b: &Host) -> bool {
    match (a, b) {
        (Host::Name(a), Host::Name(b)) => a == b,
        (Host::Network(a), Host::Network(b)) => a.contains(b) || b.contains(a),
        // what a name resolves to is known to the loader alone, which checks again
        _ => false,
    }
}

fn loops(host: &Host) -> bool {
    match host {
        Host::Name(name) => name == "localhost",
        Host::Network(net) => net.addr().is_loopback(),
    }
}
