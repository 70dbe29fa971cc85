//! Names that people write: look-alikes, hosts, columns.
use std::net::IpAddr;

use ipnet::IpNet;

use crate::Host;

/// What is odd about the first character that is not plain ASCII, for a message.
pub(crate) fn foreign_character(name: &str) -> Option<String> {
    let odd = name.chars().find(|character| !character.is_ascii_graphic())?;
    let what = match look_alike(odd) {
        Some(latin) => format!(", which only looks like `{latin}`"),
        None => String::new(),
    };
    Some(format!("it contains `{}` (U+{:04X}){what}", odd.escape_debug(), u32::from(odd)))
}

/// The Latin letter that a Cyrillic, Greek or full-width one is mistaken for. Only for what people are shown: what is
/// refused is refused by its block, not by this table.
pub fn look_alike(character: char) -> Option<char> {
    const PAIRS: &[(char, char)] = &[
        ('а', 'a'),
        ('е', 'e'),
        ('о', 'o'),
        ('р', 'p'),
        ('с', 'c'),
        ('у', 'y'),
        ('х', 'x'),
        ('і', 'i'),
        ('ј', 'j'),
        ('ѕ', 's'),
        ('ԁ', 'd'),
        ('һ', 'h'),
        ('ԛ', 'q'),
        ('ԝ', 'w'),
        ('ο', 'o'),
        ('α', 'a'),
        ('ν', 'v'),
        ('ρ', 'p'),
        ('ι', 'i'),
        ('υ', 'u'),
        ('κ', 'k'),
        ('τ', 't'),
        ('ı', 'i'),
        ('ɡ', 'g'),
        ('ℓ', 'l'),
    ];
    let code = u32::from(character);
    if (0xFF01..=0xFF5E).contains(&code) {
        return char::from_u32(code - 0xFF01 + 0x21);
    }
    PAIRS.iter().find(|(foreign, _)| *foreign == character).map(|(_, latin)| *latin)
}

/// What is suspicious in a name that may be in any script: invisible characters, or ASCII letters mixed with letters
/// of a script that has look-alikes of them.
pub(crate) fn suspicious(name: &str) -> Option<String> {
    let invisible = |character: &char| {
        character.is_control()
            || matches!(u32::from(*character), 0xAD | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0xFEFF)
    };
    if let Some(odd) = name.chars().find(invisible) {
        return Some(format!("it contains the invisible character U+{:04X}", u32::from(odd)));
    }
    let confusable = |character: &char| matches!(u32::from(*character), 0x370..=0x58F | 0x13A0..=0x13FF | 0x1D00..=0x1D7F | 0xFF00..=0xFFEF | 0x1D400..=0x1D7FF);
    let latin = name.chars().any(|character| character.is_ascii_alphabetic());
    match name.chars().find(confusable) {
        Some(odd) if latin => foreign_character(&odd.to_string()),
        _ => None,
    }
}

/// Why a text is no host, with what to do.
pub(crate) struct InvalidHost {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

fn invalid(message: impl Into<String>, hint: impl Into<String>) -> InvalidHost {
    InvalidHost { message: message.into(), hint: Some(hint.into()) }
}

/// A DNS name, an address or a CIDR.
pub(crate) fn host(text: &str) -> Result<Host, InvalidHost> {
    if text.contains("://") {
        return Err(invalid(format!("`{text}` is a URL"), "write the host alone; ports stand in `ports`"));
    }
    if text.contains('/') {
        let net: IpNet = text
            .parse()
            .map_err(|_| invalid(format!("`{text}` is no CIDR"), "like `10.1.0.0/16` or `fd00:1::/48`"))?;
        return network(net, text);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return network(IpNet::from(address), text);
    }
    if let Some((before, after)) = text.rsplit_once(':')
        && after.parse::<u16>().is_ok()
        && (dns_name(before) || before.parse::<IpAddr>().is_ok())
    {
        return Err(invalid(format!("`{text}` has a port in it"), "ports stand in `ports`"));
    }
    if let Some(odd) = foreign_character(text) {
        return Err(invalid(
            format!("the host `{}` is not ASCII: {odd}", text.escape_debug()),
            "write an internationalised name in its ASCII form (xn--…)",
        ));
    }
    if dns_name(text) {
        return Ok(Host::Name(text.to_ascii_lowercase()));
    }
    Err(InvalidHost { message: format!("`{text}` is neither a name nor an address nor a CIDR"), hint: None })
}

fn network(net: IpNet, text: &str) -> Result<Host, InvalidHost> {
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        return Err(invalid(
            format!("`{text}` is IPv4 in IPv6 form"),
            format!("write `{v4}`: both forms are protected"),
        ));
    }
    if net.addr() != net.network() {
        return Err(invalid(
            format!("`{text}` has bits set behind its prefix"),
            format!("the network is `{}`; the single address is `{}`", net.trunc(), net.addr()),
        ));
    }
    if net.prefix_len() == 0 {
        return Err(invalid(
            format!("`{text}` is every address there is"),
            "name the networks of the target",
        ));
    }
    if net.addr().is_unspecified() || net.addr().is_multicast() {
        return Err(invalid(
            format!("`{text}` is no address of a single service"),
            "name the target's own address",
        ));
    }
    Ok(Host::Network(net))
}

/// RFC 1123, with underscores, which resolvers take; the last label is not numeric, so that `10.0.0` is no name.
fn dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last = text.rsplit('.').next().unwrap_or("");
    text.len() <= 253 && text.split('.').all(label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// `schema.table.column` or `schema.function` as the parts that the catalogue has. Parts may be quoted as in SQL.
pub(crate) fn dotted(text: &str) -> Result<Vec<String>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_part(quoted)?
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let (part, after) = rest.split_at(end);
            plain_part(part)?;
            (part.to_owned(), after)
        };
        if part.is_empty() {
            return Err("a part of it is empty".into());
        }
        if let Some(odd) = suspicious(&part) {
            return Err(odd);
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(parts),
            None => return Err("after a quoted part comes a dot or the end".into()),
        }
    }
}

fn plain_part(part: &str) -> Result<(), String> {
    if part.contains(['"', ' ']) {
        return Err(format!("`{part}` has to stand in quotes, as in SQL"));
    }
    if part.chars().any(char::is_uppercase) {
        // taken literally it would match nothing, and the column would be shown
        return Err(format!(
            "PostgreSQL folds `{part}` to `{}`; write that, or `\\\"{part}\\\"` if it is so in the catalogue",
            part.to_lowercase()
        ));
    }
    Ok(())
}

/// The part up to the closing quote (doubled quotes are one), and what follows.
fn quoted_part(text: &str) -> Result<(String, &str), String> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            return Err("a quote is not closed".into());
        };
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                part.push('"');
                rest = next;
            }
            None => return Ok((part, after)),
        }
    }
}

/// The one way to write these parts: a part is quoted where a dot, a quote, a space or an upper-case letter demands it.
pub(crate) fn canonical<'p>(parts: impl IntoIterator<Item = &'p str>) -> String {
    let mut whole = String::new();
    for part in parts {
        if !whole.is_empty() {
            whole.push('.');
        }
        if part.is_empty() || part.contains(['.', '"', ' ']) || part.chars().any(char::is_uppercase) {
            whole.push('"');
            whole.push_str(&part.replace('"', "\"\""));
            whole.push('"');
        } else {
            whole.push_str(part);
        }
    }
    whole
}
