//! Why there is no SSH session with the target, in words that may be shown.
//!
//! As in [`crate::upstream::UpstreamError`]: what a client reads is written here, details go into log and event.
use std::io;

/// What went wrong on the way to an SSH target. `Display` is safe for the user.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// Nobody listens, no route, refused.
    #[error("the target is not reachable")]
    Unreachable(#[source] io::Error),
    /// No answer in time.
    #[error("the target did not answer in time")]
    Late,
    /// It went away, or broke the protocol, before the session stood.
    #[error("the connection to the target broke before the session was open")]
    Broken(#[source] russh::Error),
    /// It has none of the algorithms that Sluice uses.
    #[error("the target offers no algorithm that Sluice uses ({0})")]
    Algorithms(String),
    /// It has ciphers that are only safe with strict key exchange, and not that (CVE-2023-48795, Terrapin).
    #[error("the target's SSH is open to Terrapin: it has no strict key exchange, and chose {0}")]
    Terrapin(String),
    /// Its host key is another one than the one that is known: somebody may be in between.
    #[error("the host key of the target has changed; somebody may be in between")]
    HostKeyChanged {
        /// What is known: kind and fingerprint.
        known: String,
        /// What came.
        seen: String,
    },
    /// Its host key, or its certificate, is none of those in the configuration.
    #[error("the host key of the target is not the one that is configured; somebody may be in between")]
    HostKeyUnknown {
        /// What came: kind and fingerprint.
        seen: String,
        /// What is wrong with its certificate, where one came.
        certificate: Option<String>,
    },
    /// The first host key could not be kept, and so not be trusted.
    #[error("the host key of the target could not be put on record")]
    Unremembered(#[source] io::Error),
    /// No target of this protocol.
    #[error("the target is not usable with its present configuration")]
    Unconfigured,
    /// The key or password was not handed over.
    #[error("Sluice has no credential for the target")]
    NoSecret,
    /// What was handed over is no private key, or is locked by a passphrase.
    #[error("Sluice's private key for the target can't be used")]
    BadKey(String),
    /// Sluice could not issue its own certificate.
    #[error("Sluice could not issue its certificate for the target")]
    Issue(#[source] crate::ssh::SshAuthorityError),
    /// The kernel can't tell what would run there, and the target's configuration demands that it does.
    #[error("what runs in a session there can't be seen")]
    Unseen(String),
    /// It refused our credential.
    #[error("the target refused Sluice's own credential")]
    Credential {
        /// What it would take instead.
        offers: String,
    },
}

impl From<russh::Error> for SshError {
    fn from(error: russh::Error) -> Self {
        match error {
            russh::Error::NoCommonAlgo { kind, theirs, .. } => {
                Self::Algorithms(format!("{kind:?}: it has {}", theirs.join(", ")))
            }
            error => Self::Broken(error),
        }
    }
}

impl SshError {
    /// What to do and whom to ask.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Late | Self::Broken(_) => {
                "Try again later. If it lasts, ask the administrator of that host whether it is up."
            }
            Self::Terrapin(_) => {
                "Nothing was sent. Its administrator has to update its SSH server, or to offer AES-GCM."
            }
            Self::Algorithms(_) => "The target is too old, or too new: tell its administrator.",
            Self::HostKeyChanged { .. } => {
                "Nothing was sent. If the host was installed anew, the administrator of Sluice has to take its line \
                 out of ssh/known_hosts in the state directory, or to name its key in [target.upstream] host_keys."
            }
            Self::HostKeyUnknown { .. } => {
                "Nothing was sent. Ask the administrator of Sluice to check host_keys and host_ca in [target.upstream]."
            }
            Self::Unremembered(_) | Self::Issue(_) => {
                "Ask the administrator of this host; the events of Sluice have the details."
            }
            Self::Unconfigured | Self::NoSecret | Self::BadKey(_) => {
                "Ask the administrator of Sluice to check key_file or password_file in [target.upstream]; your own \
                 login is fine."
            }
            Self::Unseen(_) => {
                "Nothing was sent. The administrator of Sluice finds the reason in its events and in `sluice status`; \
                 `truth` in [[target]] demands it."
            }
            Self::Credential { .. } => {
                "Ask the administrator of Sluice: either the account does not exist there, or the target does not trust \
                 Sluice's CA (`sluice ca --ssh-user`, TrustedUserCAKeys) or its key. Your own login is fine."
            }
        }
    }

    /// For events: one stable word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Late => "late",
            Self::Broken(_) => "closed",
            Self::Algorithms(_) => "algorithms",
            Self::Terrapin(_) => "terrapin",
            Self::HostKeyChanged { .. } => "host_key_changed",
            Self::HostKeyUnknown { .. } => "host_key_unknown",
            Self::Unremembered(_) => "unremembered",
            Self::Unconfigured => "unconfigured",
            Self::NoSecret => "no_secret",
            Self::BadKey(_) => "bad_key",
            Self::Issue(_) => "issue",
            Self::Unseen(_) => "unseen",
            Self::Credential { .. } => "credential",
        }
    }

    /// Somebody may be in between: an alarm, and not the trouble of an ordinary day.
    pub fn is_alarm(&self) -> bool {
        matches!(self, Self::HostKeyChanged { .. } | Self::HostKeyUnknown { .. })
    }

    /// For the log and the audit event: the whole chain, foreign text escaped.
    pub fn detail(&self) -> String {
        let mut text = self.to_string();
        match self {
            Self::HostKeyChanged { known, seen } => text.push_str(&format!(": known {known}, seen {seen}")),
            Self::HostKeyUnknown { seen, certificate } => {
                text.push_str(&format!(": seen {seen}"));
                if let Some(why) = certificate {
                    text.push_str(&format!(", its certificate: {why}"));
                }
            }
            Self::BadKey(why) | Self::Unseen(why) => text.push_str(&format!(": {why}")),
            Self::Credential { offers } => text.push_str(&format!(": it takes {offers}")),
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
