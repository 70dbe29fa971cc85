//! Builders: each appends one message to `out`.
use super::startup::{CANCEL, ProtocolVersion};

/// Appends a message of type `kind` whose body is what `body` appends.
pub fn message(kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    sized(out, body);
}

/// Length word (counting itself) and body.
fn sized(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    // Saturates: no caller builds 4 GiB, and a reader refuses what is over its limit.
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length);
    }
}

/// A string and its terminator. A zero byte within would end it early and let a text forge the next field,
/// so it is left out.
pub fn string(text: &str, out: &mut Vec<u8>) {
    out.extend(text.bytes().filter(|b| *b != 0));
    out.push(0);
}

fn count(n: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes());
}

/// A value with its length in front; `None` is NULL.
pub fn value(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        Some(bytes) => {
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

// --- what a server says ---------------------------------------------------------------------------------

fn authentication(method: i32, out: &mut Vec<u8>, rest: impl FnOnce(&mut Vec<u8>)) {
    message(b'R', out, |out| {
        out.extend_from_slice(&method.to_be_bytes());
        rest(out);
    });
}

/// AuthenticationOk.
pub fn authentication_ok(out: &mut Vec<u8>) {
    authentication(0, out, |_| {});
}

/// AuthenticationCleartextPassword: to be asked for over TLS alone.
pub fn authentication_cleartext(out: &mut Vec<u8>) {
    authentication(3, out, |_| {});
}

/// AuthenticationSASL with the mechanisms on offer, best first.
pub fn authentication_sasl(mechanisms: &[&str], out: &mut Vec<u8>) {
    authentication(10, out, |out| {
        for name in mechanisms {
            string(name, out);
        }
        out.push(0);
    });
}

/// AuthenticationSASLContinue.
pub fn authentication_sasl_continue(data: &[u8], out: &mut Vec<u8>) {
    authentication(11, out, |out| out.extend_from_slice(data));
}

/// AuthenticationSASLFinal.
pub fn authentication_sasl_final(data: &[u8], out: &mut Vec<u8>) {
    authentication(12, out, |out| out.extend_from_slice(data));
}

/// ParameterStatus.
pub fn parameter_status(name: &str, setting: &str, out: &mut Vec<u8>) {
    message(b'S', out, |out| {
        string(name, out);
        string(setting, out);
    });
}

/// BackendKeyData. The key has four bytes in protocol 3.0, 4 to 256 in 3.2.
pub fn backend_key_data(process: u32, key: &[u8], out: &mut Vec<u8>) {
    message(b'K', out, |out| {
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(key);
    });
}

/// ReadyForQuery; `status` is `I`, `T` or `E`.
pub fn ready_for_query(status: u8, out: &mut Vec<u8>) {
    message(b'Z', out, |out| out.push(status));
}

/// NegotiateProtocolVersion: the newest minor version that we speak, and the `_pq_.` options that we don't know.
pub fn negotiate_protocol_version(newest_minor: u16, unknown: &[&str], out: &mut Vec<u8>) {
    message(b'v', out, |out| {
        // PostgreSQL sends the whole version word here, in spite of what older documentation says.
        let word = ProtocolVersion { major: 3, minor: newest_minor }.word();
        out.extend_from_slice(&word.to_be_bytes());
        out.extend_from_slice(&u32::try_from(unknown.len()).unwrap_or(u32::MAX).to_be_bytes());
        for name in unknown {
            string(name, out);
        }
    });
}

/// CommandComplete.
pub fn command_complete(tag: &str, out: &mut Vec<u8>) {
    message(b'C', out, |out| string(tag, out));
}

/// RowDescription of text columns (`type_oid` 25) that belong to no table.
pub fn row_description_text(names: &[&str], out: &mut Vec<u8>) {
    message(b'T', out, |out| {
        count(names.len(), out);
        for name in names {
            string(name, out);
            out.extend_from_slice(&0i32.to_be_bytes());
            out.extend_from_slice(&0i16.to_be_bytes());
            out.extend_from_slice(&25i32.to_be_bytes());
            out.extend_from_slice(&(-1i16).to_be_bytes());
            out.extend_from_slice(&(-1i32).to_be_bytes());
            out.extend_from_slice(&0i16.to_be_bytes());
        }
    });
}

/// DataRow.
pub fn data_row(values: &[Option<&[u8]>], out: &mut Vec<u8>) {
    message(b'D', out, |out| {
        count(values.len(), out);
        for v in values {
            value(*v, out);
        }
    });
}

/// CopyData, from either side.
pub fn copy_data(bytes: &[u8], out: &mut Vec<u8>) {
    message(b'd', out, |out| out.extend_from_slice(bytes));
}

// --- what a client says ---------------------------------------------------------------------------------

/// SSLRequest.
pub fn ssl_request(out: &mut Vec<u8>) {
    sized(out, |out| out.extend_from_slice(&super::startup::SSL.to_be_bytes()));
}

/// CancelRequest.
pub fn cancel_request(process: u32, key: &[u8], out: &mut Vec<u8>) {
    sized(out, |out| {
        out.extend_from_slice(&CANCEL.to_be_bytes());
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(key);
    });
}

/// StartupMessage.
pub fn startup<'a>(
    version: ProtocolVersion,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    out: &mut Vec<u8>,
) {
    sized(out, |out| {
        out.extend_from_slice(&version.word().to_be_bytes());
        for (name, setting) in parameters {
            string(name, out);
            string(setting, out);
        }
        out.push(0);
    });
}

/// PasswordMessage.
pub fn password(password: &str, out: &mut Vec<u8>) {
    message(b'p', out, |out| string(password, out));
}

/// SASLInitialResponse.
pub fn sasl_initial_response(mechanism: &str, data: &[u8], out: &mut Vec<u8>) {
    message(b'p', out, |out| {
        string(mechanism, out);
        value(Some(data), out);
    });
}

/// SASLResponse.
pub fn sasl_response(data: &[u8], out: &mut Vec<u8>) {
    message(b'p', out, |out| out.extend_from_slice(data));
}

/// Query.
pub fn query(text: &str, out: &mut Vec<u8>) {
    message(b'Q', out, |out| string(text, out));
}

/// Parse without parameter types.
pub fn parse(name: &str, text: &str, out: &mut Vec<u8>) {
    message(b'P', out, |out| {
        string(name, out);
        string(text, out);
        count(0, out);
    });
}

/// Bind of text parameters, text results.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&[u8]>], out: &mut Vec<u8>) {
    message(b'B', out, |out| {
        string(portal, out);
        string(statement, out);
        count(0, out);
        count(parameters.len(), out);
        for p in parameters {
            value(*p, out);
        }
        count(0, out);
    });
}

/// Describe; `what` is `S` (statement) or `P` (portal).
pub fn describe(what: u8, name: &str, out: &mut Vec<u8>) {
    message(b'D', out, |out| {
        out.push(what);
        string(name, out);
    });
}

/// Execute; `rows` 0 means all.
pub fn execute(portal: &str, rows: i32, out: &mut Vec<u8>) {
    message(b'E', out, |out| {
        string(portal, out);
        out.extend_from_slice(&rows.to_be_bytes());
    });
}

/// Close; `what` is `S` (statement) or `P` (portal).
pub fn close(what: u8, name: &str, out: &mut Vec<u8>) {
    message(b'C', out, |out| {
        out.push(what);
        string(name, out);
    });
}

/// Sync.
pub fn sync(out: &mut Vec<u8>) {
    message(b'S', out, |_| {});
}

/// Flush.
pub fn flush(out: &mut Vec<u8>) {
    message(b'H', out, |_| {});
}

/// Terminate.
pub fn terminate(out: &mut Vec<u8>) {
    message(b'X', out, |_| {});
}
