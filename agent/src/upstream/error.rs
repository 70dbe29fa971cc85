//! Why there is no session with the target, in words that may be shown.
//!
//! What a client reads is written here and nowhere else: no text of the target, no role, no secret. The details
//! go into the log and the audit event by [`UpstreamError::detail`].
use std::io;

/// What went wrong on the way to the target. `Display` is safe for the user.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nobody listens, no route, refused.
    #[error("the target is not reachable")]
    Unreachable(#[source] io::Error),
    /// No answer in time.
    #[error("the target did not answer in time")]
    Late,
    /// It went away before the session stood.
    #[error("the target closed the connection before the session was open")]
    Closed(#[source] io::Error),
    /// The configuration demands TLS and the target has none.
    #[error("the target does not offer TLS, which Sluice is told to demand")]
    NoTls,
    /// Something stood between the answer to SSLRequest and TLS (CVE-2021-23222), or an error in clear came where
    /// TLS was asked for: its text is nobody's word (CVE-2024-10977).
    #[error("the target did not keep to the protocol before TLS was up; somebody may be in between")]
    Tampered(&'static str),
    /// Its certificate is not that of the target.
    #[error("the certificate of the target is not trusted")]
    Certificate(#[source] rustls::Error),
    /// TLS failed otherwise.
    #[error("TLS with the target could not be set up")]
    Tls(#[source] io::Error),
    /// No TLS settings: the target's `ca_file` could not be read.
    #[error("the target is not usable with its present configuration")]
    Unconfigured,
    /// The target asks for a password and none was handed over.
    #[error("Sluice has no credential for the target")]
    NoSecret,
    /// It asks for a method that gives the secret away.
    #[error("the target asks for a method of authentication that Sluice does not use ({0})")]
    Method(String),
    /// A credential is configured and the target never asked for it.
    #[error("the target let Sluice in without asking for its credential")]
    Unproven,
    /// The target did not prove that it knows the secret, or the exchange was broken.
    #[error("the target could not prove that it knows Sluice's credential")]
    Impostor(#[source] io::Error),
    /// It refused our credential (SQLSTATE class 28).
    #[error("the target refused Sluice's own credential")]
    Credential {
        /// Its SQLSTATE.
        code: String,
    },
    /// There is no such database.
    #[error("the database does not exist at the target")]
    NoDatabase,
    /// It refused for another reason, by its SQLSTATE.
    #[error("the target refused the session (SQLSTATE {code})")]
    Refused {
        /// Its SQLSTATE.
        code: String,
        /// Its words, for the log alone.
        text: String,
    },
    /// What came is not this protocol.
    #[error("the target sent something that is not the PostgreSQL protocol")]
    Protocol(String),
}

impl UpstreamError {
    /// What to do and whom to ask.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Late | Self::Closed(_) => {
                "Try again later. If it lasts, ask the administrator of the database whether it is up."
            }
            Self::NoTls | Self::Certificate(_) | Self::Tls(_) | Self::Unconfigured => {
                "Nothing was sent. Ask the administrator of Sluice to check [target.upstream] tls and ca_file against \
                 the certificate of the database."
            }
            Self::Tampered(_) | Self::Impostor(_) | Self::Unproven | Self::Method(_) => {
                "Nothing was sent that could be misused. Tell the administrators of Sluice and of the database."
            }
            Self::NoSecret | Self::Credential { .. } => {
                "Ask the administrator of Sluice to check user and password_file in [target.upstream]; your own login \
                 is fine."
            }
            Self::NoDatabase => "Check the name of the database (psql: the last argument, or -d).",
            Self::Refused { .. } | Self::Protocol(_) => {
                "Ask the administrator of the database; the events of Sluice have the details."
            }
        }
    }

    /// The SQLSTATE that the client gets.
    pub fn code(&self) -> &str {
        match self {
            Self::NoDatabase => "3D000",
            // 57P03 cannot_connect_now, 53300 too_many_connections: drivers know when to try again
            Self::Refused { code, .. } if matches!(code.as_str(), "57P03" | "53300") => code,
            _ => "08006",
        }
    }

    /// For events: one stable word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Late => "late",
            Self::Closed(_) => "closed",
            Self::NoTls => "no_tls",
            Self::Tampered(_) => "tampered",
            Self::Certificate(_) => "certificate",
            Self::Tls(_) => "tls",
            Self::Unconfigured => "unconfigured",
            Self::NoSecret => "no_secret",
            Self::Method(_) => "method",
            Self::Unproven => "unproven",
            Self::Impostor(_) => "impostor",
            Self::Credential { .. } => "credential",
            Self::NoDatabase => "no_database",
            Self::Refused { .. } => "refused",
            Self::Protocol(_) => "protocol",
        }
    }

    /// For the log and the audit event: the whole chain, foreign text escaped so that it can't write into a
    /// terminal.
    pub fn detail(&self) -> String {
        let mut text = self.to_string();
        match self {
            Self::Tampered(what) => text.push_str(&format!(": {what}")),
            Self::Credential { code } => text.push_str(&format!(": SQLSTATE {code}")),
            Self::Refused { text: said, .. } => text.push_str(&format!(": {said}")),
            Self::Protocol(what) => text.push_str(&format!(": {what}")),
            _ => {}
        }
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(1000).collect()
    }
}
