//! The messages that open a connection. They have no type byte and come in clear: nothing in them is trusted,
//! and nothing before TLS may be mixed with what comes after it (CVE-2021-23214).
use super::frame::{Fields, InvalidMessage};

/// `MAX_STARTUP_PACKET_LENGTH` of PostgreSQL: no such message is longer, its length word included.
pub const MAX_STARTUP: usize = 10_000;

/// Request codes in the place of the version.
pub(super) const CANCEL: u32 = (1234 << 16) | 5678;
pub(super) const SSL: u32 = (1234 << 16) | 5679;
pub(super) const GSSENC: u32 = (1234 << 16) | 5680;

/// Major and minor version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion {
    /// 3 since PostgreSQL 7.4.
    pub major: u16,
    /// 0, or 2 since PostgreSQL 18.
    pub minor: u16,
}

impl ProtocolVersion {
    /// What every server and client speaks.
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// With cancel keys of variable length; the newest.
    pub const V3_2: Self = Self { major: 3, minor: 2 };

    /// As it stands in a StartupMessage.
    pub fn word(self) -> u32 {
        (u32::from(self.major) << 16) | u32::from(self.minor)
    }
}

/// The first thing that a client says; after `Ssl` and `Gssenc` it comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Startup {
    /// Asks for TLS: answered by one byte, `S` or `N`.
    Ssl,
    /// Asks for GSSAPI encryption: answered by one byte.
    Gssenc,
    /// Asks for an end of what a session is doing.
    Cancel(CancelRequest),
    /// Opens a session.
    Start(StartupMessage),
}

/// Names a session by what its BackendKeyData said.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// The process id that was announced.
    pub process: u32,
    /// The secret: 4 bytes in 3.0, up to 256 in 3.2.
    pub key: Vec<u8>,
}

// The key is what lets anybody cancel: not for a log.
impl std::fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelRequest").field("process", &self.process).finish_non_exhaustive()
    }
}

/// Version and parameters of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartupMessage {
    /// Asked for; the answer may be lower.
    pub version: ProtocolVersion,
    parameters: Vec<(String, String)>,
}

impl StartupMessage {
    /// The first parameter of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The role asked for; empty if none was.
    pub fn user(&self) -> &str {
        self.get("user").unwrap_or_default()
    }

    /// The database asked for: the user's name where none is given, as PostgreSQL does it.
    pub fn database(&self) -> &str {
        self.get("database").filter(|d| !d.is_empty()).unwrap_or_else(|| self.user())
    }

    /// `application_name`, or nothing.
    pub fn application_name(&self) -> &str {
        self.get("application_name").unwrap_or_default()
    }

    /// Whether the client wants a replication connection, physical or logical. Any value that PostgreSQL does
    /// not read as false counts.
    pub fn replication(&self) -> bool {
        self.get("replication").is_some_and(|v| {
            !["false", "off", "no", "0", "f", "n", "of", "fa", "fal", "fals"]
                .contains(&v.to_ascii_lowercase().as_str())
        })
    }

    /// All parameters in the order in which they came, protocol options included.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Names of `_pq_.` options: none is known, so all of them go into NegotiateProtocolVersion.
    pub fn protocol_options(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|(n, _)| n.as_str()).filter(|n| n.starts_with("_pq_."))
    }
}

/// Reads the first message of a connection and how many bytes it took; `None` when it is not whole yet. Bytes
/// behind it are the caller's affair: behind SSLRequest there may be none before the answer.
///
/// # Errors
/// A length that can't be, an unknown version or request, parameters that are not pairs of UTF-8 strings, a
/// parameter that comes twice (which of them holds would be a matter of the server's taste).
pub fn read(bytes: &[u8]) -> Result<Option<(Startup, usize)>, InvalidMessage> {
    let Some(head) = bytes.first_chunk::<4>() else { return Ok(None) };
    let announced = i32::from_be_bytes(*head);
    let length = match usize::try_from(announced) {
        Ok(n) if (8..=MAX_STARTUP).contains(&n) => n,
        _ => return Err(InvalidMessage::Length { kind: 0, length: i64::from(announced) }),
    };
    let Some(body) = bytes.get(4..length) else { return Ok(None) };
    let mut fields = Fields::new(body);
    let word = fields.int32("version")?.cast_unsigned();
    let startup = match word {
        SSL => fields.end("SSLRequest").map(|()| Startup::Ssl)?,
        GSSENC => fields.end("GSSENCRequest").map(|()| Startup::Gssenc)?,
        CANCEL => Startup::Cancel(cancel(fields)?),
        w if w >> 16 == 3 => Startup::Start(start(w, fields)?),
        w => return Err(InvalidMessage::Value { what: "protocol version", value: i64::from(w) }),
    };
    Ok(Some((startup, length)))
}

fn cancel(mut fields: Fields<'_>) -> Result<CancelRequest, InvalidMessage> {
    let process = fields.int32("process id of a CancelRequest")?.cast_unsigned();
    let key = fields.rest();
    if !(4..=256).contains(&key.len()) {
        return Err(InvalidMessage::Truncated("key of a CancelRequest"));
    }
    Ok(CancelRequest { process, key: key.to_vec() })
}

fn start(word: u32, mut fields: Fields<'_>) -> Result<StartupMessage, InvalidMessage> {
    let version = ProtocolVersion { major: 3, minor: (word & 0xffff) as u16 };
    let mut parameters: Vec<(String, String)> = Vec::new();
    loop {
        let name = fields.text("name of a startup parameter")?;
        if name.is_empty() {
            break;
        }
        let setting = fields.text("startup parameter")?;
        if parameters.iter().any(|(n, _)| n == name) {
            return Err(InvalidMessage::Trailing("startup parameter that came before"));
        }
        parameters.push((name.to_owned(), setting.to_owned()));
    }
    fields.end("StartupMessage")?;
    Ok(StartupMessage { version, parameters })
}

#[cfg(test)]
mod tests {
    use super::super::write;
    use super::*;

    #[test]
    fn each_form_is_read_and_never_half() {
        let mut bytes = Vec::new();
        write::startup(
            ProtocolVersion::V3_2,
            [("user", "alice"), ("_pq_.x", "1"), ("replication", "database")],
            &mut bytes,
        );
        let whole = bytes.len();
        bytes.extend_from_slice(b"rest");
        for end in 0..whole {
            assert_eq!(read(&bytes[..end]), Ok(None), "{end}");
        }
        let (Startup::Start(message), taken) = read(&bytes).unwrap().unwrap() else { panic!() };
        assert_eq!((taken, message.version), (whole, ProtocolVersion::V3_2));
        assert_eq!((message.user(), message.database()), ("alice", "alice"));
        assert_eq!(message.protocol_options().collect::<Vec<_>>(), ["_pq_.x"]);
        assert!(message.replication());

        let mut bytes = Vec::new();
        write::ssl_request(&mut bytes);
        assert_eq!(read(&bytes), Ok(Some((Startup::Ssl, 8))));
    }

    #[test]
    fn s22_cancel_keys_are_four_bytes_or_long() {
        for (n, good) in [(0, false), (3, false), (4, true), (32, true), (256, true), (257, false)] {
            let mut bytes = Vec::new();
            write::cancel_request(7, &vec![9; n], &mut bytes);
            match read(&bytes) {
                Ok(Some((Startup::Cancel(c), _))) => {
                    assert!(good && c.process == 7 && c.key.len() == n);
                    assert!(!format!("{c:?}").contains('9'));
                }
                other => assert!(!good && other.is_err(), "{n}"),
            }
        }
    }

    #[test]
    fn s25_absurd_openings_are_errors() {
        for bytes in [
            &b"\0\0\0\x04"[..],
            b"\xff\xff\xff\xff",
            b"\0\0\x27\x11",
            b"\0\0\0\x08\0\x02\0\0",
            b"\0\0\0\x09\x04\xd2\x16\x2f\0",
            b"\0\0\0\x09\0\x03\0\0a",
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01\x02\0",
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        let mut twice = Vec::new();
        write::startup(ProtocolVersion::V3_0, [("user", "a"), ("user", "b")], &mut twice);
        assert!(read(&twice).is_err());
    }
}
