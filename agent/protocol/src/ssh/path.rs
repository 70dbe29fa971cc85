//! Paths of a target, lexically: nothing here knows what is a link there.
//!
//! In: bytes as a client sends them. Out: the same path for people and policies, absolute or from the account's own
//! directory (`~`), with no `.`, `..` or `//` in it.
//! It must hold that two names of different bytes stay different, and that what can't be said before the target looks
//! (`..` above the account's own directory) has no path at all.

/// Bytes as text: UTF-8 as it stands, anything else as `\xNN`, and a backslash doubled so that no two byte strings
/// become one text.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
        }
        for byte in chunk.invalid() {
            let digits = b"0123456789abcdef";
            out.push_str("\\x");
            for nibble in [byte >> 4, byte & 15] {
                out.push(digits.get(usize::from(nibble)).copied().map_or('?', char::from));
            }
        }
    }
    out
}

/// Where relative paths begin: the directory that the target has told, or the account's own while it has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start(Option<Vec<u8>>);

impl Start {
    /// The account's own directory, whatever its name.
    pub const HOME: Start = Start(None);

    /// A directory that the target has told; anything but an absolute path is the account's own.
    pub fn at(directory: &[u8]) -> Self {
        Start(directory.starts_with(b"/").then(|| directory.to_vec()))
    }

    /// A path as a shell is given it: `~` and `~/…` are the account's own.
    pub fn resolve_written(&self, path: &str) -> Option<String> {
        match path.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                Start::HOME.resolve(rest.trim_start_matches('/').as_bytes())
            }
            _ => self.resolve(path.as_bytes()),
        }
    }

    /// `path` as policies see it; `None` where only the target could say what it is.
    pub fn resolve(&self, path: &[u8]) -> Option<String> {
        // a target that reads C strings would see less of it
        if path.contains(&0) {
            return None;
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        let absolute = path.starts_with(b"/") || self.0.is_some();
        let before = match &self.0 {
            Some(directory) if !path.starts_with(b"/") => directory.as_slice(),
            _ => b"",
        };
        for part in before.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
            match part {
                b"" | b"." => {}
                // above the root is the root
                b".." if absolute => drop(parts.pop()),
                b".." => drop(parts.pop()?),
                _ => parts.push(part),
            }
        }
        let own = |parts: &[&[u8]]| parts.iter().map(|part| escaped(part)).collect::<Vec<_>>().join("/");
        Some(match (absolute, parts.is_empty()) {
            (true, _) => format!("/{}", own(&parts)),
            (false, true) => "~".to_owned(),
            (false, false) => format!("~/{}", own(&parts)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_made_plain() {
        for (start, path, expected) in [
            (Start::HOME, &b"notes"[..], Some("~/notes")),
            (Start::HOME, b"", Some("~")),
            (Start::HOME, b"./a/./b//c/", Some("~/a/b/c")),
            (Start::HOME, b"a/../b", Some("~/b")),
            (Start::HOME, b"../b", None),
            (Start::HOME, b"a/../../b", None),
            (Start::HOME, b"/../../etc//passwd", Some("/etc/passwd")),
            (Start::HOME, b"/", Some("/")),
            (Start::at(b"/home/deploy"), b"../../etc/passwd", Some("/etc/passwd")),
            (Start::at(b"/home/deploy/"), b"", Some("/home/deploy")),
            (Start::at(b"odd"), b"x", Some("~/x")),
            (Start::HOME, b"/srv\0/etc", None),
            (Start::HOME, b"/a\\b", Some("/a\\\\b")),
            (Start::HOME, b"/a\xff", Some("/a\\xff")),
            // a directory that is called so, not somebody's own
            (Start::HOME, b"~/x", Some("~/~/x")),
        ] {
            assert_eq!(start.resolve(path).as_deref(), expected, "{}", escaped(path));
        }
    }

    proptest! {
        #[test]
        fn different_bytes_are_different_texts(a: Vec<u8>, b in "[\\\\xf\u{0}-\u{ff}]{0,8}") {
            let b = b.into_bytes();
            prop_assert_eq!(escaped(&a) == escaped(&b), a == b);
        }

        #[test]
        fn no_path_keeps_a_way_up(path: Vec<u8>) {
            for start in [Start::HOME, Start::at(b"/srv")] {
                if let Some(plain) = start.resolve(&path) {
                    prop_assert!(plain == "/" || !plain.split('/').skip(1).any(|p| p.is_empty() || p == "." || p == ".."));
                    prop_assert!(plain.starts_with('/') || plain.starts_with('~'));
                }
            }
        }
    }
}
