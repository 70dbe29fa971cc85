//! The keys of a target that speaks PostgreSQL.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::names::{canonical, dotted, foreign_character, suspicious};
use crate::parse::once;
use crate::reader::{At, Section, Sink};
use crate::{
    ClientLeg, ClientTls, MaskKind, PostgresTarget, ServerCertificate, TlsMode, UnixMaintenance, Upstream,
    Vouched,
};

/// Keys of `[[target]]` that this protocol alone has.
pub(super) const KEYS: [&str; 7] =
    ["databases", "classes", "masks", "functions", "unix", "unix_maintenance", "detect"];
/// Likewise, of `[target.upstream]`.
pub(super) const UPSTREAM_KEYS: [&str; 2] = ["tls", "ca_file"];
/// Likewise, of `[target.client]`.
pub(super) const CLIENT_KEYS: [&str; 3] = ["tls", "certificate_file", "key_file"];

/// Reads them; `None` after saying why not.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    ingress: bool,
    sink: &mut Sink<'_>,
) -> Option<(PostgresTarget, IpAddr)> {
    let databases = section.get::<Vec<At<String>>>("databases", sink);
    if databases.as_ref().is_some_and(Vec::is_empty) {
        sink.say_hint(
            section.span(),
            "`target.databases` is empty",
            "leave it out to allow any that policy permits",
        );
    }
    let upstream = upstream(section, ingress, sink);
    section.foreign(&super::ssh::KEYS, "an ssh target, and this one is postgres", sink);
    let client = client(section, ingress, sink);
    let (classes, known) = classes(section, sink);
    let masks = masks(section, &known, sink);
    let vouched = vouched(section, sink);
    let (upstream, address) = upstream?;
    let databases = databases.map(|listed| once(listed, "target.databases", sink));
    let unix = unix(section, ingress, sink);
    let maintenance = section.get::<At<UnixMaintenance>>("unix_maintenance", sink);
    if let Some(maintenance) = maintenance.as_ref().filter(|_| unix.is_empty()) {
        let hint = "name the service's sockets in `unix`";
        sink.say_hint(&maintenance.span, "`target.unix_maintenance` without a socket", hint);
    }
    let unix_maintenance = maintenance.map_or(UnixMaintenance::Owner, |maintenance| maintenance.value);
    let detect = section.get("detect", sink).unwrap_or(true);
    let read = PostgresTarget {
        databases,
        upstream,
        client,
        classes,
        masks,
        vouched,
        unix,
        unix_maintenance,
        detect,
    };
    Some((read, address))
}

/// The service's own Unix sockets.
fn unix(section: &mut Section<'_, '_>, ingress: bool, sink: &mut Sink<'_>) -> Vec<PathBuf> {
    let Some(listed) = section.get::<Vec<At<PathBuf>>>("unix", sink) else { return Vec::new() };
    if let Some(first) = listed.first().filter(|_| !ingress) {
        sink.say_hint(
            &first.span,
            "`target.unix` is for a service of this host",
            "mode = \"ingress\"; the sockets of a service elsewhere are not on this host",
        );
    }
    once(listed, "target.unix", sink)
}

fn upstream(target: &mut Section<'_, '_>, ingress: bool, sink: &mut Sink<'_>) -> Option<(Upstream, IpAddr)> {
    let mut section = target.section("upstream", sink);
    section.foreign(&super::ssh::UPSTREAM_KEYS, "an ssh target, and this one is postgres", sink);
    let user = section.required("user", sink);
    let address = super::address(&mut section, ingress, sink);
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
    Some((Upstream { user: user?, password_file, tls, ca_file: ca_file.map(|file| file.value) }, address))
}

fn client(target: &mut Section<'_, '_>, ingress: bool, sink: &mut Sink<'_>) -> ClientLeg {
    let mut section = target.section("client", sink);
    let tls = section.or("tls", ClientTls::Prefer, sink);
    section.foreign(&super::ssh::CLIENT_KEYS, "an ssh target, and this one is postgres", sink);
    let certificate = section.get::<At<PathBuf>>("certificate_file", sink);
    let key = section.get::<At<PathBuf>>("key_file", sink);
    section.finish(sink);
    for (name, file) in [("certificate_file", &certificate), ("key_file", &key)] {
        if let Some(file) = file {
            super::ingress_only(&file.span, name, ingress, sink);
        }
    }
    let own = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Some(ServerCertificate { certificate_file: certificate.value, key_file: key.value })
        }
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            sink.say(&one.span, "`target.client`: certificate_file and key_file go together");
            None
        }
    };
    ClientLeg { tls, own }
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

/// `schema.function(arguments)@sha256:…`; without a digest for what has no definition of its own.
fn vouched(target: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> Vec<Vouched> {
    let mut section = target.section("functions", sink);
    let listed = section.or::<Vec<At<String>>>("vouched", Vec::new(), sink);
    section.finish(sink);
    let mut found: Vec<Vouched> = Vec::new();
    for function in listed {
        let (written, digest) = match function.value.rsplit_once("@sha256:") {
            Some((written, digest)) => (written, Some(digest.to_ascii_lowercase())),
            None => (function.value.as_str(), None),
        };
        let hex = |digest: &String| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        if digest.as_ref().is_some_and(|digest| !hex(digest)) {
            sink.say_hint(
                &function.span,
                format!("`{}` does not end in 64 hexadecimal digits", function.value.escape_debug()),
                "`sluice explain` prints the whole line",
            );
            continue;
        }
        // the digest is of the whole definition, arguments included: here they are for who reads it
        let bare = match written.split_once('(') {
            Some((bare, rest)) if rest.ends_with(')') => bare,
            _ => written,
        };
        match dotted(bare) {
            Ok(parts) if parts.len() == 2 => {
                let name = canonical(parts.iter().map(String::as_str));
                let vouched = Vouched { name, sha256: digest };
                if found.contains(&vouched) {
                    sink.say(
                        &function.span,
                        format!("`{}` stands here twice", function.value.escape_debug()),
                    );
                } else {
                    found.push(vouched);
                }
            }
            Ok(_) => sink.say_hint(
                &function.span,
                format!("`{}` is not schema.function", function.value.escape_debug()),
                "like `\"public.order_total(integer)@sha256:…\"`: `sluice explain` prints the line",
            ),
            Err(why) => {
                sink.say(
                    &function.span,
                    format!("`{}` is no function: {why}", function.value.escape_debug()),
                );
            }
        }
    }
    found
}
