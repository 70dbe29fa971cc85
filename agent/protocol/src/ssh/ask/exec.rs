//! A command line at the gate.
use std::collections::BTreeMap;

use sluice_policy::{Ask, Feature, Operation, Resource, ResourceKind};

use super::{Place, distinct};
use crate::ssh::command::{Access, CommandLine, Git, Program, Server, is_standard};
use crate::ssh::path::{Start, escaped};

impl Place<'_> {
    /// A command; `understood` is what [`crate::ssh::command::analyse`] says to `line`. `start` is where relative paths
    /// begin, where that is known.
    pub fn exec(&self, line: &[u8], understood: &CommandLine, start: &Start) -> Operation {
        let mut asks = Vec::new();
        if understood.unknown.is_some() {
            asks.push(Ask::new("unknown", self.account()));
        }
        match &understood.server {
            Some(server) => self.server(server, &understood.programs, start, &mut asks),
            None => understood.programs.iter().for_each(|program| self.program(program, &mut asks)),
        }
        for opened in &understood.redirections {
            // what goes there is lost, and nothing comes from it
            if opened.path == "/dev/null" {
                continue;
            }
            let path = start.resolve_written(&opened.path);
            let actions: &[&'static str] = match opened.access {
                Access::Read => &["file_read"],
                Access::Write => &["file_write"],
                Access::Both => &["file_read", "file_write"],
            };
            asks.extend(actions.iter().map(|action| self.file(action, path.as_deref())));
        }
        if asks.is_empty() {
            asks.push(Ask::new("unknown", self.account()));
        }
        let mut features = BTreeMap::from([
            ("removes_root", Feature::Bool(understood.removes_root)),
            ("elevates", Feature::Bool(understood.programs.iter().any(|program| program.elevated))),
            ("background", Feature::Bool(understood.background)),
        ]);
        if understood.server == Some(Server::Sftp) {
            features.insert("subsystem", Feature::Text("sftp".to_owned()));
        }
        Operation {
            text: escaped(line),
            features,
            ..self.operation("exec", distinct(asks), &in_words(understood))
        }
    }

    /// A program that is about to run in a session, by the kernel's word: `Command::"target/path"`.
    pub fn run(&self, path: &str) -> Operation {
        let command = Resource::new(ResourceKind::Command, [self.target, path]);
        let text = escaped(path.as_bytes());
        let understood = format!("the program {text}");
        Operation { text, ..self.operation("run", vec![Ask::new("run", command)], &understood) }
    }

    fn program(&self, program: &Program, asks: &mut Vec<Ask>) {
        let command = |name: &str| {
            let path = [self.target, name].into_iter().chain(program.arguments.iter().map(String::as_str));
            Resource::new(ResourceKind::Command, path)
        };
        // a program in a directory of somebody's own is itself, and what it is called
        let own = (!is_standard(&program.name)).then_some(program.name.as_str());
        for name in own.into_iter().chain([program.basename()]) {
            if name.is_empty() {
                asks.push(Ask::new("unknown", self.account()));
                continue;
            }
            asks.push(Ask::new("exec", command(name)));
            if program.unknown.is_some() {
                asks.push(Ask::new("unknown", command(name)));
            }
        }
    }

    fn server(&self, server: &Server, programs: &[Program], start: &Start, asks: &mut Vec<Ask>) {
        let on = |action, path: &str| self.file(action, start.resolve_written(path).as_deref());
        match server {
            // every file of it is asked for by itself later
            Server::Scp(scp) => {
                let action = if scp.receives { "file_write" } else { "file_read" };
                asks.extend(scp.paths.iter().map(|path| on(action, path)));
            }
            Server::Rsync(rsync) => {
                programs.iter().for_each(|program| self.program(program, asks));
                let action = if rsync.sends { "file_read" } else { "file_write" };
                asks.extend(rsync.paths.iter().map(|path| on(action, path)));
                if rsync.removes {
                    asks.extend(rsync.paths.iter().map(|path| on("file_remove", path)));
                }
            }
            Server::Git(git) => {
                programs.iter().for_each(|program| self.program(program, asks));
                let action = if git.receives { "file_write" } else { "file_read" };
                asks.extend(repositories(git).iter().map(|path| on(action, path)));
            }
            Server::Sftp => asks.push(Ask::new("subsystem", self.account())),
        }
    }
}

/// Where git looks for it: as it was named, and with `.git` behind it.
fn repositories(git: &Git) -> Vec<String> {
    let named = git.repository.trim_end_matches('/');
    let named = if named.is_empty() { git.repository.as_str() } else { named };
    let mut found = vec![named.to_owned()];
    if !named.ends_with(".git") && named != "/" {
        found.push(format!("{named}.git"));
    }
    found
}

/// How it was understood, in a line.
fn in_words(line: &CommandLine) -> String {
    let mut parts = Vec::new();
    if let Some(why) = &line.unknown {
        parts.push(format!("not understood: {why}"));
    }
    for program in &line.programs {
        let mut words = vec![program.name.as_str()];
        words.extend(program.arguments.iter().map(String::as_str));
        let mut part = format!("runs {}", words.join(" "));
        if program.elevated {
            part.push_str(" as somebody else");
        }
        if let Some(why) = &program.unknown {
            part = format!("{part} and more ({why})");
        }
        parts.push(part);
    }
    for opened in &line.redirections {
        let word = match opened.access {
            Access::Read => "reads",
            Access::Write => "writes",
            Access::Both => "reads and writes",
        };
        parts.push(format!("{word} {}", opened.path));
    }
    if line.background {
        parts.push("goes on in the background".to_owned());
    }
    let words = parts.join("; ");
    if words.len() <= 2000 { words } else { format!("{}…", words.chars().take(1900).collect::<String>()) }
}
