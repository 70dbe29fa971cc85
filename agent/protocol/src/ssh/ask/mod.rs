//! From what was understood to what policy is asked.
//!
//! Each gives a whole [`Operation`]. What can't be put into the words of policy asks for `unknown`, never for nothing.
use std::collections::BTreeMap;

use sluice_policy::{Ask, Feature, Operation, Resource, ResourceKind};

use super::path::escaped;

mod exec;
mod file;
mod forward;

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
        self.plain("shell", "shell", "an interactive shell")
    }

    /// A terminal for what comes next.
    pub fn pty(&self, term: &[u8]) -> Operation {
        Operation {
            text: escaped(term),
            ..self.plain("pty", "pty", &format!("a terminal ({})", escaped(term)))
        }
    }

    /// A subsystem.
    pub fn subsystem(&self, name: &[u8]) -> Operation {
        let name = escaped(name);
        let plain = self.plain("subsystem", "subsystem", &format!("the subsystem {name}"));
        Operation {
            features: BTreeMap::from([("subsystem", Feature::Text(name.clone()))]),
            text: name,
            ..plain
        }
    }

    /// A variable of the environment.
    pub fn env(&self, name: &[u8], value: &[u8]) -> Operation {
        let (name, value) = (escaped(name), escaped(value));
        Operation {
            text: format!("{name}={value}"),
            features: BTreeMap::from([("variable", Feature::Text(name.clone()))]),
            ..self.plain("env", "env", &format!("sets {name}"))
        }
    }

    /// The person's agent, lent to the target.
    pub fn agent_forward(&self) -> Operation {
        self.plain("agent_forward", "agent_forward", "lends the agent to the target")
    }

    /// The person's screen, lent to the target.
    pub fn x11_forward(&self) -> Operation {
        self.plain("x11_forward", "x11_forward", "lends the screen to the target")
    }

    /// One ask of the account.
    fn plain(&self, kind: &'static str, action: &'static str, understood: &str) -> Operation {
        self.operation(kind, vec![Ask::new(action, self.account())], understood)
    }

    fn operation(&self, kind: &'static str, asks: Vec<Ask>, understood: &str) -> Operation {
        Operation {
            kind,
            text: String::new(),
            parameters: Vec::new(),
            asks,
            features: BTreeMap::new(),
            understood: shown(understood),
        }
    }

    /// `action` on a file; `unknown` where it can't be said which file that is.
    fn file(&self, action: &'static str, path: Option<&str>) -> Ask {
        match path {
            Some(path) => Ask::new(action, Resource::new(ResourceKind::Path, [self.target, path])),
            None => Ask::new("unknown", self.account()),
        }
    }
}

/// For people's eyes: no control character survives.
fn shown(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Each once, in the order in which they were found: people are told of the first that is refused.
fn distinct(asks: Vec<Ask>) -> Vec<Ask> {
    let mut seen = std::collections::BTreeSet::new();
    asks.into_iter().filter(|ask| seen.insert(ask.clone())).collect()
}

#[cfg(test)]
mod tests;
