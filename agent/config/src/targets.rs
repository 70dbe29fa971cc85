//! `[[target]]`, and what targets must not do to each other.
use std::collections::{BTreeMap, BTreeSet};

use crate::names::{canonical, dotted, foreign_character, suspicious};
use crate::parse::once;
use crate::reader::{At, Section, Sink, Span};
use crate::{ClientLeg, ClientTls, Guard, Host, MaskKind, Target, TlsMode, Upstream};

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
    let protocol = section.required("protocol", sink);
    let hosts = section.required::<Vec<At<Host>>>("hosts", sink);
    let ports = section.required::<Vec<At<u16>>>("ports", sink);
    if let Some(zero) = ports.iter().flatten().find(|port| port.value == 0) {
        sink.say(&zero.span, "`target.ports`: 0 is no port");
    }
    not_empty(hosts.as_deref(), "hosts", &section, sink);
    not_empty(ports.as_deref(), "ports", &section, sink);
    let databases = section.get::<Vec<At<String>>>("databases", sink);
    if databases.as_ref().is_some_and(Vec::is_empty) {
        sink.say_hint(
            section.span(),
            "`target.databases` is empty",
            "leave it out to allow any that policy permits",
        );
    }
    let upstream = upstream(&mut section, sink);
    let client = client(&mut section, sink);
    let (classes, known) = classes(&mut section, sink);
    let masks = masks(&mut section, &known, sink);
    let vouched = vouched(&mut section, sink);
    section.finish(sink);
    let (name, hosts) = (name?, hosts?);
    Some(ReadTarget {
        target: Target {
            name: name.value,
            protocol: protocol?,
            hosts: once(hosts.clone(), "target.hosts", sink),
            ports: once(ports?, "target.ports", sink),
            databases: databases.map(|listed| once(listed, "target.databases", sink)),
            upstream: upstream?,
            client,
            classes,
            masks,
            vouched,
        },
        name: name.span,
        hosts,
    })
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

fn upstream(target: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> Option<Upstream> {
    let mut section = target.section("upstream", sink);
    let user = section.required("user", sink);
    let ca_file = section.get::<At<_>>("ca_file", sink);
    let tls = section.or("tls", TlsMode::VerifyFull, sink);
    if let (Some(ca_file), TlsMode::Require | TlsMode::Disable) = (&ca_file, tls) {
        sink.say_hint(
            &ca_file.span,
            "`target.upstream.ca_file` is not looked at with this `tls`",
            "tls = \"verify-full\" checks the certificate",
        );
    }
    let password_file = section.get("password_file", sink);
    section.finish(sink);
    Some(Upstream { user: user?, password_file, tls, ca_file: ca_file.map(|file| file.value) })
}

fn client(target: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> ClientLeg {
    let mut section = target.section("client", sink);
    let tls = section.or("tls", ClientTls::Prefer, sink);
    section.finish(sink);
    ClientLeg { tls }
}

/// Column → class, and every class that is named, also in lines that are wrong.
fn classes(
    target: &mut Section<'_, '_>,
    sink: &mut Sink<'_>,
) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let mut classes = BTreeMap::new();
    let mut named = BTreeSet::new();
    for (column, class) in target.section("classes", sink).entries::<String>(sink) {
        named.insert(class.value.clone());
        let parts = match dotted(&column.value) {
            Ok(parts) if parts.len() == 3 => parts,
            Ok(_) => {
                let hint = "like `\"public.customers.email\"`; a name with a dot in it is quoted as in SQL";
                sink.say_hint(
                    &column.span,
                    format!("`{}` is not schema.table.column", column.value.escape_debug()),
                    hint,
                );
                continue;
            }
            Err(why) => {
                sink.say(&column.span, format!("`{}` is no column: {why}", column.value.escape_debug()));
                continue;
            }
        };
        check_class(&class, sink);
        if classes.insert(canonical(parts.iter().map(String::as_str)), class.value).is_some() {
            sink.say(&column.span, format!("the column `{}` stands here twice", column.value.escape_debug()));
        }
    }
    (classes, named)
}

fn check_class(class: &At<String>, sink: &mut Sink<'_>) {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    if !class.value.bytes().all(plain) || class.value.len() > 63 {
        let odd = suspicious(&class.value).or_else(|| foreign_character(&class.value));
        let odd = odd.map(|odd| format!(": {odd}")).unwrap_or_default();
        sink.say_hint(
            &class.span,
            format!("`{}` is no name of a class{odd}", class.value.escape_debug()),
            "lower-case letters, digits, `-`, `_` and `.`, like `pii.email`",
        );
    }
}

fn masks(
    target: &mut Section<'_, '_>,
    known: &BTreeSet<String>,
    sink: &mut Sink<'_>,
) -> BTreeMap<String, MaskKind> {
    let mut masks = BTreeMap::new();
    for (class, kind) in target.section("masks", sink).entries::<MaskKind>(sink) {
        if !known.contains(&class.value) {
            let near = crate::reader::nearest(&class.value, known.iter().map(String::as_str));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "give it to a column in [target.classes], or take the line out".into(),
            };
            sink.say_hint(
                &class.span,
                format!("no column has the class `{}`", class.value.escape_debug()),
                hint,
            );
        }
        masks.insert(class.value, kind.value);
    }
    masks
}

fn vouched(target: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> Vec<String> {
    let mut section = target.section("functions", sink);
    let listed = section.or::<Vec<At<String>>>("vouched", Vec::new(), sink);
    section.finish(sink);
    let mut names = Vec::new();
    for function in listed {
        match dotted(&function.value) {
            Ok(parts) if parts.len() == 2 => {
                names.push(At { value: canonical(parts.iter().map(String::as_str)), span: function.span });
            }
            Ok(_) => sink.say_hint(
                &function.span,
                format!("`{}` is not schema.function", function.value.escape_debug()),
                "like `\"public.order_total\"`, without arguments",
            ),
            Err(why) => {
                sink.say(
                    &function.span,
                    format!("`{}` is no function: {why}", function.value.escape_debug()),
                );
            }
        }
    }
    once(names, "target.functions.vouched", sink)
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
