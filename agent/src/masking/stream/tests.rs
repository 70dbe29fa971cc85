use super::*;
use proptest::prelude::*;

fn whole(mask: &mut StreamMask, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    mask.push(bytes, &mut out);
    mask.flush(&mut out);
    out
}

fn terminal(text: &str) -> String {
    String::from_utf8(whole(&mut StreamMask::terminal(80), text.as_bytes())).unwrap()
}

#[test]
fn what_is_sensitive_is_starred_and_nothing_else() {
    for (text, shown) in [
        ("mail alice.jones@example.com now\r\n", "mail *********************** now\r\n"),
        ("<bob@example.org>,x", "<***************>,x"),
        ("4111 1111 1111 1111\r\n", "**** **** **** 1111\r\n"),
        ("paid 4111111111111111 by card\r\n", "paid ************1111 by card\r\n"),
        ("paid 4111 1111 1111 1111 by card\r\n", "paid **** **** **** 1111 by card\r\n"),
        ("IBAN: DE89 3704 0044 0532 0130 00.", "IBAN: **** **** **** **** **** **."),
        ("key=AKIAIOSFODNN7EXAMPLE;", "key=********************;"),
        ("alice@host:~$ ls -la /srv\r\n", "alice@host:~$ ls -la /srv\r\n"),
        ("total 4096 NOV 24 2026 4111111111111112\r\n", "total 4096 NOV 24 2026 4111111111111112\r\n"),
        ("größe → bob@example.org\r\n", "größe → ***************\r\n"),
    ] {
        assert_eq!(terminal(text), shown);
    }
}

#[test]
fn colours_in_the_middle_hide_nothing() {
    let text = "\x1b[1malice\x1b[0m\x1b[32m.jones@\x1b[Kexample\x1b[38;5;1m.com\x1b[0m\r\n";
    let shown = "\x1b[1m*****\x1b[0m\x1b[32m*******\x1b[K*******\x1b[38;5;1m****\x1b[0m\r\n";
    assert_eq!(terminal(text), shown);
    // a title is no text, and does not end one
    assert_eq!(terminal("4111\x1b]0;t\x07111111111111\r\n"), "****\x1b]0;t\x07********1111\r\n");
    assert_eq!(terminal("4111\x1b]0;t\x1b\\111111111111\r\n"), "****\x1b]0;t\x1b\\********1111\r\n");
}

#[test]
fn a_value_that_is_wrapped_at_the_margin() {
    let shown = |columns, text: &str| {
        String::from_utf8(whole(&mut StreamMask::terminal(columns), text.as_bytes())).unwrap()
    };
    assert_eq!(shown(10, "x alice@ex\r\nample.com z\r\n"), "x ********\r\n********* z\r\n");
    // as line editors wrap what is typed
    assert_eq!(shown(10, "x alice@ex \rample.com z\r\n"), "x ******** \r********* z\r\n");
    // no wrap: the line is not full
    assert_eq!(shown(20, "x alice@ex\r\nample.com z\r\n"), "x alice@ex\r\nample.com z\r\n");
    // a full line that is no wrap hides nothing either
    assert_eq!(shown(16, "4111111111111111\r\n22 items\r\n"), "************1111\r\n22 items\r\n");
    assert_eq!(shown(12, "bob@mail.org\r\n-rw-r--r--\r\n"), "************\r\n-rw-r--r--\r\n");
}

#[test]
fn a_private_key_is_starred_to_its_end() {
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\r\nb3BlbnNzaC1rZXktdjEA\r\nAbC=\r\n-----END OPENSSH PRIVATE KEY-----\r\n$ ls\r\nfile\r\n";
    let shown = terminal(key);
    assert!(!shown.contains("b3Bl") && !shown.contains("AbC"), "{shown}");
    assert!(shown.ends_with("$ ls\r\nfile\r\n") && shown.len() == key.len(), "{shown}");
    let public = "-----BEGIN CERTIFICATE-----\r\nMIIBszCCAVmgAwIBAgIU\r\n-----END CERTIFICATE-----\r\n";
    assert_eq!(terminal(public), public);
}

#[test]
fn a_value_that_comes_slowly_is_masked_from_where_it_is_known() {
    let mut mask = StreamMask::terminal(80);
    let mut out = Vec::new();
    mask.push(b"to alice@exam", &mut out);
    assert_eq!(out, b"to ");
    assert!(mask.deadline().is_some_and(|at| at <= Instant::now() + PATIENCE));
    mask.flush(&mut out);
    assert!(mask.deadline().is_none());
    mask.push(b"ple.com\r\n", &mut out);
    assert_eq!(out, b"to alice@exam*******\r\n");
    assert!(mask.deadline().is_none());
}

#[test]
fn what_holds_no_value_is_not_held() {
    let mut mask = StreamMask::terminal(80);
    let mut out = Vec::new();
    for piece in ["\x1b[?2004h", "\x1b[1;31m", "line\r\n", "\x1b]0;title\x07", "\x1b["] {
        let before = out.len();
        mask.push(piece.as_bytes(), &mut out);
        assert_eq!(out.len() - before, piece.len(), "{piece:?}");
        assert!(mask.deadline().is_none());
    }
}

#[test]
fn a_long_value_is_starred_across_the_cut() {
    let token = format!("ghp_{}", "a1".repeat(HOLD));
    let shown = terminal(&format!("{token} end\r\n"));
    assert_eq!(shown, format!("{} end\r\n", "*".repeat(token.len())));
    // and one that begins just before it
    for before in HOLD - 40..HOLD + 4 {
        let text = format!("{}/bob@example.org\r\n", "/x".repeat(before / 2) + &"/".repeat(before % 2));
        let shown = terminal(&text);
        assert!(!shown.contains("example"), "{before}");
        assert_eq!(shown.len(), text.len());
    }
}

#[test]
fn binary_streams_pass_and_say_so() {
    let elf = b"\x7fELF\x02\x01\x01\x00bob@example.org\x00";
    let mut mask = StreamMask::pipe();
    assert_eq!(whole(&mut mask, elf), elf);
    assert!(mask.is_binary());
    let noise: Vec<u8> = (0..=255).rev().collect();
    let mut mask = StreamMask::pipe();
    assert_eq!(whole(&mut mask, &noise), noise);
    assert!(mask.is_binary());
    // a terminal is not talked out of masking
    let mut mask = StreamMask::terminal(80);
    assert_eq!(
        whole(&mut mask, b"\0\0\xff\xfe\xff\xff bob@example.org\n"),
        b"\0\0\xff\xfe\xff\xff ***************\n"
    );
    let mut mask = StreamMask::pipe();
    assert_eq!(whole(&mut mask, "größe bob@example.org\n".as_bytes()), "größe ***************\n".as_bytes());
    assert!(!mask.is_binary());
}

#[test]
fn the_cost_is_linear() {
    // a debug build on a busy machine still has to do this in no time; a second pass over what is held would not
    let line = b"drwxr-xr-x 2 root root 4096 Nov 24 12:00 /usr/lib/x86_64-linux-gnu/perl5/5.38.2/auto\r\n";
    let text = line.repeat((1 << 20) / line.len());
    let mut worst = vec![b'A'; 1 << 20];
    worst.iter_mut().step_by(5).for_each(|b| *b = b' ');
    for bytes in [text, worst] {
        let start = Instant::now();
        let shown = whole(&mut StreamMask::terminal(80), &bytes);
        assert_eq!(shown.len(), bytes.len());
        let took = start.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?} a MiB");
        eprintln!("{took:?} a MiB");
    }
}

/// Pieces that make detectors, sequences and margins meet.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("alice@example.com".to_owned()),
        Just("4111 1111 1111 1111".to_owned()),
        Just("4111111111111111".to_owned()),
        Just("DE89 3704 0044 0532 0130 00".to_owned()),
        Just("-----BEGIN PRIVATE KEY-----\r\nMIIEvQIBADANBgkq\r\n-----END PRIVATE KEY-----".to_owned()),
        Just("\x1b[1;31m".to_owned()),
        Just("\x1b[10;3H".to_owned()),
        Just("\x1b]0;title\x07".to_owned()),
        Just("\x1b".to_owned()),
        Just("\r\n".to_owned()),
        Just(" \r".to_owned()),
        Just("\t".to_owned()),
        Just("é".to_owned()),
        "[ -~]{0,12}",
        "[A-Z0-9 -]{0,20}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|p| p.concat().into_bytes())
}

proptest! {
    #[test]
    fn however_it_is_split(bytes in output(), cuts in proptest::collection::vec(0usize..400, 0..6), columns in 0usize..24) {
        let wanted = whole(&mut StreamMask::terminal(columns), &bytes);
        let mut mask = StreamMask::terminal(columns);
        let mut out = Vec::new();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            mask.push(&bytes[from..cut], &mut out);
            from = cut;
        }
        mask.flush(&mut out);
        prop_assert_eq!(&out, &wanted);
        // each byte on its own
        let mut mask = StreamMask::terminal(columns);
        let mut out = Vec::new();
        for byte in &bytes {
            mask.push(&[*byte], &mut out);
        }
        mask.flush(&mut out);
        prop_assert_eq!(&out, &wanted);
    }

    /// Lines that are dismissed in one go come to the same as byte by byte.
    #[test]
    fn whole_lines_come_to_the_same(bytes in output(), lines in 1usize..4) {
        let mut all = b"what shows that this is text\n".repeat(PROOF / 20);
        for _ in 0..lines {
            all.extend_from_slice(&bytes);
            all.push(b'\n');
        }
        let (mut at_once, mut by_byte) = (Vec::new(), Vec::new());
        let (mut first, mut second) = (StreamMask::pipe(), StreamMask::pipe());
        first.push(&all, &mut at_once);
        first.flush(&mut at_once);
        for byte in &all {
            second.push(std::slice::from_ref(byte), &mut by_byte);
        }
        second.flush(&mut by_byte);
        prop_assert_eq!(String::from_utf8_lossy(&at_once), String::from_utf8_lossy(&by_byte));
        prop_assert_eq!(first.line_start, second.line_start);
        prop_assert_eq!(first.column, second.column);
    }

    #[test]
    fn nothing_is_lost_and_only_stars_are_new(bytes in proptest::collection::vec(any::<u8>(), 0..600), flush_at in 0usize..600) {
        let mut mask = StreamMask::terminal(20);
        let mut out = Vec::new();
        let (first, second) = bytes.split_at(flush_at.min(bytes.len()));
        mask.push(first, &mut out);
        mask.flush(&mut out);
        mask.push(second, &mut out);
        mask.flush(&mut out);
        prop_assert_eq!(out.len(), bytes.len());
        for (was, is) in bytes.iter().zip(&out) {
            prop_assert!(was == is || *is == b'*' && was.is_ascii_graphic());
        }
    }

    #[test]
    fn memory_is_bounded(piece in "[A-Z0-9 @.-]{1,40}|\x1b\\[[0-9;]{1,40}m|\x1b\\][a-z]{1,60}", times in 1usize..600) {
        let mut mask = StreamMask::terminal(0);
        let (mut out, mut sent) = (Vec::new(), 0);
        for _ in 0..times {
            mask.push(piece.as_bytes(), &mut out);
            sent += piece.len();
            prop_assert!(mask.held.len() <= HOLD && sent - out.len() == mask.held.len());
            prop_assert!(mask.text.len() <= HOLD && mask.wraps.len() <= HOLD);
        }
    }

    #[test]
    fn a_cut_is_where_it_is_however_it_is_split(piece in "[A-Z0-9@./-]{1,40}|\x1b\\[3[0-7]m[A-Z0-9]{1,9}", times in 100usize..900, width in 1usize..5000) {
        let bytes = format!("{}bob@example.org 4111111111111111\r\n", piece.repeat(times)).into_bytes();
        let wanted = whole(&mut StreamMask::terminal(80), &bytes);
        prop_assert_eq!(wanted.len(), bytes.len());
        let mut mask = StreamMask::terminal(80);
        let mut out = Vec::new();
        bytes.chunks(width).for_each(|chunk| mask.push(chunk, &mut out));
        mask.flush(&mut out);
        prop_assert_eq!(&out, &wanted);
    }

    #[test]
    fn an_address_is_found_wherever_it_stands(before in "[ a-z,;]{0,20}", after in "[ ,;:]{0,20}") {
        let text = format!("{before} bob@mail.example.org{after}");
        prop_assert!(!terminal(&text).contains("bob@"));
    }
}
