//! What a client sends once its session is open. The parsers take bodies (behind the length word) and borrow.
use super::frame::{Fields, InvalidMessage};

/// Type bytes of a client's messages.
pub mod kind {
    /// Query: simple protocol, any number of statements.
    pub const QUERY: u8 = b'Q';
    /// Parse.
    pub const PARSE: u8 = b'P';
    /// Bind.
    pub const BIND: u8 = b'B';
    /// Describe.
    pub const DESCRIBE: u8 = b'D';
    /// Execute.
    pub const EXECUTE: u8 = b'E';
    /// Close.
    pub const CLOSE: u8 = b'C';
    /// Flush.
    pub const FLUSH: u8 = b'H';
    /// Sync.
    pub const SYNC: u8 = b'S';
    /// FunctionCall.
    pub const FUNCTION_CALL: u8 = b'F';
    /// CopyData.
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone.
    pub const COPY_DONE: u8 = b'c';
    /// CopyFail.
    pub const COPY_FAIL: u8 = b'f';
    /// Terminate.
    pub const TERMINATE: u8 = b'X';
    /// PasswordMessage, SASL and GSS responses: none has a place in an open session.
    pub const PASSWORD: u8 = b'p';
}

/// The text of a Query, without its terminator. Not yet known to be UTF-8.
///
/// # Errors
/// No terminator, or bytes behind it (which PostgreSQL refuses as well).
pub fn query(body: &[u8]) -> Result<&[u8], InvalidMessage> {
    let mut fields = Fields::new(body);
    let text = fields.string("text of a Query")?;
    fields.end("Query")?;
    Ok(text)
}

/// A statement to be prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Empty: the unnamed statement.
    pub name: &'a str,
    /// Not yet known to be UTF-8.
    pub text: &'a [u8],
    /// Type OIDs of parameters, as far as the client says them.
    pub types: Vec<u32>,
}

impl<'a> Parse<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// Missing or trailing bytes, a name that is not UTF-8.
    pub fn read(body: &'a [u8]) -> Result<Self, InvalidMessage> {
        let mut fields = Fields::new(body);
        let name = fields.text("name of a statement")?;
        let text = fields.string("text of a Parse")?;
        let n = fields.count("parameter types")?;
        let mut types = Vec::with_capacity(n.min(fields.rest().len() / 4));
        for _ in 0..n {
            types.push(fields.int32("parameter types")?.cast_unsigned());
        }
        fields.end("Parse")?;
        Ok(Self { name, text, types })
    }
}

/// Formats of values: none means text for all, one holds for all, else one each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats(Box<[bool]>);

impl Formats {
    fn read(fields: &mut Fields<'_>, what: &'static str) -> Result<Self, InvalidMessage> {
        let n = fields.count(what)?;
        let mut codes = Vec::with_capacity(n.min(fields.rest().len() / 2));
        for _ in 0..n {
            codes.push(match fields.int16(what)? {
                0 => false,
                1 => true,
                other => return Err(InvalidMessage::Value { what, value: i64::from(other) }),
            });
        }
        Ok(Self(codes.into()))
    }

    /// Whether the value at `index` is binary.
    pub fn binary(&self, index: usize) -> bool {
        match &*self.0 {
            [one] => *one,
            codes => codes.get(index).copied().unwrap_or(false),
        }
    }
}

/// A portal: a statement with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Empty: the unnamed portal.
    pub portal: &'a str,
    /// Empty: the unnamed statement.
    pub statement: &'a str,
    /// Of the parameters.
    pub formats: Formats,
    /// `None` is NULL.
    pub parameters: Vec<Option<&'a [u8]>>,
    /// Of the columns that come back.
    pub results: Formats,
}

impl<'a> Bind<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// Missing or trailing bytes, names that are not UTF-8, unknown formats.
    pub fn read(body: &'a [u8]) -> Result<Self, InvalidMessage> {
        let mut fields = Fields::new(body);
        let portal = fields.text("name of a portal")?;
        let statement = fields.text("name of a statement")?;
        let formats = Formats::read(&mut fields, "format of a parameter")?;
        let n = fields.count("parameters")?;
        let mut parameters = Vec::with_capacity(n.min(fields.rest().len() / 4));
        for _ in 0..n {
            parameters.push(fields.value("parameter")?);
        }
        let results = Formats::read(&mut fields, "format of a column")?;
        fields.end("Bind")?;
        Ok(Self { portal, statement, formats, parameters, results })
    }
}

/// What Describe and Close name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// A prepared statement.
    Statement(&'a str),
    /// A portal.
    Portal(&'a str),
}

impl<'a> Named<'a> {
    /// Reads the body of Describe or Close.
    ///
    /// # Errors
    /// Neither `S` nor `P`, missing or trailing bytes, a name that is not UTF-8.
    pub fn read(body: &'a [u8]) -> Result<Self, InvalidMessage> {
        let mut fields = Fields::new(body);
        let what = fields.byte("kind of a name")?;
        let name = fields.text("name")?;
        fields.end("Describe or Close")?;
        match what {
            b'S' => Ok(Self::Statement(name)),
            b'P' => Ok(Self::Portal(name)),
            other => Err(InvalidMessage::Value { what: "kind of a name", value: i64::from(other) }),
        }
    }
}

/// Runs a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// Empty: the unnamed portal.
    pub portal: &'a str,
    /// 0 or less: all rows.
    pub rows: i32,
}

impl<'a> Execute<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// Missing or trailing bytes, a name that is not UTF-8.
    pub fn read(body: &'a [u8]) -> Result<Self, InvalidMessage> {
        let mut fields = Fields::new(body);
        let portal = fields.text("name of a portal")?;
        let rows = fields.int32("row limit")?;
        fields.end("Execute")?;
        Ok(Self { portal, rows })
    }
}

/// PasswordMessage: the password without its terminator.
///
/// # Errors
/// Missing or trailing bytes, not UTF-8.
pub fn password(body: &[u8]) -> Result<&str, InvalidMessage> {
    let mut fields = Fields::new(body);
    let text = fields.text("password")?;
    fields.end("PasswordMessage")?;
    Ok(text)
}

/// SASLInitialResponse: the mechanism chosen and its first data, if any.
///
/// # Errors
/// Missing or trailing bytes.
pub fn sasl_initial_response(body: &[u8]) -> Result<(&str, Option<&[u8]>), InvalidMessage> {
    let mut fields = Fields::new(body);
    let mechanism = fields.text("SASL mechanism")?;
    let data = fields.value("SASL data")?;
    fields.end("SASLInitialResponse")?;
    Ok((mechanism, data))
}

#[cfg(test)]
mod tests {
    use super::super::write;
    use super::*;

    #[test]
    fn what_is_built_is_read() {
        let mut out = Vec::new();
        write::parse("s", "select 1", &mut out);
        let parse = Parse::read(&out[5..]).unwrap();
        assert_eq!((parse.name, parse.text, parse.types.len()), ("s", &b"select 1"[..], 0));
        out.clear();
        write::bind("p", "s", &[None, Some(b"x")], &mut out);
        let bind = Bind::read(&out[5..]).unwrap();
        assert_eq!((bind.portal, bind.statement), ("p", "s"));
        assert_eq!(bind.parameters, [None, Some(&b"x"[..])]);
        assert!(!bind.results.binary(0));
        out.clear();
        write::execute("p", 3, &mut out);
        assert_eq!(Execute::read(&out[5..]), Ok(Execute { portal: "p", rows: 3 }));
        out.clear();
        write::describe(b'S', "s", &mut out);
        assert_eq!(Named::read(&out[5..]), Ok(Named::Statement("s")));
        out.clear();
        write::query("select 1", &mut out);
        assert_eq!(query(&out[5..]), Ok(&b"select 1"[..]));
    }

    #[test]
    fn s25_a_query_with_a_second_text_behind_the_zero_is_refused() {
        assert_eq!(query(b"select 1\0drop table t\0"), Err(InvalidMessage::Trailing("Query")));
    }

    #[test]
    fn one_format_holds_for_all() {
        let body = b"\0\0\0\x01\0\x01\0\x00\0\x01\0\x01";
        let bind = Bind::read(body).unwrap();
        assert!(bind.results.binary(0) && bind.results.binary(70));
    }
}
