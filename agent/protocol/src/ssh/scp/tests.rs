//! Copies, in whatever pieces they come.
use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::ssh::command::Scp;

/// Both ends, and what has come of them.
struct Wire {
    copy: Copy,
    client: BytesMut,
    target: BytesMut,
    to_client: Vec<u8>,
    to_target: Vec<u8>,
    asked: Vec<(bool, bool, Vec<String>, u64, u32)>,
    content: Vec<u8>,
    done: Vec<Option<String>>,
    /// Refuses files whose places contain this.
    refuses: Option<&'static str>,
}

fn asked(flags: &str, paths: &[&str]) -> Scp {
    let has = |flag| flags.contains(flag);
    Scp {
        receives: has('t'),
        recursive: has('r'),
        preserves: has('p'),
        directory: has('d'),
        paths: paths.iter().map(ToString::to_string).collect(),
    }
}

impl Wire {
    fn new(flags: &str, paths: &[&str]) -> Self {
        Wire {
            copy: Copy::new(asked(flags, paths)),
            client: BytesMut::new(),
            target: BytesMut::new(),
            to_client: Vec::new(),
            to_target: Vec::new(),
            asked: Vec::new(),
            content: Vec::new(),
            done: Vec::new(),
            refuses: None,
        }
    }

    fn hears(&mut self, side: Side, bytes: &[u8]) -> Result<(), InvalidCopy> {
        match side {
            Side::Client => self.client.extend_from_slice(bytes),
            Side::Target => self.target.extend_from_slice(bytes),
        }
        loop {
            let event = match self.copy.from(Side::Client, &mut self.client)? {
                Some(event) => Some(event),
                None => self.copy.from(Side::Target, &mut self.target)?,
            };
            match event {
                None => return Ok(()),
                Some(Event::Ask(file)) => {
                    self.asked.push((file.upload, file.directory, file.paths.clone(), file.size, file.mode));
                    let no =
                        self.refuses.is_some_and(|part| file.paths.iter().any(|path| path.contains(part)));
                    let sent = if no {
                        self.copy.refuse(file, "rule x forbids it\nreally")
                    } else {
                        vec![self.copy.forward(file)]
                    };
                    sent.into_iter().for_each(|(side, bytes)| self.send(side, &bytes));
                }
                Some(Event::Send(side, bytes)) => self.send(side, &bytes),
                Some(Event::Payload(side, bytes)) => {
                    self.content.extend_from_slice(&bytes);
                    self.send(side, &bytes);
                }
                Some(Event::Done { failed }) => self.done.push(failed),
            }
        }
    }

    fn send(&mut self, side: Side, bytes: &[u8]) {
        match side {
            Side::Client => self.to_client.extend_from_slice(bytes),
            Side::Target => self.to_target.extend_from_slice(bytes),
        }
    }

    fn client(&mut self, bytes: &[u8]) -> &mut Self {
        self.hears(Side::Client, bytes).unwrap();
        self
    }

    fn target(&mut self, bytes: &[u8]) -> &mut Self {
        self.hears(Side::Target, bytes).unwrap();
        self
    }

    fn places(&self) -> Vec<Vec<&str>> {
        self.asked.iter().map(|(_, _, paths, ..)| paths.iter().map(String::as_str).collect()).collect()
    }
}

#[test]
fn a_file_goes_up() {
    let mut wire = Wire::new("t", &["/srv/x"]);
    wire.target(b"\0").client(b"C0644 7 name\n").target(b"\0").client(b"content\0").target(b"\0");
    assert_eq!(wire.asked, [(true, false, vec!["/srv/x".into(), "/srv/x/name".into()], 7, 0o644)]);
    assert_eq!(wire.to_target, b"C0644 7 name\ncontent\0");
    assert_eq!(wire.to_client, b"\0\0\0");
    assert_eq!((wire.content.as_slice(), wire.done), (&b"content"[..], vec![None]));
}

#[test]
fn a_file_comes_down() {
    let mut wire = Wire::new("fp", &["/srv/a b"]);
    wire.client(b"\0")
        .target(b"T1 0 2 0\n")
        .client(b"\0")
        .target(b"C0600 0 a b\n")
        .client(b"\0")
        .target(b"\0");
    wire.client(b"\0");
    assert_eq!(wire.asked, [(false, false, vec!["/srv/a b".into()], 0, 0o600)]);
    assert_eq!(wire.to_client, b"T1 0 2 0\nC0600 0 a b\n\0");
    assert_eq!((wire.to_target.as_slice(), wire.done), (&b"\0\0\0\0"[..], vec![None]));
}

#[test]
fn trees_are_followed() {
    let mut wire = Wire::new("tr", &["~/up"]);
    wire.target(b"\0").client(b"D0755 0 tree\n").target(b"\0").client(b"C0644 1 a\n").target(b"\0");
    wire.client(b"x\0")
        .target(b"\0")
        .client(b"D0755 0 sub\n")
        .target(b"\0")
        .client(b"C0644 0 b\n")
        .target(b"\0");
    wire.client(b"\0").target(b"\0").client(b"E\n").target(b"\0").client(b"E\n").target(b"\0");
    wire.client(b"C0644 0 last\n");
    assert_eq!(
        wire.places(),
        [
            vec!["~/up", "~/up/tree"],
            vec!["~/up/a", "~/up/tree/a"],
            vec!["~/up/sub", "~/up/tree/sub"],
            vec!["~/up/sub/b", "~/up/tree/sub/b"],
            vec!["~/up", "~/up/last"],
        ]
    );
}

#[test]
fn places_are_every_place_where_it_may_lie() {
    for (flags, paths, name, expected) in [
        ("t", &["/tmp"][..], "x", &["/tmp", "/tmp/x"][..]),
        ("td", &["/tmp"], "x", &["/tmp/x"]),
        ("t", &["/tmp/"], "x", &["/tmp/x"]),
        ("t", &["."], "x", &["~/x"]),
        ("t", &["~"], "x", &["~/x"]),
        ("t", &["/"], "x", &["/x"]),
        ("t", &["../x"], "x", &[]),
        ("f", &["/srv/x"], "x", &["/srv/x"]),
        ("f", &["/a/x", "/b/x", "/c"], "x", &["/a/x", "/b/x"]),
        ("f", &["/srv/x"], "y", &["/srv/x", "/srv/x/y"]),
        ("f", &["a", "../b"], "a", &[]),
    ] {
        let mut wire = Wire::new(flags, paths);
        let (receiver, sender) =
            if flags.contains('t') { (Side::Target, Side::Client) } else { (Side::Client, Side::Target) };
        wire.hears(receiver, b"\0").unwrap();
        wire.hears(sender, format!("C0644 1 {name}\n").as_bytes()).unwrap();
        assert_eq!(wire.places(), [expected.to_vec()], "{flags} {paths:?} {name}");
    }
}

#[test]
fn a_refused_file_is_left_out_and_the_next_one_goes() {
    let mut wire = Wire { refuses: Some("secret"), ..Wire::new("td", &["/srv"]) };
    wire.target(b"\0")
        .client(b"C0644 7 secret\n")
        .client(b"C0644 1 open\n")
        .target(b"\0")
        .client(b"x\0")
        .target(b"\0");
    assert_eq!(wire.to_target, b"C0644 1 open\nx\0");
    assert_eq!(wire.to_client, b"\0\x01scp: /srv/secret: rule x forbids it really\n\0\0");

    let mut wire = Wire { refuses: Some("secret"), ..Wire::new("f", &["/srv/secret", "/srv/open"]) };
    wire.client(b"\0")
        .target(b"C0644 7 secret\n")
        .target(b"C0644 1 open\n")
        .client(b"\0")
        .target(b"x\0")
        .client(b"\0");
    assert_eq!(wire.to_target, b"\0\x01scp: refused\n\0\0");
    assert_eq!(wire.to_client, b"\x01scp: /srv/secret: rule x forbids it really\nC0644 1 open\nx\0");
}

#[test]
fn either_side_may_fail() {
    // the target can't write it
    let mut wire = Wire::new("t", &["/srv/"]);
    wire.target(b"\0")
        .client(b"C0644 1 a\n")
        .target(b"\x01scp: a: no\n")
        .client(b"C0644 1 b\n")
        .target(b"\0");
    wire.client(b"x\0").target(b"\x01scp: b: disk full\n");
    assert_eq!(wire.done, [Some("scp: a: no".into()), Some("scp: b: disk full".into())]);
    // it says so before it has read all
    let mut wire = Wire::new("t", &["/srv/"]);
    wire.target(b"\0")
        .client(b"C0644 2 a\n")
        .target(b"\0")
        .client(b"x")
        .target(b"\x01early\n")
        .client(b"y\0");
    assert_eq!(wire.done, [Some("early".into())]);
    // the client could not read all of it
    let mut wire = Wire::new("t", &["/srv/"]);
    wire.target(b"\0").client(b"C0644 1 a\n").target(b"\0").client(b"x\x01scp: a: gone\n").target(b"\0");
    assert_eq!(wire.done, [Some("scp: a: gone".into())]);
    // a file that the target can't open is a message that nobody answers
    let mut wire = Wire::new("f", &["/a", "/b"]);
    wire.client(b"\0").target(b"\x01scp: /a: no\nC0644 0 b\n").client(b"\0").target(b"\0").client(b"\0");
    assert_eq!(wire.to_client, b"\x01scp: /a: no\nC0644 0 b\n\0");
    // the end, at any time
    for fatal in [&b"\x02scp: fatal\n"[..], b"scp: not found\n"] {
        let mut wire = Wire::new("t", &["/srv/"]);
        wire.target(fatal);
        assert_eq!(wire.to_client, fatal);
        assert!(wire.hears(Side::Client, b"C0644 1 a\n").is_err());
    }
}

#[test]
fn what_is_not_understood_ends_it() {
    for line in [
        &b"C644 1 x\n"[..],
        b"C0644 1\n",
        b"C0644 -1 x\n",
        b"C0644 1 ..\n",
        b"C0644 1 .\n",
        b"C0644 1 a/b\n",
        b"C0644 1 \n",
        b"C0844 1 x\n",
        b"C0644 99999999999999999999 x\n",
        b"C0644 1 a\0b\n",
        b"D0755 0 x\n",
        b"E\n",
        b"T1 0 2 0\n",
        b"X\n",
        b"\n",
        b"C0644 +1 x\n",
        b"c0644 1 x\n",
    ] {
        let mut wire = Wire::new("t", &["/srv"]);
        wire.target(b"\0");
        assert!(wire.hears(Side::Client, line).is_err(), "{line:?}");
        assert!(wire.to_target.is_empty());
    }
    let mut wire = Wire::new("t", &["/srv"]);
    wire.target(b"\0");
    assert!(wire.hears(Side::Client, &[b'C'; 2100]).is_err(), "a line without an end");
    let mut wire = Wire::new("t", &["/srv"]);
    wire.target(b"\0");
    let long = format!("C0644 1 {}\n", "x".repeat(2100));
    assert!(wire.hears(Side::Client, long.as_bytes()).is_err(), "a line that some would take for two");
    let mut wire = Wire::new("t", &["/srv"]);
    wire.target(b"\0");
    assert_eq!(wire.hears(Side::Target, b"\0"), Err(InvalidCopy::Unexpected), "an answer to nothing");
    let mut wire = Wire::new("t", &["/srv"]);
    assert!(wire.hears(Side::Client, &[b'C'; 70_000]).is_err(), "before the target is there");
}

/// A target that says more than it was asked would be a line ahead of us, and take content for lines.
#[test]
fn c8_a_message_too_many_does_not_shift_the_copy() {
    let mut wire = Wire::new("trp", &["/srv"]);
    wire.target(b"\0")
        .client(b"T1 0 1 0\n")
        .target(b"\0")
        .client(b"D0755 0 d\n")
        .target(b"\0")
        .client(b"E\n");
    wire.to_target.clear();
    wire.to_client.clear();
    wire.target(b"\0");
    assert_eq!((wire.to_target.as_slice(), wire.to_client.as_slice()), (&b"T0 0 0 0\n"[..], &b""[..]));
    wire.target(b"\x01scp: d: set times: no\n\0");
    assert_eq!(wire.to_client, b"\x01scp: d: set times: no\n", "one answer, with what was wrong");
    wire.client(b"T1 0 1 0\n")
        .target(b"\0")
        .client(b"C0644 1 a\n")
        .target(b"\0")
        .client(b"x\0")
        .target(b"\0");
    assert_eq!(wire.done, [None]);
}

proptest! {
    #[test]
    fn pieces_make_no_difference(cuts in proptest::collection::vec(1..9usize, 1..20)) {
        let steps: [(Side, &[u8]); 10] = [
            (Side::Target, b"\0"), (Side::Client, b"D0755 0 tree\n"), (Side::Target, b"\0"),
            (Side::Client, b"C0644 7 secret\nC0644 12 a\n"), (Side::Target, b"\0"),
            (Side::Client, b"twelve bytes\0"), (Side::Target, b"\x01no\n"), (Side::Client, b"E\n"), (Side::Target, b"\0"),
            (Side::Client, b"C0644 0 b\n"),
        ];
        let mut whole = Wire { refuses: Some("secret"), ..Wire::new("tr", &["/srv"]) };
        let mut pieces = Wire { refuses: Some("secret"), ..Wire::new("tr", &["/srv"]) };
        let mut cuts = cuts.iter().cycle();
        for (side, bytes) in steps {
            whole.hears(side, bytes).unwrap();
            let mut rest = bytes;
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                pieces.hears(side, piece).unwrap();
                rest = more;
            }
        }
        prop_assert_eq!((&whole.to_target, &whole.to_client), (&pieces.to_target, &pieces.to_client));
        prop_assert_eq!(&whole.asked, &pieces.asked);
        prop_assert_eq!(&whole.content, b"twelve bytes");
        prop_assert_eq!(&whole.done, &[Some("no".to_owned())]);
    }

    /// Whatever either side says: no panic, and no line with a name goes on that was not asked for.
    #[test]
    fn nothing_passes_unasked(steps in proptest::collection::vec((any::<bool>(), "[\u{0}-\u{2}CDET0-7 a\n]{0,16}"), 0..16), up: bool) {
        let flags = if up { "trp" } else { "frp" };
        let mut wire = Wire { refuses: Some(""), ..Wire::new(flags, &["/srv"]) };
        for (client, bytes) in steps {
            let side = if client { Side::Client } else { Side::Target };
            if wire.hears(side, bytes.as_bytes()).is_err() {
                break;
            }
        }
        let sent = if up { &wire.to_target } else { &wire.to_client };
        for line in sent.split(|byte| *byte == b'\n') {
            prop_assert!(!line.starts_with(b"C") && !line.starts_with(b"D"), "{}", String::from_utf8_lossy(line));
        }
        prop_assert!(wire.content.is_empty());
    }
}
