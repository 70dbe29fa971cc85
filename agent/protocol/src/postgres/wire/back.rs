//! What a server sends. The parsers take bodies (behind the length word) and borrow.
use super::frame::{Fields, InvalidMessage};

/// Type bytes of a server's messages.
pub mod kind {
    /// Authentication….
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData.
    pub const BACKEND_KEY: u8 = b'K';
    /// ParameterStatus.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// ReadyForQuery.
    pub const READY: u8 = b'Z';
    /// RowDescription.
    pub const ROW_DESCRIPTION: u8 = b'T';
    /// DataRow.
    pub const DATA_ROW: u8 = b'D';
    /// CommandComplete.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// EmptyQueryResponse.
    pub const EMPTY_QUERY: u8 = b'I';
    /// ErrorResponse.
    pub const ERROR: u8 = b'E';
    /// NoticeResponse.
    pub const NOTICE: u8 = b'N';
    /// NotificationResponse.
    pub const NOTIFICATION: u8 = b'A';
    /// ParseComplete.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// BindComplete.
    pub const BIND_COMPLETE: u8 = b'2';
    /// CloseComplete.
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// NoData.
    pub const NO_DATA: u8 = b'n';
    /// ParameterDescription.
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// PortalSuspended.
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// CopyInResponse.
    pub const COPY_IN: u8 = b'G';
    /// CopyOutResponse.
    pub const COPY_OUT: u8 = b'H';
    /// CopyBothResponse: replication alone.
    pub const COPY_BOTH: u8 = b'W';
    /// CopyData.
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone.
    pub const COPY_DONE: u8 = b'c';
    /// FunctionCallResponse.
    pub const FUNCTION_RESULT: u8 = b'V';
    /// NegotiateProtocolVersion.
    pub const NEGOTIATE: u8 = b'v';
}

/// What the server wants to have proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// It is content.
    Ok,
    /// A password in clear.
    Cleartext,
    /// MD5 of password, user and this salt.
    Md5([u8; 4]),
    /// One of these SASL mechanisms.
    Sasl(Vec<&'a str>),
    /// The next challenge.
    SaslContinue(&'a [u8]),
    /// The server's own proof.
    SaslFinal(&'a [u8]),
    /// Something that we don't speak (Kerberos, GSS, SSPI …), by its number.
    Other(i32),
}

impl<'a> Authentication<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// Missing or trailing bytes.
    pub fn read(body: &'a [u8]) -> Result<Self, InvalidMessage> {
        let mut fields = Fields::new(body);
        match fields.int32("authentication method")? {
            0 => fields.end("AuthenticationOk").map(|()| Self::Ok),
            3 => fields.end("AuthenticationCleartextPassword").map(|()| Self::Cleartext),
            5 => {
                let salt = fields.bytes(4, "salt")?;
                fields.end("AuthenticationMD5Password")?;
                salt.first_chunk().map(|s| Self::Md5(*s)).ok_or(InvalidMessage::Truncated("salt"))
            }
            10 => {
                let mut mechanisms = Vec::new();
                loop {
                    match fields.text("SASL mechanism")? {
                        "" => break,
                        name => mechanisms.push(name),
                    }
                }
                fields.end("AuthenticationSASL")?;
                Ok(Self::Sasl(mechanisms))
            }
            11 => Ok(Self::SaslContinue(fields.rest())),
            12 => Ok(Self::SaslFinal(fields.rest())),
            other => Ok(Self::Other(other)),
        }
    }
}

/// Process id and cancel key (4 bytes in 3.0, up to 256 in 3.2).
///
/// # Errors
/// No key, or a longer one.
pub fn backend_key_data(body: &[u8]) -> Result<(u32, &[u8]), InvalidMessage> {
    let mut fields = Fields::new(body);
    let process = fields.int32("process id")?.cast_unsigned();
    match fields.rest() {
        key if (4..=256).contains(&key.len()) => Ok((process, key)),
        _ => Err(InvalidMessage::Truncated("cancel key")),
    }
}

/// Name and setting of a ParameterStatus.
///
/// # Errors
/// Missing or trailing bytes, not UTF-8.
pub fn parameter_status(body: &[u8]) -> Result<(&str, &str), InvalidMessage> {
    let mut fields = Fields::new(body);
    let name = fields.text("name of a parameter")?;
    let setting = fields.text("setting of a parameter")?;
    fields.end("ParameterStatus")?;
    Ok((name, setting))
}

/// What ReadyForQuery reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// `I`: in no transaction block.
    Idle,
    /// `T`: in a transaction block.
    Open,
    /// `E`: in a transaction block that has failed.
    Failed,
}

impl TransactionStatus {
    /// Reads the body of ReadyForQuery.
    ///
    /// # Errors
    /// Anything but one of the three letters.
    pub fn read(body: &[u8]) -> Result<Self, InvalidMessage> {
        match body {
            b"I" => Ok(Self::Idle),
            b"T" => Ok(Self::Open),
            b"E" => Ok(Self::Failed),
            other => Err(InvalidMessage::Value {
                what: "transaction status",
                value: other.first().map_or(-1, |b| i64::from(*b)),
            }),
        }
    }
}

/// One column of a RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// As the client will show it. Not known to be UTF-8 elsewhere, so lossy.
    pub name: std::borrow::Cow<'a, str>,
    /// `pg_class.oid` of the table that it comes from unchanged; 0: none.
    pub table: u32,
    /// `pg_attribute.attnum` in that table; 0: none.
    pub attribute: i16,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`.
    pub type_modifier: i32,
    /// Whether values come in the binary format. Not yet known (and false) when a statement is described.
    pub binary: bool,
}

/// Reads the body of a RowDescription.
///
/// # Errors
/// Missing or trailing bytes, an unknown format.
pub fn row_description(body: &[u8]) -> Result<Vec<Column<'_>>, InvalidMessage> {
    let mut fields = Fields::new(body);
    let n = fields.count("columns")?;
    // A column takes 19 bytes or more: what is announced is not believed before it is there.
    let mut columns = Vec::with_capacity(n.min(fields.rest().len() / 19));
    for _ in 0..n {
        let name = String::from_utf8_lossy(fields.string("name of a column")?);
        let table = fields.int32("table of a column")?.cast_unsigned();
        let attribute = fields.int16("number of a column")?;
        let type_oid = fields.int32("type of a column")?.cast_unsigned();
        fields.int16("size of a column")?;
        let type_modifier = fields.int32("modifier of a column")?;
        let binary = match fields.int16("format of a column")? {
            0 => false,
            1 => true,
            v => return Err(InvalidMessage::Value { what: "format of a column", value: i64::from(v) }),
        };
        columns.push(Column { name, table, attribute, type_oid, type_modifier, binary });
    }
    fields.end("RowDescription")?;
    Ok(columns)
}

/// The tag of a CommandComplete.
///
/// # Errors
/// Missing or trailing bytes.
pub fn command_complete(body: &[u8]) -> Result<std::borrow::Cow<'_, str>, InvalidMessage> {
    let mut fields = Fields::new(body);
    let tag = String::from_utf8_lossy(fields.string("command tag")?);
    fields.end("CommandComplete")?;
    Ok(tag)
}

/// How the data of a COPY looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyShape {
    /// The whole stream is in the binary format.
    pub binary: bool,
    /// How many columns; their formats agree with `binary`.
    pub columns: usize,
}

/// Reads the body of CopyInResponse, CopyOutResponse.
///
/// # Errors
/// Missing or trailing bytes, unknown formats.
pub fn copy_response(body: &[u8]) -> Result<CopyShape, InvalidMessage> {
    let mut fields = Fields::new(body);
    let binary = match fields.byte("format of a COPY")? {
        0 => false,
        1 => true,
        v => return Err(InvalidMessage::Value { what: "format of a COPY", value: i64::from(v) }),
    };
    let columns = fields.count("columns of a COPY")?;
    fields.bytes(columns * 2, "formats of a COPY")?;
    fields.end("CopyResponse")?;
    Ok(CopyShape { binary, columns })
}

/// A NotificationResponse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// Of the backend that notified.
    pub process: u32,
    /// Of LISTEN.
    pub channel: std::borrow::Cow<'a, str>,
    /// Free text.
    pub payload: std::borrow::Cow<'a, str>,
}

impl<'a> Notification<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// Missing or trailing bytes.
    pub fn read(body: &'a [u8]) -> Result<Self, InvalidMessage> {
        let mut fields = Fields::new(body);
        let process = fields.int32("process id")?.cast_unsigned();
        let channel = String::from_utf8_lossy(fields.string("channel")?);
        let payload = String::from_utf8_lossy(fields.string("payload")?);
        fields.end("NotificationResponse")?;
        Ok(Self { process, channel, payload })
    }

    /// Appends it as a message.
    pub fn write(&self, out: &mut Vec<u8>) {
        super::write::message(kind::NOTIFICATION, out, |out| {
            out.extend_from_slice(&self.process.to_be_bytes());
            super::write::string(&self.channel, out);
            super::write::string(&self.payload, out);
        });
    }
}

/// The newest version that the server speaks and the options that it does not know.
///
/// # Errors
/// Missing or trailing bytes.
pub fn negotiate_protocol_version(
    body: &[u8],
) -> Result<(super::startup::ProtocolVersion, Vec<&str>), InvalidMessage> {
    let mut fields = Fields::new(body);
    let word = fields.int32("protocol version")?.cast_unsigned();
    // Servers before PostgreSQL 18 may send the minor version alone.
    let version = super::startup::ProtocolVersion { major: 3, minor: (word & 0xffff) as u16 };
    let n = fields.int32("protocol options")?;
    let mut unknown = Vec::new();
    for _ in 0..n {
        unknown.push(fields.text("protocol option")?);
    }
    fields.end("NegotiateProtocolVersion")?;
    Ok((version, unknown))
}

#[cfg(test)]
mod tests {
    use super::super::write;
    use super::*;

    #[test]
    fn what_is_built_is_read() {
        let mut out = Vec::new();
        write::row_description_text(&["a", "b"], &mut out);
        let columns = row_description(&out[5..]).unwrap();
        assert_eq!(columns.len(), 2);
        assert_eq!((columns[1].name.as_ref(), columns[1].type_oid, columns[1].binary), ("b", 25, false));
        for end in 5..out.len() {
            assert!(row_description(&out[5..end]).is_err());
        }
        out.clear();
        write::authentication_sasl(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], &mut out);
        assert_eq!(
            Authentication::read(&out[5..]),
            Ok(Authentication::Sasl(vec!["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]))
        );
        out.clear();
        write::backend_key_data(7, &[1; 32], &mut out);
        assert_eq!(backend_key_data(&out[5..]), Ok((7, &[1u8; 32][..])));
        out.clear();
        write::negotiate_protocol_version(2, &["_pq_.x"], &mut out);
        let (version, unknown) = negotiate_protocol_version(&out[5..]).unwrap();
        assert_eq!((version.minor, unknown), (2, vec!["_pq_.x"]));
        let note = Notification { process: 1, channel: "c".into(), payload: "p".into() };
        out.clear();
        note.write(&mut out);
        assert_eq!(Notification::read(&out[5..]), Ok(note));
    }
}
