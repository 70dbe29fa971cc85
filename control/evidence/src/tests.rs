use std::sync::Arc;

use proptest::prelude::*;
use ring::rand::SystemRandom;

use crate::ledger::{Ledger, Record, Standing};
use crate::*;

const ID: [u8; 16] = [7; 16];

fn key(name: &str) -> Arc<SigningKey> {
    let pkcs8 = SigningKey::generate_pkcs8(&SystemRandom::new()).unwrap();
    Arc::new(SigningKey::from_pkcs8(name, &pkcs8).unwrap())
}

/// A sealed file and where its frames begin, the end included.
fn sealed(key: &Arc<SigningKey>, payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let (mut out, mut bounds, writer) = open(key, payloads);
    writer.seal(End::Closed, 99, &mut out);
    bounds.push(out.len());
    (out, bounds)
}

fn open(key: &Arc<SigningKey>, payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>, Writer) {
    let mut out = Vec::new();
    let mut writer = Writer::begin(FileKind::Session, ID, 1, Arc::clone(key), &mut out);
    let mut bounds = vec![out.len()];
    for (n, payload) in payloads.iter().enumerate() {
        writer.append(false, n as i64, payload, &mut out).unwrap();
        bounds.push(out.len());
    }
    (out, bounds, writer)
}

fn check(bytes: &[u8], key: &SigningKey) -> Result<Report, Broken> {
    verify(bytes, &[key.public().clone()], Accept::Sealed)
}

fn read_all(bytes: &[u8]) -> Result<Vec<(FrameKind, Vec<u8>)>, Broken> {
    let mut reader = Reader::new(bytes)?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next()? {
        frames.push((frame.kind, frame.payload.to_vec()));
    }
    Ok(frames)
}

fn sample() -> Vec<Vec<u8>> {
    vec![
        b"opened".to_vec(),
        vec![],
        vec![b'x'; 3000],
        b"select 1".to_vec(),
        (0..=255).cycle().take(700).collect(),
    ]
}

#[test]
fn what_goes_in_comes_out() {
    let key = key("host");
    let (bytes, _) = sealed(&key, &sample());
    let frames = read_all(&bytes).unwrap();
    let plain: Vec<_> = frames.iter().filter(|f| f.0 == FrameKind::Entry).map(|f| f.1.clone()).collect();
    assert_eq!(plain, sample());
    let report = check(&bytes, &key).unwrap();
    assert_eq!((report.entries, report.frames, report.signed_frames), (5, 6, 6));
    assert_eq!(report.state, State::Sealed(End::Closed));
    assert!(bytes.len() < 3000, "3,000 equal bytes are stored compressed");
}

#[test]
fn p6_every_flipped_byte_is_found_at_its_frame() {
    let key = key("host");
    let (bytes, bounds) = sealed(&key, &sample());
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            let broken = check(&changed, &key).unwrap_err();
            let frame = bounds.iter().filter(|b| **b <= at).count() as u64;
            assert_eq!(broken.frame, frame, "byte {at}: {broken}");
        }
    }
}

#[test]
fn p6_every_cut_tail_is_found() {
    let key = key("host");
    let (bytes, bounds) = sealed(&key, &sample());
    for length in 0..bytes.len() {
        let broken = check(&bytes[..length], &key).unwrap_err();
        if bounds.contains(&length) {
            assert_eq!(broken.what, Damage::NotSealed, "{length}");
        } else {
            assert!(matches!(broken.what, Damage::Torn { .. }), "{length}: {broken}");
        }
    }
}

#[test]
fn p6_swapped_dropped_doubled_and_foreign_frames_are_found() {
    let key = key("host");
    // equal lengths and equal contents too: only the chain tells them apart
    let payloads = vec![b"aaaa".to_vec(), b"bbbb".to_vec(), b"aaaa".to_vec(), b"cccc".to_vec()];
    let (bytes, bounds) = sealed(&key, &payloads);
    let frames: Vec<&[u8]> = bounds.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
    let build = |order: &[usize]| {
        let mut out = bytes[..bounds[0]].to_vec();
        order.iter().for_each(|n| out.extend_from_slice(frames[*n]));
        out
    };
    assert!(check(&build(&[0, 1, 2, 3, 4]), &key).is_ok());
    for a in 0..5 {
        for b in a + 1..5 {
            let mut order = [0, 1, 2, 3, 4];
            order.swap(a, b);
            assert_eq!(check(&build(&order), &key).unwrap_err().frame, a as u64 + 1, "{order:?}");
        }
        let dropped: Vec<_> = (0..5).filter(|n| *n != a).collect();
        assert!(check(&build(&dropped), &key).is_err(), "{dropped:?}");
        let mut doubled = vec![0, 1, 2, 3, 4];
        doubled.insert(a, a);
        assert!(check(&build(&doubled), &key).is_err(), "{doubled:?}");
    }
    let mut behind = bytes.clone();
    behind.push(0);
    assert_eq!(check(&behind, &key).unwrap_err().what, Damage::BehindSeal);
}

#[test]
fn p6_whoever_recomputes_the_chain_lacks_the_key() {
    let (host, other) = (key("host"), key("host"));
    let (forged, _) = sealed(&other, &sample());
    let broken = check(&forged, &host).unwrap_err();
    assert_eq!(broken.what, Damage::UntrustedKey(other.public().id()));
    // the seal of one recording under another
    let (a, bounds_a) = sealed(&host, &[b"a".to_vec()]);
    let (b, bounds_b) = sealed(&host, &[b"b".to_vec()]);
    let mixed = [&a[..bounds_a[1]], &b[bounds_b[1]..]].concat();
    assert_eq!(check(&mixed, &host).unwrap_err().what, Damage::Chain);
}

#[test]
fn h20_recovery_cuts_only_what_was_never_whole() {
    let key = key("host");
    let keys = [key.public().clone()];
    let (bytes, bounds, _) = open(&key, &sample());
    for length in HEADER_LEN..bytes.len() {
        let found = recover(&bytes[..length], &keys).unwrap();
        let whole = bounds.iter().rfind(|b| **b <= length).unwrap();
        assert_eq!(found.bytes, *whole as u64);
        assert_eq!(found.torn_bytes(), (length - whole) as u64);
        let mut file = bytes[..*whole].to_vec();
        let mut writer = Writer::resume(&found, Arc::clone(&key));
        writer.append(true, 5, b"gap", &mut file).unwrap();
        writer.seal(End::Recovered, 6, &mut file);
        let report = check(&file, &key).unwrap();
        assert_eq!((report.state, report.gaps), (State::Sealed(End::Recovered), 1));
    }
    // zeros that a file system left
    let mut zeros = bytes.clone();
    zeros.resize(bytes.len() + 9000, 0);
    assert_eq!(recover(&zeros[..], &keys).unwrap().torn_bytes(), 9000);
    // a change in the middle is not a torn tail
    let mut changed = bytes.clone();
    changed[bounds[1] + 2] ^= 1;
    assert_eq!(recover(&changed[..], &keys).unwrap_err().what, Damage::Length);
    changed = bytes.clone();
    changed[bounds[3] - 1] ^= 1;
    assert_eq!(recover(&changed[..], &keys).unwrap_err().what, Damage::Chain);
}

#[test]
fn live_files_and_checkpoints() {
    let key = key("host");
    let (mut bytes, _, mut writer) = open(&key, &sample());
    writer.checkpoint(7, &mut bytes);
    writer.append(false, 8, b"behind it", &mut bytes).unwrap();
    bytes.extend_from_slice(b"\0\0\0");
    assert!(check(&bytes[..bytes.len() - 3], &key).is_err());
    let report = verify(&bytes[..], &[key.public().clone()], Accept::Live).unwrap();
    assert_eq!((report.signed_frames, report.frames), (6, 7));
    assert_eq!(report.state, State::Live { torn_bytes: 3 });
}

#[test]
fn long_recordings_are_signed_on_the_way() {
    let key = key("host");
    let (bytes, ..) = open(&key, &vec![b"x".to_vec(); 10_000]);
    let report = verify(&bytes[..], &[key.public().clone()], Accept::Live).unwrap();
    assert!(report.signed_frames >= 8192, "{report:?}");
    let mut out = Vec::new();
    let mut writer = Writer::begin(FileKind::Session, ID, 0, Arc::clone(&key), &mut out);
    writer.append(false, 61_000_000, b"x", &mut out).unwrap();
    assert_eq!(writer.frames(), 2, "a minute has gone by: entry and checkpoint");
}

#[test]
fn s25_a_bomb_takes_no_memory() {
    let key = key("host");
    // a frame that announces 4 GiB behind 40 bytes of zstd, and one that unfolds to more than it says
    for announced in [u32::MAX, (MAX_PAYLOAD + 1) as u32, 10] {
        let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 1).unwrap();
        let payload = [&announced.to_be_bytes()[..], &bomb].concat();
        let head = format::FrameHead {
            length: payload.len() as u32,
            kind: FrameKind::Entry,
            zstd: true,
            time_us: 0,
        };
        let (mut bytes, _, _) = open(&key, &[]);
        let chain = Reader::new(&bytes[..]).unwrap().root().0;
        let head = head.encode();
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&format::next_hash(&chain, &head, &payload));
        assert_eq!(read_all(&bytes).unwrap_err().what, Damage::Compression);
    }
    let (mut bytes, _, mut writer) = open(&key, &[]);
    let before = bytes.len();
    assert_eq!(writer.append(false, 0, &vec![0; MAX_PAYLOAD + 1], &mut bytes), Err(TooLong(MAX_PAYLOAD + 1)));
    assert_eq!((bytes.len(), writer.frames()), (before, 0));
}

#[test]
fn public_keys_are_those_of_signed_notes() {
    // published: the documentation of Go's note package, and the checksum database
    for line in [
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
    ] {
        let key: PublicKey = line.parse().unwrap();
        assert_eq!(key.to_string(), line);
        assert_eq!(key.id().to_string()[..8], *line.split('+').nth(1).unwrap());
    }
    let note = "If you think cryptography is the answer to your problem,\n\
                then you don't know what your problem is.\n";
    let signature = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
    )
    .unwrap();
    let peter: PublicKey =
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
    assert!(peter.signed(note.as_bytes(), &signature[4..]));
    assert!(!peter.signed(b"other\n", &signature[4..]));
    for (line, why) in [
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", InvalidKey::Hash),
        ("Peter+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", InvalidKey::Hash),
        ("PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", InvalidKey::Algorithm),
        ("PeterNeumann+c74f20a3", InvalidKey::Form),
        ("a b+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", InvalidKey::Name),
        ("", InvalidKey::Form),
    ] {
        assert_eq!(line.parse::<PublicKey>().unwrap_err(), why, "{line}");
    }
}

#[test]
fn the_format_is_what_the_table_says() {
    // golden: a file of version 1 stays readable for ever; SHA-256 recomputed here by the table alone
    let seed = [1; 32];
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let public = ring::signature::KeyPair::public_key(&pair);
    let public = PublicKey::new("golden", public.as_ref().try_into().unwrap()).unwrap();
    let sha = |parts: &[&[u8]]| ring::digest::digest(&ring::digest::SHA256, &parts.concat());
    let mut file = b"\x89SLR\r\n\x1a\n\0\x01\x01\0\0\0\0\0".to_vec();
    file.extend_from_slice(&ID);
    file.extend_from_slice(&public.id().0);
    file.extend_from_slice(&1_000_000_i64.to_be_bytes());
    let hash = sha(&[b"sluice recording v1\0", &file]);
    file.extend_from_slice(&hash.as_ref()[..16]);
    let head = b"\0\0\0\x02\xff\xff\xff\xfd\x01\0\0\0\0\0\0\0\0\0\0\x09";
    let hash1 = sha(&[hash.as_ref(), head, b"hi"]);
    file.extend_from_slice(&[&head[..], b"hi", hash1.as_ref()].concat());
    let head = b"\0\0\0\x51\xff\xff\xff\xae\x04\0\0\0\0\0\0\0\0\0\0\x0a";
    let statement = [
        &b"sluice recording statement v1\0\x04\x01"[..],
        &ID,
        &[1],
        &1_u64.to_be_bytes(),
        hash1.as_ref(),
        &10_i64.to_be_bytes(),
        &public.id().0,
    ]
    .concat();
    let payload = [&[1][..], &1_u64.to_be_bytes(), &public.id().0, pair.sign(&statement).as_ref()].concat();
    let hash2 = sha(&[hash1.as_ref(), head, &payload]);
    file.extend_from_slice(&[&head[..], &payload, hash2.as_ref()].concat());
    let report = verify(&file[..], &[public], Accept::Sealed).unwrap();
    assert_eq!((report.frames, report.state), (2, State::Sealed(End::Closed)));
    assert_eq!(read_all(&file).unwrap()[0].1, b"hi");
}

#[test]
fn p6_the_ledger_notices_what_is_gone() {
    let key = key("host");
    let keys = [key.public().clone()];
    let (file, _) = sealed(&key, &sample());
    let report = check(&file, &key).unwrap();
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(FileKind::Ledger, [1; 16], 0, Arc::clone(&key), &mut bytes);
    let records = [
        (ID, Record::Opened),
        (ID, Record::Sealed(End::Closed, report.root, report.frames)),
        ([8; 16], Record::Opened),
    ];
    for (id, record) in &records {
        writer.append(false, 0, &record.encode(id), &mut bytes).unwrap();
    }
    writer.checkpoint(0, &mut bytes);
    let mut ledger = Ledger::default();
    ledger.add(|| &bytes[..], &keys).unwrap();
    assert_eq!(ledger.unsigned, 0);
    assert!(matches!(ledger.standing(&ID, Some(check(&file, &key))), Standing::Sealed(_)));
    assert_eq!(ledger.standing(&[8; 16], None), Standing::Missing);
    assert!(matches!(ledger.standing(&[8; 16], Some(check(&file, &key))), Standing::Broken(_)), "exchanged");
    // the same session sealed again with other contents by somebody who has the key
    let (other, _) = sealed(&key, &[b"other".to_vec()]);
    let standing = ledger.standing(&ID, Some(check(&other, &key)));
    assert!(matches!(standing, Standing::Broken(Broken { what: Damage::OtherRoot, .. })), "{standing:?}");
    // cut behind what the ledger knows
    let live = verify(&open(&key, &sample()).0[..], &keys, Accept::Live);
    assert!(matches!(ledger.standing(&ID, Some(live)), Standing::Broken(_)));
    assert!(matches!(Ledger::default().standing(&ID, Some(check(&file, &key))), Standing::Unlisted(_)));
    assert!(Ledger::default().add(|| &file[..], &keys).is_err(), "a recording is no ledger");
}

proptest! {
    #[test]
    fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), header: bool) {
        let key = key("host");
        let mut file = if header { open(&key, &[]).0 } else { Vec::new() };
        file.extend_from_slice(&bytes);
        let _ = read_all(&file);
        let _ = recover(&file[..], &[]);
        prop_assert!(check(&file, &key).is_err());
    }

    #[test]
    fn any_payloads_survive_and_any_change_is_found(
        payloads in proptest::collection::vec(proptest::collection::vec(0u8..4, 0..1500), 0..8),
        at: prop::sample::Index, bit in 0u8..8, cut: prop::sample::Index,
    ) {
        let key = key("host");
        let (bytes, _) = sealed(&key, &payloads);
        let read: Vec<_> =
            read_all(&bytes).unwrap().into_iter().filter(|f| f.0 == FrameKind::Entry).map(|f| f.1).collect();
        prop_assert_eq!(&read, &payloads);
        prop_assert!(check(&bytes, &key).is_ok());
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= 1 << bit;
        prop_assert!(check(&changed, &key).is_err());
        prop_assert!(check(&bytes[..cut.index(bytes.len())], &key).is_err());
    }
}
