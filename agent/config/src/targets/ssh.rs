//! The keys of a target that speaks SSH.
use std::net::IpAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use toml::Spanned;
use toml::de::DeValue;

use crate::names::foreign_character;
use crate::parse::once;
use crate::reader::{At, FromToml, Section, Sink, string};
use crate::{SshProof, SshTarget, Truth};

/// Keys of `[[target]]` that this protocol alone has.
pub(super) const KEYS: [&str; 1] = ["truth"];
/// Keys of `[target.upstream]` that this protocol alone has.
pub(super) const UPSTREAM_KEYS: [&str; 5] = ["users", "certificate", "key_file", "host_keys", "host_ca"];

/// Likewise, of `[target.client]`.
pub(super) const CLIENT_KEYS: [&str; 1] = ["host_key_files"];

/// Reads them; `None` after saying why not.
pub(super) fn read(
    target: &mut Section<'_, '_>,
    ingress: bool,
    sink: &mut Sink<'_>,
) -> Option<(SshTarget, IpAddr)> {
    let whose = "a postgres target, and this one is ssh";
    target.foreign(&super::postgres::KEYS, whose, sink);
    let mut client = target.section("client", sink);
    client.foreign(&super::postgres::CLIENT_KEYS, whose, sink);
    let host_key_files = client.or::<Vec<At<PathBuf>>>("host_key_files", Vec::new(), sink);
    if let Some(first) = host_key_files.first() {
        super::ingress_only(&first.span, "host_key_files", ingress, sink);
    }
    client.finish(sink);
    let truth = target.or::<Truth>("truth", Truth::Record, sink);
    let mut section = target.section("upstream", sink);
    section.foreign(&super::postgres::UPSTREAM_KEYS, whose, sink);
    let user = section.required::<At<Account>>("user", sink);
    let users = section.or::<Vec<At<Account>>>("users", Vec::new(), sink);
    let address = super::address(&mut section, ingress, sink);
    let proof = proof(&mut section, sink);
    let host_keys = section.or::<Vec<At<Key>>>("host_keys", Vec::new(), sink);
    let host_ca = section.or::<Vec<At<Key>>>("host_ca", Vec::new(), sink);
    section.finish(sink);
    let keys = |keys: Vec<Key>| keys.into_iter().map(|key| key.0).collect();
    let read = SshTarget {
        user: user?.value.0,
        users: once(users, "target.upstream.users", sink).into_iter().map(|account| account.0).collect(),
        proof: proof?,
        host_keys: keys(once(host_keys, "target.upstream.host_keys", sink)),
        host_ca: keys(once(host_ca, "target.upstream.host_ca", sink)),
        host_key_files: once(host_key_files, "target.client.host_key_files", sink),
        truth,
    };
    Some((read, address))
}

/// Exactly one of the three ways.
fn proof(section: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> Option<SshProof> {
    const WAYS: &str = "certificate = true (by Sluice's own CA), key_file or password_file";
    let certificate = section.get::<At<bool>>("certificate", sink);
    if let Some(no) = certificate.as_ref().filter(|certificate| !certificate.value) {
        sink.say_hint(&no.span, "`target.upstream.certificate` is false", "leave it out instead");
        return None;
    }
    let key = section.get::<At<PathBuf>>("key_file", sink);
    let password = section.get::<At<PathBuf>>("password_file", sink);
    let mut spans: Vec<_> = certificate.iter().map(|certificate| certificate.span.clone()).collect();
    spans.extend([&key, &password].into_iter().flatten().map(|file| file.span.clone()));
    spans.sort_by_key(|span| span.start);
    if let Some(second) = spans.get(1) {
        let message = "there are two ways for Sluice to prove itself to the target";
        sink.say_hint(second, message, format!("leave one of them: {WAYS}"));
        return None;
    }
    match (certificate, key, password) {
        (Some(_), _, _) => Some(SshProof::Certificate),
        (_, Some(key), _) => Some(SshProof::Key(key.value)),
        (_, _, Some(password)) => Some(SshProof::Password(password.value)),
        (None, None, None) => {
            // one that is there and wrong has had its own word
            if ["certificate", "key_file", "password_file"].iter().all(|key| section.raw(key).is_none()) {
                let message = "`target.upstream` does not say how Sluice proves itself to the target";
                sink.say_hint(section.span(), message, format!("one of {WAYS}"));
            }
            None
        }
    }
}

/// The name of an account at the target: it becomes the principal of a certificate and stands in policies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Account(String);

impl FromToml for Account {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let text = String::from_toml(value, key, sink)?;
        if let Some(odd) = foreign_character(&text) {
            sink.say(&value.span(), format!("`{key}`: `{}` is no account: {odd}", text.escape_debug()));
            return None;
        }
        // a colon and a slash end a name in passwd and in paths, a comma one in a list of principals
        if text.starts_with('-') || text.contains(['/', ':', ',']) || text.len() > 255 {
            sink.say_hint(
                &value.span(),
                format!("`{key}`: `{text}` is no account"),
                "letters, digits and `.`, `_`, `-`, `@`, not beginning with `-`",
            );
            return None;
        }
        Some(Account(text))
    }
}

/// A public key as it stands in a `.pub` file, without its comment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key(String);

/// The kinds of keys that are believed. No DSA, and no SHA-1: RSA signs by SHA-2 alone.
const KINDS: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

impl FromToml for Key {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let text = string(value, key, "a public key in quotes", sink)?;
        match public_key(text) {
            Ok(read) => Some(Key(read)),
            Err(why) => {
                let hint = "the first two words of a .pub file, like \"ssh-ed25519 AAAA…\"";
                sink.say_hint(&value.span(), format!("`{key}`: {why}"), hint);
                None
            }
        }
    }
}

/// The two words that are the key, or why it is none.
fn public_key(text: &str) -> Result<String, String> {
    if text.contains("PRIVATE KEY") {
        return Err("this is a private key, which nobody but its owner should have".into());
    }
    let mut words = text.split_ascii_whitespace();
    let (Some(kind), Some(encoded)) = (words.next(), words.next()) else {
        return Err("this is no public key".into());
    };
    if !KINDS.contains(&kind) {
        return Err(format!(
            "`{}` is no kind of key that is used: {}",
            kind.escape_debug(),
            KINDS.join(", ")
        ));
    }
    let blob = STANDARD.decode(encoded).map_err(|_| format!("what stands behind `{kind}` is not base64"))?;
    // RFC 4253, section 6.6: the blob begins with its own kind, as a string
    let named = blob.split_first_chunk::<4>().and_then(|(length, rest)| {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        rest.split_at_checked(length)
    });
    match named {
        Some((inner, rest)) if inner == kind.as_bytes() && !rest.is_empty() => {
            Ok(format!("{kind} {encoded}"))
        }
        _ => Err(format!("what stands behind `{kind}` is not a key of this kind")),
    }
}
