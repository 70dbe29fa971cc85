//! Values with units and values from fixed lists.
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use crate::names::{foreign_character, host};
use crate::reader::{FromToml, Sink, nearest, string, wrong_type};
use crate::{
    Algorithm, ClientTls, GuardMode, Host, Layer, MaskKind, OnFailure, PacketSockets, Protocol,
    SelfProtection, TlsMode, Transfers, Truth, UnixMaintenance, Unregistered,
};

/// A number of bytes, written as `4MiB` or plainly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromToml for Bytes {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        if let DeValue::Integer(number) = value.get_ref() {
            return integer(number, u64::MAX, value, key, sink).map(Bytes);
        }
        let text = string(value, key, "a size like \"4MiB\"", sink)?;
        let size = size(text);
        if size.is_none() {
            sink.say_hint(
                &value.span(),
                format!("`{key}`: `{}` is no size", text.escape_debug()),
                "a whole number with B, KiB, MiB, GiB or TiB, like \"4MiB\"",
            );
        }
        size.map(Bytes)
    }
}

impl FromToml for Duration {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let text = string(value, key, "a time with its unit like \"30s\"", sink)?;
        let duration = duration(text);
        if duration.is_none() {
            sink.say_hint(
                &value.span(),
                format!("`{key}`: `{}` is no time", text.escape_debug()),
                "a whole number with ms, s, m, h or d, like \"30s\"; at most 3650d",
            );
        }
        duration
    }
}

/// A whole number with `ms`, `s`, `m`, `h` or `d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(3650 * 86_400);
    let (number, unit) = number_and_unit(text)?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3_600)?),
        "d" => Duration::from_secs(number.checked_mul(86_400)?),
        _ => return None,
    };
    (duration <= LONGEST).then_some(duration)
}

/// A whole number with `B`, `KiB`, `MiB`, `GiB` or `TiB`.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

fn integer(
    number: &DeInteger<'_>,
    most: u64,
    value: &Spanned<DeValue<'_>>,
    key: &str,
    sink: &mut Sink<'_>,
) -> Option<u64> {
    // i128, so that a negative number gets the message about the range
    let read = i128::from_str_radix(number.as_str(), number.radix()).ok();
    let fits = read.and_then(|read| u64::try_from(read).ok()).filter(|read| *read <= most);
    if fits.is_none() {
        sink.say(&value.span(), format!("`{key}` must be between 0 and {most}"));
    }
    fits
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl FromToml for $type {
            fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
                let DeValue::Integer(number) = value.get_ref() else {
                    wrong_type(value, key, "a whole number", sink);
                    return None;
                };
                let read = integer(number, u64::from(<$type>::MAX), value, key, sink)?;
                <$type>::try_from(read).ok()
            }
        }
    )*};
}
whole_number!(u16, u32, u64);

impl FromToml for bool {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let DeValue::Boolean(read) = value.get_ref() else {
            wrong_type(value, key, "true or false", sink);
            return None;
        };
        Some(*read)
    }
}

impl FromToml for PathBuf {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let text = String::from_toml(value, key, sink)?;
        let path = PathBuf::from(&text);
        if !path.is_absolute() {
            sink.say_hint(
                &value.span(),
                format!("`{key}`: `{text}` is a relative path"),
                "write it from `/`: two processes with different working directories read it",
            );
            return None;
        }
        if path.components().any(|component| component == std::path::Component::ParentDir) {
            sink.say(&value.span(), format!("`{key}`: `{text}` goes upwards with `..`"));
            return None;
        }
        Some(path)
    }
}

impl FromToml for Host {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let text = String::from_toml(value, key, sink)?;
        match host(&text) {
            Ok(host) => Some(host),
            Err(bad) => {
                match bad.hint {
                    Some(hint) => sink.say_hint(&value.span(), format!("`{key}`: {}", bad.message), hint),
                    None => sink.say(&value.span(), format!("`{key}`: {}", bad.message)),
                }
                None
            }
        }
    }
}

/// One of a fixed list of words.
fn word<T: Copy>(
    value: &Spanned<DeValue<'_>>,
    key: &str,
    words: &[(&'static str, T)],
    sink: &mut Sink<'_>,
) -> Option<T> {
    let text = string(value, key, "a text in quotes", sink)?;
    if let Some((_, found)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*found);
    }
    let odd = foreign_character(text).map(|odd| format!(": {odd}")).unwrap_or_default();
    let known = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let hint = match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(near) => format!("did you mean `{near}`? Known: {known}"),
        None => format!("known: {known}"),
    };
    sink.say_hint(&value.span(), format!("`{key}`: `{}` is not known{odd}", text.escape_debug()), hint);
    None
}

/// Which of the two modes, before the address is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModeWord {
    Egress,
    Ingress,
}

impl FromToml for ModeWord {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        word(value, key, &[("egress", ModeWord::Egress), ("ingress", ModeWord::Ingress)], sink)
    }
}

impl FromToml for IpAddr {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let text = String::from_toml(value, key, sink)?;
        let address = text.parse().ok();
        if address.is_none() {
            sink.say(&value.span(), format!("`{key}`: `{}` is no IP address", text.escape_debug()));
        }
        address
    }
}

impl FromToml for Protocol {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        word(value, key, &[("postgres", Protocol::Postgres), ("ssh", Protocol::Ssh)], sink)
    }
}

impl FromToml for Truth {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        const WORDS: &[(&str, Truth)] = &[
            ("off", Truth::Off),
            ("record", Truth::Record),
            ("require", Truth::Require),
            ("judge", Truth::Judge),
        ];
        word(value, key, WORDS, sink)
    }
}

impl FromToml for Unregistered {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        const WORDS: &[(&str, Unregistered)] = &[
            ("deny", Unregistered::Deny),
            ("observe", Unregistered::Observe),
            ("allow", Unregistered::Allow),
        ];
        word(value, key, WORDS, sink)
    }
}

impl FromToml for TlsMode {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        const WORDS: &[(&str, TlsMode)] = &[
            ("verify-full", TlsMode::VerifyFull),
            ("verify-ca", TlsMode::VerifyCa),
            ("require", TlsMode::Require),
            ("disable", TlsMode::Disable),
        ];
        word(value, key, WORDS, sink)
    }
}

impl FromToml for UnixMaintenance {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        word(value, key, &[("owner", UnixMaintenance::Owner), ("nobody", UnixMaintenance::Nobody)], sink)
    }
}

impl FromToml for ClientTls {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        word(value, key, &[("prefer", ClientTls::Prefer), ("require", ClientTls::Require)], sink)
    }
}

impl FromToml for GuardMode {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        word(value, key, &[("enforce", GuardMode::Enforce), ("observe", GuardMode::Observe)], sink)
    }
}

impl FromToml for OnFailure {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        word(value, key, &[("closed", OnFailure::Closed), ("open", OnFailure::Open)], sink)
    }
}

impl FromToml for Transfers {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        word(value, key, &[("digest", Transfers::Digest), ("content", Transfers::Content)], sink)
    }
}

impl FromToml for MaskKind {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        const WORDS: &[(&str, MaskKind)] = &[
            ("redact", MaskKind::Redact),
            ("partial", MaskKind::Partial),
            ("hash", MaskKind::Hash),
            ("null", MaskKind::Null),
        ];
        word(value, key, WORDS, sink)
    }
}

impl FromToml for SelfProtection {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        const WORDS: &[(&str, SelfProtection)] =
            &[("off", SelfProtection::Off), ("on", SelfProtection::On), ("strict", SelfProtection::Strict)];
        word(value, key, WORDS, sink)
    }
}

impl FromToml for PacketSockets {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        word(value, key, &[("allow", PacketSockets::Allow), ("deny", PacketSockets::Deny)], sink)
    }
}

impl FromToml for Layer {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        word(value, key, &Layer::ALL.map(|layer| (layer.name(), layer)), sink)
    }
}

impl FromToml for Algorithm {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let text = string(value, key, "a text in quotes", sink)?;
        let upper = text.to_ascii_uppercase();
        let why = match upper.as_str() {
            "NONE" => "would accept tokens that nobody signed",
            "HS256" | "HS384" | "HS512" => {
                "is symmetric: whoever can verify a token could make one, and the provider's public key would pass as the secret"
            }
            _ => {
                return word(
                    value,
                    key,
                    &Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm)),
                    sink,
                );
            }
        };
        sink.say_hint(
            &value.span(),
            format!("`{key}`: `{text}` {why}"),
            "only RS, PS, ES and EdDSA signatures can be listed",
        );
        None
    }
}
