//! Secrets that say what they are: tokens and keys that begin with something that nothing else begins with, and
//! passwords in URLs. Passwords behind a name are found by [`super::pairs`].

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use memchr::memmem;

/// The length of what begins here, if it is one.
type Length = fn(&[u8]) -> Option<usize>;

/// Beginnings, in the forms that their issuers publish.
const PREFIXED: &[(&str, Length)] = &[
    ("eyJ", jwt),
    ("-----BEGIN ", private_key),
    ("AGE-SECRET-KEY-1", |rest| token(rest, 59)),
    // AWS access keys, lasting and temporary
    ("AKIA", aws_key),
    ("ASIA", aws_key),
    // Google
    ("AIza", |rest| token(rest, 39)),
    ("ya29.", |rest| token_with_points(rest, 30)),
    ("GOCSPX-", |rest| token(rest, 28)),
    // GitHub, old and new; GitLab
    ("ghp_", |rest| token(rest, 24)),
    ("gho_", |rest| token(rest, 24)),
    ("ghu_", |rest| token(rest, 24)),
    ("ghs_", |rest| token(rest, 24)),
    ("ghr_", |rest| token(rest, 24)),
    ("github_pat_", |rest| token(rest, 40)),
    ("glpat-", |rest| token_with_points(rest, 24)),
    ("gldt-", |rest| token(rest, 24)),
    ("glrt-", |rest| token_with_points(rest, 24)),
    // Slack
    ("xox", |rest| rest.get(4).filter(|b| **b == b'-').and_then(|_| token(rest, 24))),
    ("xapp-", |rest| token(rest, 24)),
    // Stripe
    ("sk_live_", |rest| token(rest, 24)),
    ("sk_test_", |rest| token(rest, 24)),
    ("rk_live_", |rest| token(rest, 24)),
    ("rk_test_", |rest| token(rest, 24)),
    ("whsec_", |rest| token(rest, 30)),
    // Twilio, SendGrid
    ("SK", twilio),
    ("SG.", |rest| token_with_points(rest, 60)),
    // OpenAI, Anthropic and who does as they do; Hugging Face
    ("sk-", dashed_key),
    ("hf_", |rest| token(rest, 34)),
    // registries
    ("npm_", |rest| token(rest, 40)),
    ("pypi-AgE", |rest| token(rest, 60)),
    // HashiCorp Vault, DigitalOcean
    ("hvs.", |rest| token(rest.get(4..)?, 24).map(|length| length + 4)),
    ("dop_v1_", |rest| token(rest, 71)),
];

/// `None` would be a defect, which a test rules out; everything is then looked at in full.
static NEEDLES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let mut builder = AhoCorasick::builder();
    builder.match_kind(MatchKind::LeftmostFirst);
    builder.build(PREFIXED.iter().map(|(needle, _)| needle)).ok()
});

/// Whether any of the beginnings is somewhere in `bytes`.
pub(in super::super) fn may_begin(bytes: &[u8]) -> bool {
    NEEDLES.as_ref().is_none_or(|needles| needles.is_match(bytes))
}

/// The first secret at or behind `from`.
pub(super) fn prefixed(value: &[u8], from: usize) -> Option<Range<usize>> {
    let mut from = from;
    loop {
        let rest = value.get(from..)?;
        let hit = NEEDLES.as_ref()?.find(rest)?;
        let start = from + hit.start();
        let free = start == 0 || value.get(start - 1).is_none_or(|b| !b.is_ascii_alphanumeric());
        let (_, length) = PREFIXED.get(hit.pattern().as_usize())?;
        if free && let Some(length) = value.get(start..).and_then(length) {
            return Some(start..start + length);
        }
        from = start + 1;
    }
}

/// RFC 3986: the password of `scheme://user:password@host`, the first at or behind `from`.
pub(super) fn url_password(value: &[u8], from: usize) -> Option<Range<usize>> {
    memmem::find_iter(value.get(from..)?, b"://").find_map(|at| {
        let start = from + at + 3;
        let ends =
            |b: &u8| matches!(b, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>') || b.is_ascii_whitespace();
        let rest = value.get(start..)?.get(..1024.min(value.len() - start))?;
        // a password with a slash in it is not escaped as it should be: the last @ before a blank decides
        let authority = rest.iter().position(ends).and_then(|end| rest.get(..end)).unwrap_or(rest);
        let authority = if authority.contains(&b'@') {
            authority
        } else {
            let end = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'<' | b'>' | b'?');
            rest.iter().position(end).and_then(|end| rest.get(..end)).unwrap_or(rest)
        };
        let user_end = memchr::memrchr(b'@', authority)?;
        let colon = memchr::memchr(b':', authority.get(..user_end)?)?;
        let password = authority.get(colon + 1..user_end)?;
        let shown = password.is_empty() || password.iter().all(|b| *b == b'*');
        (!shown).then_some(start + colon + 1..start + user_end)
    })
}

/// RFC 7519 in its compact form: three parts of base64url.
fn jwt(rest: &[u8]) -> Option<usize> {
    let part = |from: &[u8]| from.iter().take_while(|b| is_token(b)).count();
    let head = part(rest);
    let body = part(rest.get(head + 1..).filter(|_| rest.get(head) == Some(&b'.'))?);
    let tail_at = head + 1 + body;
    let tail = part(rest.get(tail_at + 1..).filter(|_| rest.get(tail_at) == Some(&b'.'))?);
    (head >= 10 && body >= 10).then_some(tail_at + 1 + tail)
}

/// RFC 7468, OpenSSH, PGP: from the begin line to the end line, or to the end of the value.
fn private_key(rest: &[u8]) -> Option<usize> {
    let line = rest.get(..64.min(rest.len()))?;
    memmem::find(line, b"PRIVATE KEY-----").or_else(|| memmem::find(line, b"PRIVATE KEY BLOCK-----"))?;
    let end = memmem::find(rest, b"-----END ")
        .and_then(|at| memmem::find(rest.get(at + 9..)?, b"-----").map(|more| at + 9 + more + 5));
    Some(end.unwrap_or(rest.len()))
}

fn aws_key(rest: &[u8]) -> Option<usize> {
    let length = rest.iter().take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit()).count();
    let ends = rest.get(length).is_none_or(|b| !b.is_ascii_alphanumeric());
    (length == 20 && ends).then_some(20)
}

fn twilio(rest: &[u8]) -> Option<usize> {
    let hex = rest.get(2..)?.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).count();
    let ends = rest.get(2 + hex).is_none_or(|b| !b.is_ascii_alphanumeric());
    (hex == 32 && ends).then_some(34)
}

/// Words with dashes begin like this too (`sk-learn-…`): a key has digits and capitals.
fn dashed_key(rest: &[u8]) -> Option<usize> {
    let length = token(rest, 32)?;
    let key = rest.get(..length)?;
    (key.iter().any(u8::is_ascii_digit) && key.iter().any(u8::is_ascii_uppercase)).then_some(length)
}

fn token(rest: &[u8], least: usize) -> Option<usize> {
    let length = rest.iter().take_while(|b| is_token(b)).count();
    (length >= least).then_some(length)
}

fn token_with_points(rest: &[u8], least: usize) -> Option<usize> {
    let mut length = rest.iter().take_while(|b| is_token(b) || **b == b'.').count();
    while length > 0 && rest.get(length - 1) == Some(&b'.') {
        length -= 1;
    }
    (length >= least).then_some(length)
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_needles() {
        assert!(NEEDLES.is_some());
    }

    #[test]
    fn each_issuers_form() {
        let a = |n: usize| "aB3dE6gH9k".repeat(n / 10 + 1).chars().take(n).collect::<String>();
        let hex = "0123456789abcdef".repeat(4);
        for secret in [
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            "ASIAIOSFODNN7EXAMPLE".to_owned(),
            format!("AIza{}", a(35)),
            format!("ya29.{}", a(60)),
            format!("ghp_{}", a(36)),
            format!("ghs_{}", a(36)),
            format!("github_pat_{}_{}", a(22), a(59)),
            format!("glpat-{}", a(20)),
            format!("xoxb-{}", a(40)),
            format!("sk_live_{}", a(24)),
            format!("rk_test_{}", a(24)),
            format!("SK{}", &hex[..32]),
            format!("SG.{}.{}", a(22), a(43)),
            format!("sk-{}", a(48)),
            format!("sk-ant-api03-{}", a(90)),
            format!("sk-proj-{}", a(60)),
            format!("npm_{}", a(36)),
            format!("pypi-AgEIcHlwaS5vcmc{}", a(80)),
            format!("hvs.{}", a(90)),
            format!("dop_v1_{hex}"),
        ] {
            let text = format!("x {secret}, y");
            assert_eq!(prefixed(text.as_bytes(), 0), Some(2..2 + secret.len()), "{secret}");
            let inside = format!("x{secret}");
            assert_eq!(prefixed(inside.as_bytes(), 0), None, "{inside}");
        }
        for text in
            ["AKIA", "sk-learn-is-a-library-for-machine-learning", "SKU 123", "ghp_short", "xoxo", "SG.x"]
        {
            assert_eq!(prefixed(text.as_bytes(), 0), None, "{text}");
        }
    }

    #[test]
    fn passwords_in_urls() {
        let password = |text: &str| url_password(text.as_bytes(), 0).map(|range| text[range].to_owned());
        assert_eq!(password("postgres://bob:hunter2@db:5432/x").as_deref(), Some("hunter2"));
        assert_eq!(password("see redis://:s3cr3t@cache/0 now").as_deref(), Some("s3cr3t"));
        assert_eq!(password("https://u:a/b@host/").as_deref(), Some("a/b"));
        assert_eq!(password("mongodb+srv://u:p@ss@h.example/x").as_deref(), Some("p@ss"));
        for text in ["https://host:443/a", "https://bob@host/", "https://u:****@h/", "://", "a://b:c d@e"] {
            assert_eq!(password(text), None, "{text}");
        }
    }
}
