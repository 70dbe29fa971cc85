//! Conversations, in whatever pieces they come.
use bytes::{BufMut as _, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::ssh::path::Start;

/// A field of a packet.
enum F<'a> {
    N(u32),
    L(u64),
    S(&'a [u8]),
}
use F::{L, N, S};

fn packet(kind: u8, fields: &[F<'_>]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u8(kind);
    for field in fields {
        match field {
            N(number) => body.put_u32(*number),
            L(number) => body.put_u64(*number),
            S(text) => {
                body.put_u32(u32::try_from(text.len()).unwrap());
                body.put_slice(text);
            }
        }
    }
    let mut out = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(&body);
    out
}

fn ok(id: u32) -> Vec<u8> {
    packet(101, &[N(id), N(0), S(b"Success"), S(b"")])
}

fn words(bytes: &[u8]) -> (u32, u32, String) {
    let at = |from: usize| u32::from_be_bytes(bytes[from..from + 4].try_into().unwrap());
    assert_eq!((at(0) as usize, bytes[4]), (bytes.len() - 4, 101));
    let end = 17 + at(13) as usize;
    (at(5), at(9), String::from_utf8(bytes[17..end].to_vec()).unwrap())
}

/// Both ends, and what has come of them.
#[derive(Default)]
struct Wire {
    filter: Filter,
    client: BytesMut,
    target: BytesMut,
    to_target: Vec<u8>,
    to_client: Vec<u8>,
    asked: Vec<Call>,
    done: Vec<Done>,
    /// File, offset, content; `true`: upward.
    content: Vec<(bool, FileId, u64, Vec<u8>)>,
    refuses: bool,
}

impl Wire {
    /// Greeted, with the start at /home/deploy.
    fn open() -> Self {
        let mut wire = Wire::default();
        wire.says(&packet(1, &[N(3)])).unwrap();
        wire.hears(&packet(2, &[N(3), S(b"posix-rename@openssh.com"), S(b"1"), S(b"odd@x"), S(b"1")]))
            .unwrap();
        wire.hears(&packet(104, &[N(u32::MAX), N(1), S(b"/home/deploy"), S(b"x"), N(0)])).unwrap();
        wire.to_client.clear();
        wire.to_target.clear();
        wire
    }

    fn says(&mut self, bytes: &[u8]) -> Result<(), InvalidPacket> {
        self.client.extend_from_slice(bytes);
        while let Some(event) = self.filter.from_client(&mut self.client)? {
            match event {
                FromClient::Ask(request) => {
                    self.asked.push(request.call().clone());
                    if self.refuses {
                        let answer = self.filter.refuse(request, "rule x forbids it");
                        self.to_client.extend_from_slice(&answer);
                    } else {
                        let bytes = self.filter.forward(request);
                        self.to_target.extend_from_slice(&bytes);
                    }
                }
                FromClient::Target(bytes) => self.to_target.extend_from_slice(&bytes),
                FromClient::Payload(payload) => {
                    self.to_target.extend_from_slice(&payload.bytes);
                    self.content.push((true, payload.file, payload.offset, payload.bytes.to_vec()));
                }
                FromClient::Client(bytes) => self.to_client.extend_from_slice(&bytes),
            }
        }
        Ok(())
    }

    fn hears(&mut self, bytes: &[u8]) -> Result<(), InvalidPacket> {
        self.target.extend_from_slice(bytes);
        while let Some(event) = self.filter.from_target(&mut self.target)? {
            match event {
                FromTarget::Client(bytes) => self.to_client.extend_from_slice(&bytes),
                FromTarget::Payload(payload) => {
                    self.to_client.extend_from_slice(&payload.bytes);
                    self.content.push((false, payload.file, payload.offset, payload.bytes.to_vec()));
                }
                FromTarget::Target(bytes) => self.to_target.extend_from_slice(&bytes),
                FromTarget::Done(done) => self.done.push(done),
            }
        }
        self.says(b"")
    }

    /// Opens `path` as handle `h`.
    fn opened(&mut self, id: u32, path: &[u8], handle: &[u8]) -> FileId {
        self.says(&packet(3, &[N(id), S(path), N(0b11), N(0)])).unwrap();
        self.hears(&packet(102, &[N(id), S(handle)])).unwrap();
        self.done.last().unwrap().file.unwrap()
    }
}

fn plain(path: &Path) -> &str {
    path.plain.as_deref().unwrap()
}

#[test]
fn the_beginning_announces_what_is_known_and_learns_where_paths_begin() {
    let mut wire = Wire::default();
    wire.says(&packet(1, &[N(6), S(b"newline"), S(b"\n")])).unwrap();
    assert_eq!(wire.to_target, packet(1, &[N(3)]), "version 3 is asked for, whatever the client offers");
    // what the client sends too early waits
    wire.says(&packet(17, &[N(1), S(b"x")])).unwrap();
    assert!(wire.filter.waits() && wire.asked.is_empty());
    let extensions = [
        N(3),
        S(b"fsync@openssh.com"),
        S(b"1"),
        S(b"check-file"),
        S(b"md5"),
        S(b"limits@openssh.com"),
        S(b"2"),
    ];
    wire.hears(&packet(2, &extensions)).unwrap();
    assert!(wire.to_client.is_empty(), "not before the start is known");
    assert_eq!(wire.to_target[9..], packet(16, &[N(u32::MAX), S(b".")]));
    wire.hears(&packet(104, &[N(u32::MAX), N(1), S(b"/home/deploy"), S(b"x"), N(0)])).unwrap();
    assert_eq!(wire.to_client, packet(2, &[N(3), S(b"fsync@openssh.com"), S(b"1")]));
    assert_eq!(*wire.filter.start(), Start::at(b"/home/deploy"));
    let [Call::Look(path)] = wire.asked.as_slice() else { panic!() };
    assert_eq!((plain(path), path.raw.as_ref()), ("/home/deploy/x", &b"x"[..]));
}

#[test]
fn other_versions_and_what_comes_out_of_turn_end_it() {
    for (client, target) in [
        (packet(1, &[N(2)]), vec![]),
        (packet(17, &[N(1), S(b"x")]), vec![]),
        (packet(1, &[N(3)]), packet(2, &[N(4)])),
        (packet(1, &[N(3)]), packet(104, &[N(1), N(0)])),
        (packet(1, &[N(3)]), ok(1)),
    ] {
        let mut wire = Wire::default();
        assert!(wire.says(&client).and_then(|()| wire.hears(&target)).is_err());
    }
    let mut wire = Wire::open();
    assert!(wire.says(&packet(1, &[N(3)])).is_err(), "a second INIT");
    let mut wire = Wire::open();
    assert!(wire.hears(&ok(7)).is_err(), "an answer to nothing");
    let mut wire = Wire::open();
    wire.says(&packet(17, &[N(7), S(b"x")])).unwrap();
    assert!(wire.says(&packet(17, &[N(7), S(b"y")])).is_err(), "a number that is in use");
    let mut wire = Wire::open();
    wire.says(&packet(17, &[N(7), S(b"x")])).unwrap();
    assert!(wire.hears(&packet(102, &[N(7), S(b"h")])).is_err(), "a handle for what opens nothing");
    for length in [0u32, 4, 256 * 1024 + 1, u32::MAX] {
        let mut wire = Wire::open();
        let bytes = [length.to_be_bytes().as_slice(), &[17]].concat();
        assert_eq!(wire.says(&bytes), Err(InvalidPacket::Length(length)));
    }
    for short in [&packet(3, &[N(1), S(b"x")])[..], &packet(18, &[N(1), S(b"x")]), &packet(17, &[N(1), N(9)])]
    {
        assert!(matches!(Wire::open().says(short), Err(InvalidPacket::Malformed(_))));
    }
    let long = packet(17, &[N(1), S(b"x"), N(1)]);
    assert_eq!(Wire::open().says(&long), Err(InvalidPacket::Malformed(17)));
}

#[test]
fn requests_with_paths_are_asked_for() {
    let mut wire = Wire::open();
    for (kind, fields) in [
        (3, &[N(1), S(b"a/../b"), N(0b11_1010), N(5), L(7), N(0o600)][..]),
        (11, &[N(2), S(b"/srv//")]),
        (13, &[N(3), S(b"../../etc/x")]),
        (18, &[N(4), S(b"a"), S(b"/b")]),
        (20, &[N(5), S(b"../x"), S(b"/srv/link")]),
        (9, &[N(6), S(b"a"), N(0)]),
        (200, &[N(7), S(b"hardlink@openssh.com"), S(b"a"), S(b"b")]),
        (200, &[N(8), S(b"expand-path@openssh.com"), S(b"~bob/../x")]),
        (200, &[N(9), S(b"expand-path@openssh.com"), S(b"~//x/.")]),
        (200, &[N(10), S(b"home-directory"), S(b"bob")]),
        (200, &[N(11), S(b"statvfs@openssh.com"), S(b"/srv")]),
        (14, &[N(12), S(b"\xff"), N(0)]),
    ] {
        wire.says(&packet(kind, fields)).unwrap();
    }
    let mut asked = wire.asked.iter();
    let Some(Call::Open { path, flags, attributes }) = asked.next() else { panic!() };
    assert_eq!(plain(path), "/home/deploy/b");
    assert!(!flags.read && flags.write && flags.create && flags.truncate && flags.exclusive && !flags.append);
    assert_eq!((attributes.size, attributes.mode), (Some(7), Some(0o600)));
    assert!(matches!(asked.next(), Some(Call::OpenDirectory(path)) if plain(path) == "/srv"));
    assert!(matches!(asked.next(), Some(Call::Remove(path)) if plain(path) == "/etc/x"));
    assert!(
        matches!(asked.next(), Some(Call::Rename { from, to }) if plain(from) == "/home/deploy/a" && plain(to) == "/b")
    );
    let Some(Call::SymbolicLink { leads, .. }) = asked.next() else { panic!() };
    assert_eq!(leads[0].as_deref(), Some("/x"), "beside the link");
    assert_eq!(leads[1].as_deref(), Some("/srv/link"));
    assert!(matches!(asked.next(), Some(Call::SetAttributes(..))));
    assert!(matches!(asked.next(), Some(Call::HardLink { .. })));
    assert!(
        matches!(asked.next(), Some(Call::Resolve(path)) if path.plain.is_none()),
        "above somebody's own"
    );
    assert!(matches!(asked.next(), Some(Call::Resolve(path)) if plain(path) == "~/x"));
    assert!(matches!(asked.next(), Some(Call::Resolve(path)) if plain(path) == "~bob"));
    assert!(matches!(asked.next(), Some(Call::Look(path)) if plain(path) == "/srv"));
    assert!(
        matches!(asked.next(), Some(Call::MakeDirectory(path, _)) if plain(path) == "/home/deploy/\\xff")
    );
    assert!(asked.next().is_none());
}

#[test]
fn c8_what_is_not_known_never_reaches_the_target() {
    let long = vec![b'a'; 5000];
    for (kind, fields) in [
        (21, &[N(1)][..]),
        (22, &[N(1), S(b"h"), L(0), L(1), N(0)]),
        (255, &[N(1)]),
        (200, &[N(1), S(b"check-file-name"), S(b"/x")]),
        (200, &[N(1), S(b"vendor-id")]),
        (3, &[N(1), S(b"x"), N(0x40), N(0)]),
        (17, &[N(1), S(b"a\0b")]),
        (17, &[N(1), S(&long)]),
        (5, &[N(1), S(b"nothing"), L(0), N(10)]),
        (6, &[N(1), S(b"nothing"), L(0), S(b"content")]),
        (4, &[N(1), S(b"nothing")]),
        (12, &[N(1), S(b"nothing")]),
        (10, &[N(1), S(b"nothing"), N(0)]),
        (200, &[N(1), S(b"copy-data"), S(b"a"), L(0), L(0), S(b"b"), L(0)]),
    ] {
        let mut wire = Wire::open();
        wire.says(&packet(kind, fields)).unwrap();
        assert!(wire.to_target.is_empty() && wire.asked.is_empty(), "{kind}");
        let (id, code, words) = words(&wire.to_client);
        assert!(id == 1 && (code == 4 || code == 8) && !words.is_empty(), "{kind}");
        // the conversation goes on, with the same number
        wire.says(&packet(17, &[N(1), S(b"x")])).unwrap();
        assert_eq!(wire.asked.len(), 1);
    }
}

#[test]
fn a_refusal_is_answered_and_nothing_is_owed() {
    let mut wire = Wire { refuses: true, ..Wire::open() };
    wire.says(&packet(13, &[N(9), S(b"/etc/passwd")])).unwrap();
    assert_eq!(words(&wire.to_client), (9, 3, "rule x forbids it".to_owned()));
    assert!(wire.to_target.is_empty());
    assert!(wire.hears(&ok(9)).is_err(), "it was never asked");
    let long = wire::status(1, 3, &"ä".repeat(5000));
    assert!(words(&long).2.len() <= 1000);
}

#[test]
fn content_belongs_to_its_file() {
    let mut wire = Wire::open();
    let (a, b) = (wire.opened(1, b"a", b"h1"), wire.opened(2, b"b", b"h2"));
    assert_ne!(a, b);
    wire.to_target.clear();
    wire.to_client.clear();
    let write = packet(6, &[N(3), S(b"h1"), L(100), S(b"content")]);
    wire.says(&write).unwrap();
    assert_eq!(wire.to_target, write);
    // answers may come in another order
    wire.says(&packet(5, &[N(4), S(b"h1"), L(0), N(10)])).unwrap();
    wire.says(&packet(5, &[N(5), S(b"h2"), L(50), N(10)])).unwrap();
    let (second, first) = (packet(103, &[N(5), S(b"of b")]), packet(103, &[N(4), S(b"of a")]));
    wire.hears(&[second, first, packet(101, &[N(3), N(4), S(b"disk full"), S(b"")])].concat()).unwrap();
    let content: Vec<_> =
        wire.content.iter().map(|(up, file, at, bytes)| (*up, *file, *at, bytes.as_slice())).collect();
    assert_eq!(content, [(true, a, 100, &b"content"[..]), (false, b, 50, b"of b"), (false, a, 0, b"of a")]);

    wire.says(&packet(4, &[N(6), S(b"h1")])).unwrap();
    wire.hears(&ok(6)).unwrap();
    let done = wire.done.last().unwrap();
    assert_eq!((done.file, done.failed.clone()), (Some(a), Some((4, "disk full".to_owned()))));
    wire.to_client.clear();
    wire.says(&packet(5, &[N(7), S(b"h1"), L(0), N(10)])).unwrap();
    assert_eq!(words(&wire.to_client).0, 7, "closed is closed");
    // the target may use the name again
    let c = wire.opened(8, b"c", b"h1");
    assert!(c != a && c != b);
}

#[test]
fn answers_of_another_shape_end_it() {
    for (request, answer) in [
        (packet(5, &[N(4), S(b"h"), L(0), N(3)]), packet(103, &[N(4), S(b"too much")])),
        (packet(5, &[N(4), S(b"h"), L(0), N(3)]), packet(104, &[N(4), N(0)])),
        (packet(6, &[N(4), S(b"h"), L(0), S(b"x")]), packet(103, &[N(4), S(b"x")])),
        (packet(3, &[N(4), S(b"x"), N(1), N(0)]), packet(103, &[N(4), S(b"x")])),
        (packet(3, &[N(4), S(b"x"), N(1), N(0)]), packet(102, &[N(4), S(b"h")])),
        (packet(8, &[N(4), S(b"h")]), packet(104, &[N(4), N(0)])),
    ] {
        let mut wire = Wire::open();
        wire.opened(1, b"a", b"h");
        wire.says(&request).unwrap();
        assert!(wire.hears(&answer).is_err());
    }
}

#[test]
fn what_is_in_flight_is_bounded() {
    let mut wire = Wire::open();
    wire.opened(1, b"a", b"h");
    for id in 0..=u32::try_from(MAX_IN_FLIGHT).unwrap() {
        wire.says(&packet(5, &[N(id), S(b"h"), L(0), N(1)])).unwrap();
    }
    assert!(wire.filter.waits() && !wire.client.is_empty());
    wire.hears(&packet(103, &[N(0), S(b"x")])).unwrap();
    assert!(wire.client.is_empty(), "the next one goes on");
    wire.client.extend_from_slice(&vec![0; MAX_WAITING + 1]);
    assert!(matches!(wire.filter.from_client(&mut wire.client), Err(InvalidPacket::TooMany)));
    let mut wire = Wire::open();
    for id in 0..u32::try_from(MAX_OPEN).unwrap() {
        wire.opened(id, b"a", &id.to_be_bytes());
    }
    wire.to_client.clear();
    wire.says(&packet(11, &[N(1), S(b"x")])).unwrap();
    assert_eq!(words(&wire.to_client).1, 4);
}

/// A whole conversation.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let client = [
        packet(3, &[N(2), S(b"a"), N(0b11), N(0)]),
        packet(17, &[N(3), S(b"b")]),
        packet(200, &[N(4), S(b"odd@x"), S(b"y")]),
        packet(6, &[N(5), S(b"none"), L(0), S(b"goes nowhere")]),
        packet(13, &[N(6), S(b"c")]),
    ];
    let target = [packet(102, &[N(2), S(b"h")]), packet(105, &[N(3), N(0)]), ok(6)];
    (client.concat(), target.concat())
}

proptest! {
    #[test]
    fn pieces_make_no_difference(cuts in proptest::collection::vec(1..40usize, 1..40)) {
        let (client, target) = conversation();
        let mut whole = Wire::open();
        whole.says(&client).unwrap();
        whole.hears(&target).unwrap();
        let mut pieces = Wire::open();
        let mut cuts = cuts.iter().cycle();
        let mut rest = &client[..];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            pieces.says(piece).unwrap();
            rest = more;
        }
        let mut rest = &target[..];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            pieces.hears(piece).unwrap();
            rest = more;
        }
        prop_assert_eq!(&whole.to_target, &pieces.to_target);
        prop_assert_eq!(&whole.to_client, &pieces.to_client);
        prop_assert_eq!(whole.asked, pieces.asked);
        prop_assert!(!String::from_utf8_lossy(&whole.to_target).contains("nowhere"));
    }

    #[test]
    fn nothing_panics(client: Vec<u8>, target: Vec<u8>, kinds in proptest::collection::vec((0..=255u8, any::<Vec<u8>>()), 0..20)) {
        let mut wire = Wire::open();
        let _ = wire.says(&client);
        let _ = wire.hears(&target);
        let mut wire = Wire::open();
        wire.opened(1, b"a", b"h");
        for (kind, body) in kinds {
            let packet = [&u32::try_from(body.len() + 1).unwrap().to_be_bytes()[..], &[kind], &body].concat();
            if kind < 100 || kind == 200 {
                let _ = wire.says(&packet);
            } else {
                let _ = wire.hears(&packet);
            }
        }
    }

    /// A request of any kind: what reaches the target was asked for, or is one of those that name nothing.
    #[test]
    fn nothing_passes_unasked(kind in 3..=30u8, path in "[a-z/.]{0,12}", more: Vec<u8>) {
        let mut wire = Wire { refuses: true, ..Wire::open() };
        wire.opened_by_force();
        let mut packet = packet(kind, &[N(9), S(path.as_bytes())]);
        packet.extend_from_slice(&more);
        let length = u32::try_from(packet.len() - 4).unwrap().to_be_bytes();
        packet[..4].copy_from_slice(&length);
        let _ = wire.says(&packet);
        prop_assert!(wire.to_target.is_empty(), "{kind} passed, though there is no handle {path:?}");
    }
}

impl Wire {
    /// A handle that no path of the test is.
    fn opened_by_force(&mut self) {
        let path = Path { raw: Bytes::from_static(b"/x"), plain: Some("/x".to_owned()) };
        let opened = filter::Opened { file: FileId(99), path };
        self.filter.opened.insert(Bytes::from_static(b"HANDLE"), opened);
    }
}
