//! S25: every message of both sides, cut at every byte. A stream has no boundaries but those that the lengths make: however
//! it comes, the same messages come out; and a body that ends early is an error of its reader, and never something else.

use std::collections::BTreeSet;

use super::frame::{HEAD, Message};
use super::front::{self, Bind, Execute, Named, Parse};
use super::startup::{self, ProtocolVersion};
use super::write;
use super::{InvalidMessage, Report, back};

/// A message of each type of a client.
fn from_client() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut add = |build: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        build(&mut out);
        all.push(out);
    };
    add(&|out| write::query("select 'ä', 1", out));
    add(&|out| write::parse("name", "select $1", out));
    add(&|out| write::bind("portal", "name", &[Some(b"va\0lue"), None, Some(b"")], out));
    add(&|out| write::describe(b'S', "name", out));
    add(&|out| write::execute("portal", 7, out));
    add(&|out| write::close(b'P', "portal", out));
    add(&|out| write::flush(out));
    add(&|out| write::sync(out));
    add(&|out| {
        write::message(front::kind::FUNCTION_CALL, out, |out| {
            out.extend_from_slice(b"\0\0\0\x2a\0\0\0\x01\0\0\0\x011\0\0");
        });
    });
    add(&|out| write::copy_data(b"1\tx\n", out));
    add(&|out| write::message(front::kind::COPY_DONE, out, |_| ()));
    add(&|out| write::message(front::kind::COPY_FAIL, out, |out| write::string("no more", out)));
    add(&|out| write::terminate(out));
    add(&|out| write::password("token", out));
    all
}

/// A message of each type of a target.
fn from_target() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut add = |build: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        build(&mut out);
        all.push(out);
    };
    let plain = |kind: u8, body: &'static [u8]| {
        move |out: &mut Vec<u8>| write::message(kind, out, |out| out.extend_from_slice(body))
    };
    add(&|out| write::authentication_sasl(&["SCRAM-SHA-256"], out));
    add(&|out| write::backend_key_data(7, &[1, 2, 3, 4], out));
    add(&|out| write::parameter_status("TimeZone", "UTC", out));
    add(&|out| write::ready_for_query(b'T', out));
    add(&|out| write::row_description_text(&["id", "e-mail"], out));
    add(&|out| write::data_row(&[Some(b"1"), None], out));
    add(&|out| write::command_complete("SELECT 1", out));
    add(&plain(back::kind::EMPTY_QUERY, b""));
    add(&|out| Report::new("ERROR", "42501", "refused").hint("ask").write_error(out));
    add(&plain(back::kind::NOTICE, b"SNOTICE\0C00000\0Mhello\0\0"));
    add(&plain(back::kind::NOTIFICATION, b"\0\0\0\x07channel\0payload\0"));
    add(&plain(back::kind::PARSE_COMPLETE, b""));
    add(&plain(back::kind::BIND_COMPLETE, b""));
    add(&plain(back::kind::CLOSE_COMPLETE, b""));
    add(&plain(back::kind::NO_DATA, b""));
    add(&plain(back::kind::PARAMETER_DESCRIPTION, b"\0\x01\0\0\0\x19"));
    add(&plain(back::kind::PORTAL_SUSPENDED, b""));
    add(&plain(back::kind::COPY_IN, b"\0\0\x01\0\0"));
    add(&plain(back::kind::COPY_OUT, b"\x01\0\x01\0\x01"));
    add(&plain(back::kind::COPY_BOTH, b"\0\0\0"));
    add(&|out| write::copy_data(b"1\n", out));
    add(&plain(back::kind::COPY_DONE, b""));
    add(&plain(back::kind::FUNCTION_RESULT, b"\0\0\0\x011"));
    add(&|out| write::negotiate_protocol_version(0, &["_pq_.x"], out));
    all
}

/// What a reader makes of a body, in words that can be compared.
fn of_client(kind: u8, body: &[u8]) -> Result<String, InvalidMessage> {
    use front::kind as k;
    Ok(match kind {
        k::QUERY => format!("{:?}", front::query(body)?),
        k::PARSE => format!("{:?}", Parse::read(body)?),
        k::BIND => format!("{:?}", Bind::read(body)?),
        k::DESCRIBE | k::CLOSE => format!("{:?}", Named::read(body)?),
        k::EXECUTE => format!("{:?}", Execute::read(body)?),
        k::PASSWORD => format!("{:?}", front::password(body)?),
        // no fields, or none that are looked at
        _ => format!("{body:?}"),
    })
}

fn of_target(kind: u8, body: &[u8]) -> Result<String, InvalidMessage> {
    use back::kind as k;
    Ok(match kind {
        k::AUTHENTICATION => format!("{:?}", back::Authentication::read(body)?),
        k::BACKEND_KEY => format!("{:?}", back::backend_key_data(body)?),
        k::PARAMETER_STATUS => format!("{:?}", back::parameter_status(body)?),
        k::READY => format!("{:?}", back::TransactionStatus::read(body)?),
        k::ROW_DESCRIPTION => format!("{:?}", back::row_description(body)?),
        k::COMMAND_COMPLETE => format!("{:?}", back::command_complete(body)?),
        k::ERROR | k::NOTICE => format!("{:?}", Report::parse(body)?.message()),
        k::NOTIFICATION => format!("{:?}", back::Notification::read(body)?.payload),
        k::COPY_IN | k::COPY_OUT => format!("{:?}", back::copy_response(body)?),
        k::NEGOTIATE => format!("{:?}", back::negotiate_protocol_version(body)?),
        _ => format!("{body:?}"),
    })
}

type Reader = fn(u8, &[u8]) -> Result<String, InvalidMessage>;

/// What comes out when the stream arrives in these pieces.
fn taken<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, read: Reader) -> Vec<(u8, String)> {
    let (mut input, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some(message) = Message::first(&input).unwrap() {
            found.push((message.kind, read(message.kind, message.body).unwrap()));
            let whole = message.whole.len();
            input.drain(..whole);
        }
    }
    assert!(input.is_empty(), "nothing is left over");
    found
}

fn kinds(messages: &[Vec<u8>]) -> BTreeSet<char> {
    messages.iter().map(|message| char::from(message[0])).collect()
}

#[test]
fn s25_there_is_a_message_of_every_type() {
    assert_eq!(kinds(&from_client()), super::documented::known(include_str!("front.rs")));
    assert_eq!(kinds(&from_target()), super::documented::known(include_str!("back.rs")));
}

#[test]
fn s25_every_message_split_at_every_byte_is_the_same_message() {
    for (messages, read) in [(from_client(), of_client as Reader), (from_target(), of_target as Reader)] {
        let stream = messages.concat();
        let whole = taken([stream.as_slice()], read);
        assert_eq!(whole.len(), messages.len());
        assert_eq!(taken(stream.chunks(1), read), whole, "byte by byte");
        for at in 0..=stream.len() {
            let (first, second) = stream.split_at(at);
            assert_eq!(taken([first, second], read), whole, "cut at {at}");
        }
        for message in &messages {
            for end in 0..message.len() {
                assert_eq!(Message::first(&message[..end]), Ok(None), "{} at {end}", char::from(message[0]));
            }
        }
    }
}

#[test]
fn s25_a_body_that_ends_early_is_not_read_as_another() {
    for (messages, read) in [(from_client(), of_client as Reader), (from_target(), of_target as Reader)] {
        for message in &messages {
            let (kind, body) = (message[0], &message[HEAD..]);
            let whole = read(kind, body).unwrap();
            for end in 0..body.len() {
                if let Ok(found) = read(kind, &body[..end]) {
                    assert_ne!(found, whole, "{} cut at {end} of {}", char::from(kind), body.len());
                }
            }
        }
    }
}

#[test]
fn s25_what_comes_before_a_session_may_be_split_as_well() {
    let mut messages = vec![Vec::new(), Vec::new(), Vec::new()];
    write::ssl_request(&mut messages[0]);
    write::cancel_request(7, &[9; 32], &mut messages[1]);
    let pairs = [("user", "alice"), ("database", "shop"), ("_pq_.x", "1")];
    write::startup(ProtocolVersion::V3_2, pairs, &mut messages[2]);
    for message in &messages {
        let (whole, length) = startup::read(message).unwrap().unwrap();
        assert_eq!(length, message.len());
        for end in 0..message.len() {
            assert_eq!(startup::read(&message[..end]), Ok(None), "at {end}");
        }
        // what stands behind it is not taken with it
        let more = [message.as_slice(), b"Q\0\0\0\x06a\0"].concat();
        assert_eq!(startup::read(&more), Ok(Some((whole, length))));
    }
}
