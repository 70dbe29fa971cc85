//! S25: a conversation with every message of a session in it, cut at every byte on both sides.
use super::*;

type Turn = (Vec<u8>, Vec<u8>);

/// Prepared, described, in two pieces, closed; with what a target may say at any time in between.
fn extended() -> Turn {
    let mut said = Vec::new();
    write::parse("p", "select * from customers", &mut said);
    write::describe(b'S', "p", &mut said);
    write::flush(&mut said);
    write::bind("c", "p", &[], &mut said);
    write::execute("c", 1, &mut said);
    write::execute("c", 0, &mut said);
    write::close(b'P', "c", &mut said);
    write::close(b'S', "p", &mut said);
    write::sync(&mut said);
    let answered = [
        message(b'1', b""),
        message(b't', &[0, 0]),
        description(&[("id", CUSTOMERS, 1), ("email", CUSTOMERS, 2)]),
        message(b'2', b""),
        message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mmail of alice@example.com\0\0"),
        row(&["1", "alice@example.com"]),
        message(b's', b""),
        message(b'A', b"\0\0\0\x07news\0bob@example.org\0"),
        row(&["2", "bob@example.org"]),
        complete("SELECT 1"),
        message(b'3', b""),
        message(b'S', b"TimeZone\0UTC\0"),
        message(b'3', b""),
        ready(),
    ];
    (said, answered.concat())
}

fn no_rows() -> Turn {
    let mut said = Vec::new();
    write::parse("", "set application_name = 'x'", &mut said);
    write::bind("", "", &[], &mut said);
    write::describe(b'P', "", &mut said);
    write::execute("", 0, &mut said);
    write::sync(&mut said);
    let answered =
        [message(b'1', b""), message(b'2', b""), message(b'n', b""), complete("SET"), ready()].concat();
    (said, answered)
}

/// In turns: a copy out; a copy in that is done, and one that is given up; nothing; what is refused.
fn all() -> Vec<Turn> {
    let out = [
        message(b'H', &[0, 0, 2, 0, 0, 0, 0]),
        message(b'd', b"1\talice@example.com\n"),
        message(b'd', b"2\tbob@example.org\n"),
        message(b'c', b""),
        complete("COPY 2"),
        ready(),
    ];
    let asked_in = || (query("copy orders from stdin"), message(b'G', &[0, 0, 2, 0, 0, 0, 0]));
    let rows = [message(b'd', b"1\t2"), message(b'd', b"\n"), message(b'c', b"")].concat();
    vec![
        extended(),
        no_rows(),
        (query("select * from customers"), customers()),
        (query("copy customers to stdout"), out.concat()),
        asked_in(),
        (rows, [complete("COPY 1"), ready()].concat()),
        asked_in(),
        (message(b'f', b"no more\0"), [error("57014"), ready()].concat()),
        (query(""), [message(b'I', b""), ready()].concat()),
        (query("delete from orders"), [error("42601"), ready()].concat()),
        (message(b'F', &[0, 0, 0, 7, 0, 0, 0, 0, 0, 0]), [error("42601"), ready()].concat()),
    ]
}

/// What went up, what came down, and what is on record, when `cut` says how each turn comes.
fn play(cut: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> (Vec<u8>, Vec<u8>, Vec<u8>, String) {
    let mut stage = stage();
    for (said, answered) in all() {
        let mut input = Vec::new();
        for piece in cut(&said) {
            input.extend_from_slice(&piece);
            let taken = stage.machine.client_said(&input).unwrap();
            input.drain(..taken);
        }
        assert!(input.is_empty(), "{said:?}");
        for piece in cut(&answered) {
            input.extend_from_slice(&piece);
            let taken = stage.machine.server_said(&input).unwrap();
            input.drain(..taken);
        }
        assert!(input.is_empty(), "{answered:?}");
    }
    let machine = stage.machine;
    // times differ from run to run
    let entries = machine.tape.entries.into_iter().map(|entry| match entry {
        Entry::Completed(done) => Entry::Completed(record::Completed { duration_us: 0, ..done }),
        other => other,
    });
    let entries = format!("{:?}", entries.collect::<Vec<_>>());
    (machine.to_server, machine.to_client, [machine.tape.rows, machine.tape.stream].concat(), entries)
}

#[test]
fn s25_every_message_of_a_session_split_at_every_byte_comes_to_the_same() {
    let whole = play(|bytes| vec![bytes.to_vec()]);
    assert!(!text(&whole.1).contains("alice@") && !text(&whole.1).contains("bob@"), "{}", text(&whole.1));
    assert_eq!(play(|bytes| bytes.chunks(1).map(<[u8]>::to_vec).collect()), whole, "byte by byte");
    let longest = all().iter().map(|(said, answered)| said.len().max(answered.len())).max().unwrap();
    for at in 1..longest {
        let halves = |bytes: &[u8]| {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            vec![first.to_vec(), second.to_vec()]
        };
        assert_eq!(play(halves), whole, "cut at {at}");
    }
}

/// What ends a session does so wherever it is cut, and not before it is whole.
#[test]
fn s25_a_goodbye_and_a_password_split_at_every_byte() {
    for ends in [message(b'X', b""), message(b'p', b"secret\0")] {
        for at in 0..ends.len() {
            let mut stage = stage();
            assert_eq!(stage.machine.client_said(&ends[..at]).unwrap(), 0);
            assert!(stage.machine.client_said(&ends).is_err(), "at {at}");
        }
    }
}

/// Whoever says everything at once, the goodbye too, gets all the answers, as from the server itself.
#[test]
fn a_goodbye_waits_for_the_answers_that_are_owed() {
    let goodbye = message(b'X', b"");
    let mut unsynced = Vec::new();
    write::parse("p", "select * from customers", &mut unsynced);
    for (said, answered) in [(query("select * from customers"), customers()), (unsynced, message(b'1', b""))]
    {
        let mut stage = stage();
        let taken = stage.machine.client_said(&[said.as_slice(), &goodbye].concat()).unwrap();
        assert_eq!(taken, said.len(), "it waits");
        assert!(!stage.machine.to_server.contains(&b'X'));
        stage.down(&answered);
        assert!(stage.machine.pause.is_none() && stage.machine.client_said(&goodbye).is_err());
        assert!(stage.machine.to_server.ends_with(&goodbye));
    }
    // in the middle of a copy there is nothing to wait for
    let mut stage = stage();
    stage.up(&query("copy orders from stdin"));
    assert!(stage.machine.client_said(&goodbye).is_err());
}

/// The first row of a portal that is too long to be held and needs no mask goes on as it comes, as any other does.
#[test]
fn s25_a_long_first_row_of_a_portal_goes_through_in_pieces() {
    let mut stage = stage();
    let mut said = Vec::new();
    write::parse("", "select total from orders", &mut said);
    write::bind("", "", &[], &mut said);
    write::describe(b'P', "", &mut said);
    write::execute("", 0, &mut said);
    write::sync(&mut said);
    stage.up(&said);
    // of a type that no detector looks at
    let mut number = description(&[("total", ORDERS, 2)]);
    let at = number.len() - 12;
    number[at..at + 4].copy_from_slice(&23_u32.to_be_bytes());
    stage.down(&[message(b'1', b""), message(b'2', b""), number].concat());
    let long = row(&[&"7".repeat(70 << 20)]);
    for piece in long.chunks(1 << 20) {
        assert_eq!(stage.down(piece), piece, "in pieces");
    }
    assert_eq!(
        stage.down(&[complete("SELECT 1"), ready()].concat()),
        [complete("SELECT 1"), ready()].concat()
    );
}
