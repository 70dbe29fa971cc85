//! `/etc/sluice` as values.
//!
//! What enters: bytes of `sluice.toml`, and the names and texts of `policy/*.cedar`.
//! What leaves: a [`Config`] in which every value has been checked, or every [`Diagnostic`] that could be found in one pass.
//! What must hold: a key that is not understood is an error and never ignored; a file that somebody other than
//! its owner may write is not read; no input makes the parser panic.
mod diagnostic;
mod files;
mod names;
mod parse;
mod reader;
mod sections;
mod targets;
#[cfg(test)]
mod tests;
mod values;

pub use diagnostic::Diagnostic;
pub use names::look_alike;
pub use sections::{
    Agent, Algorithm, ClientLeg, ClientTls, Config, Guard, GuardMode, Host, Identity, Layer, Limits,
    MaskKind, Metrics, MetricsListen, Mode, OnFailure, PacketSockets, Policy, PostgresTarget, Protocol,
    Recording, SelfProtection, ServerCertificate, Service, SshProof, SshTarget, Target, TlsMode, Transfers,
    Truth, UnixMaintenance, Unregistered, Upstream, Vouched,
};

use std::path::{Path, PathBuf};

/// Path and text of every `*.cedar` in a directory, as [`Config::policy_sources`] reads them.
pub fn policy_sources(dir: &Path) -> Result<Vec<(String, String)>, Vec<Diagnostic>> {
    files::policy_sources(dir)
}

/// Where the loader keeps the last policy that the proxy has accepted, under `agent.state_dir`.
#[must_use]
pub fn good_policy(state_dir: &Path) -> PathBuf {
    state_dir.join("good/policy")
}

impl Config {
    /// Reads and checks the file at `path`: it and its directory belong to root or to the caller, nobody else may
    /// write them, it is no link and at most 1 MiB. Relative paths inside are errors.
    pub fn load(path: &Path) -> Result<Config, Vec<Diagnostic>> {
        parse::config(&path.display().to_string(), &files::read_trusted(path)?)
    }

    /// Checks `text`; `name` is what diagnostics call the file.
    pub fn parse(name: &str, text: &str) -> Result<Config, Vec<Diagnostic>> {
        parse::config(name, text)
    }

    /// Path and text of every `*.cedar` in `policy.dir`, sorted by name, read under the same checks as the
    /// configuration. None at all is an error.
    pub fn policy_sources(&self) -> Result<Vec<(String, String)>, Vec<Diagnostic>> {
        files::policy_sources(&self.policy.dir)
    }

    /// The target of this name.
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }
}

impl Target {
    /// What is spoken there.
    pub fn protocol(&self) -> Protocol {
        match self.service {
            Service::Postgres(_) => Protocol::Postgres,
            Service::Ssh(_) => Protocol::Ssh,
        }
    }

    /// It is a service of this host itself.
    pub fn is_ingress(&self) -> bool {
        matches!(self.mode, Mode::Ingress { .. })
    }

    /// The keys of a PostgreSQL target.
    pub fn postgres(&self) -> Option<&PostgresTarget> {
        match &self.service {
            Service::Postgres(postgres) => Some(postgres),
            Service::Ssh(_) => None,
        }
    }

    /// The keys of an SSH target.
    pub fn ssh(&self) -> Option<&SshTarget> {
        match &self.service {
            Service::Postgres(_) => None,
            Service::Ssh(ssh) => Some(ssh),
        }
    }

    /// Whom the target takes Sluice for: the role, or the account where no other is asked for.
    pub fn user(&self) -> &str {
        match &self.service {
            Service::Postgres(postgres) => &postgres.upstream.user,
            Service::Ssh(ssh) => &ssh.user,
        }
    }
}

impl Protocol {
    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Postgres => "postgres",
            Protocol::Ssh => "ssh",
        }
    }
}

impl SshTarget {
    /// The account behind the name that a client asks for.
    pub fn account<'a>(&'a self, asked: &str) -> &'a str {
        self.users.iter().find(|user| *user == asked).map_or(&self.user, String::as_str)
    }
}

impl PostgresTarget {
    /// The class of a column, by its names as the catalogue has them.
    pub fn class(&self, schema: &str, table: &str, column: &str) -> Option<&str> {
        self.classes.get(&names::canonical([schema, table, column])).map(String::as_str)
    }

    /// How values of `class` are shown: as configured, else redacted.
    pub fn mask(&self, class: &str) -> MaskKind {
        self.masks.get(class).copied().unwrap_or(MaskKind::Redact)
    }

    /// Whether an owner vouches for this function, by its names as the catalogue has them.
    pub fn vouches(&self, schema: &str, function: &str) -> bool {
        let name = names::canonical([schema, function]);
        self.vouched.iter().any(|vouched| vouched.name == name)
    }
}
