//! From what was understood to what policy is asked.
//!
//! Each gives a whole [`Operation`]. What can't be put into the words of policy asks for `unknown`, never for nothing.
use std::collections::BTreeMap;

use sluice_policy::{Ask, Feature, Operation, Resource, ResourceKind};

use super::command::CommandLine;
use super::path::{Start, escaped};
use super::{scp, sftp};

/// At which target, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The target's name.
    pub target: &'a str,
    /// The account at it.
    pub account: &'a str,
}

impl Place<'_> {
    /// `Account::"target/account"`.
    pub fn account(&self) -> Resource {
        Resource::new(ResourceKind::Account, [self.target, self.account])
    }

    /// An interactive shell.
    pub fn shell(&self) -> Operation {
        self.plain("shell", "shell", String::new(), "an interactive shell".to_owned())
    }

    /// A terminal for what comes next.
    pub fn pty(&self, term: &[u8]) -> Operation {
        self.plain("pty", "pty", escaped(term), format!("a terminal ({})", shown(term)))
    }

    /// A command; `understood` is what [`super::command::analyse`] says to `line`. `start` is where relative paths
    /// begin, where that is known.
    pub fn exec(&self, line: &[u8], understood: &CommandLine, start: &Start) -> Operation {
        let _ = (understood, start);
        self.plain("exec", "unknown", escaped(line), "a command that is not understood".to_owned())
    }

    /// A subsystem.
    pub fn subsystem(&self, name: &[u8]) -> Operation {
        let mut operation =
            self.plain("subsystem", "subsystem", escaped(name), format!("the subsystem {}", shown(name)));
        operation.features.insert("subsystem", Feature::Text(escaped(name)));
        operation
    }

    /// A variable of the environment.
    pub fn env(&self, name: &[u8], value: &[u8]) -> Operation {
        let text = format!("{}={}", escaped(name), escaped(value));
        let mut operation = self.plain("env", "env", text, format!("sets {}", shown(name)));
        operation.features.insert("variable", Feature::Text(escaped(name)));
        operation
    }

    /// A request of SFTP.
    pub fn sftp(&self, call: &sftp::Call) -> Operation {
        let _ = call;
        self.plain("file", "unknown", String::new(), "a request that is not understood".to_owned())
    }

    /// A file of scp.
    pub fn scp(&self, file: &scp::File) -> Operation {
        let _ = file;
        self.plain("file", "unknown", String::new(), "a file that is not understood".to_owned())
    }

    /// A connection through the target to a host and port (direct-tcpip).
    pub fn forward(&self, host: &[u8], port: u32) -> Operation {
        self.end("forward", host, Some(port))
    }

    /// A connection through the target to a socket there (direct-streamlocal@openssh.com).
    pub fn forward_socket(&self, path: &[u8]) -> Operation {
        self.end("forward", path, None)
    }

    /// Connections to a port of the target, brought here (tcpip-forward). Port 0: whichever is free.
    pub fn listen(&self, host: &[u8], port: u32) -> Operation {
        self.end("listen", host, Some(port))
    }

    /// Connections to a socket of the target, brought here (streamlocal-forward@openssh.com).
    pub fn listen_socket(&self, path: &[u8]) -> Operation {
        self.end("listen", path, None)
    }

    /// The person's agent, lent to the target.
    pub fn agent_forward(&self) -> Operation {
        self.plain(
            "agent_forward",
            "agent_forward",
            String::new(),
            "lends the agent to the target".to_owned(),
        )
    }

    /// The person's screen, lent to the target.
    pub fn x11_forward(&self) -> Operation {
        self.plain("x11_forward", "x11_forward", String::new(), "lends the screen to the target".to_owned())
    }

    fn end(&self, kind: &'static str, host: &[u8], port: Option<u32>) -> Operation {
        let text = port.map_or_else(|| escaped(host), |port| format!("{}:{port}", escaped(host)));
        self.plain(kind, "unknown", text, format!("{kind}s what is not understood"))
    }

    /// One ask of the account.
    fn plain(&self, kind: &'static str, action: &'static str, text: String, understood: String) -> Operation {
        Operation {
            kind,
            text,
            parameters: Vec::new(),
            asks: vec![Ask::new(action, self.account())],
            features: BTreeMap::new(),
            understood,
        }
    }
}

/// For people's eyes: no control character survives.
fn shown(bytes: &[u8]) -> String {
    escaped(bytes)
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}
