//! What a command line does, as far as that can be said before a shell runs it.
//!
//! In: the bytes of an `exec` request. Out: a [`CommandLine`]: the programs with their arguments, the files that
//! redirections open, and what a server command (scp, rsync, git, sftp) is going to do.
//!
//! The grammar is that of `brush-parser`; which shell runs at the target is not known. It must hold that a form on
//! which shells differ, or that this room does not know, makes the line [`unknown`](CommandLine::unknown), or the program
//! [so](Program::unknown), and is never skipped: a line may come out as more than it is, never as
//! less. What the programs themselves do (a script, `make`, an editor's `:!`) is not seen here.

mod lexer;
mod options;
mod programs;
mod removal;
mod server;
mod shells;
mod tables;
mod variables;
mod walk;
mod word;

pub(crate) use server::is_standard;
use walk::Walk;

/// A longer line is not looked at.
pub const MAX_LINE: usize = 64 * 1024;

/// A command line, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Every program that is run, also by other programs (`sudo`, `env`, `sh -c`), in the order in which they stand.
    pub programs: Vec<Program>,
    /// Files that the shell itself opens.
    pub redirections: Vec<Redirection>,
    /// What it serves, where it is nothing but the far side of a client that speaks a protocol of its own.
    pub server: Option<Server>,
    /// Something goes on when the line is done: `&`, nohup, setsid, at, systemd-run.
    pub background: bool,
    /// Everything from the root on is removed: `rm -rf /`, `rm --no-preserve-root`, `cd /; rm -r *`, `find / -delete`.
    pub removes_root: bool,
    /// Why the line as a whole is not understood.
    pub unknown: Option<String>,
}

/// A program with what it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// As it was written: `systemctl`, `/opt/x/ls`.
    pub name: String,
    /// The arguments up to the first that is not known.
    pub arguments: Vec<String>,
    /// Why it can't be said what it is told to do: an argument is not known before it runs (`$X`, a pattern, `$(…)`),
    /// or it is given code (`python3 -c`, `sh` on a pipe).
    pub unknown: Option<String>,
    /// It runs as somebody else: behind sudo, doas, su, runuser, pkexec.
    pub elevated: bool,
}

impl Program {
    /// The last part of its name.
    pub fn basename(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

/// A file that the shell opens for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// What for.
    pub access: Access,
    /// As it was written.
    pub path: String,
}

/// What a redirection does with its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// `<`
    Read,
    /// `>`, `>>`, `>|`, `&>`
    Write,
    /// `<>`
    Both,
}

/// The far side of a client that speaks a protocol of its own over the command's standard streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// `scp -t` or `scp -f`: [`crate::ssh::scp::Copy`] sees every file of it.
    Scp(Scp),
    /// `rsync --server`.
    Rsync(Rsync),
    /// `git-upload-pack` and its like.
    Git(Git),
    /// sftp-server: [`crate::ssh::sftp::Filter`] sees every request.
    Sftp,
}

/// What `scp` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scp {
    /// `-t`: the target receives. Else `-f`: it sends.
    pub receives: bool,
    /// `-r`
    pub recursive: bool,
    /// `-p`: times and modes come along.
    pub preserves: bool,
    /// `-d`: the path has to be a directory.
    pub directory: bool,
    /// One where it receives, one or more where it sends.
    pub paths: Vec<String>,
}

/// What `rsync --server` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rsync {
    /// `--sender`: the target sends. Else it receives.
    pub sends: bool,
    /// Files of the target are removed: `--delete…`, `--remove-source-files`.
    pub removes: bool,
    /// One or more.
    pub paths: Vec<String>,
}

/// What a git server was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Git {
    /// `git-receive-pack`: the target's repository is written, and its hooks run. Else it is read.
    pub receives: bool,
    /// The repository.
    pub repository: String,
}

/// What the command line does. Never fails: what is not understood says so in [`CommandLine::unknown`].
pub fn analyse(line: &[u8]) -> CommandLine {
    let mut found = CommandLine::default();
    match std::str::from_utf8(line) {
        _ if line.len() > MAX_LINE => found.unknown = Some("it is too long".to_owned()),
        Err(_) => found.unknown = Some("it is not UTF-8".to_owned()),
        Ok(text) => {
            let mut walk = Walk::new(&mut found);
            walk.text(text);
            if let (true, at_root) = (walk.moved, walk.at_root) {
                // what changes the directory at the end of a loop counts at its beginning
                found = CommandLine::default();
                let mut again = Walk::new(&mut found);
                (again.moved, again.at_root) = (true, at_root);
                again.text(text);
            }
        }
    }
    if found.programs.is_empty() && found.unknown.is_none() {
        found.unknown = Some("it names no program".to_owned());
    }
    found.server = server::of(&found);
    if found.server.is_none() && found.unknown.is_none() {
        found.unknown = found.programs.iter().find_map(server::odd).map(str::to_owned);
    }
    found
}

#[cfg(test)]
mod tests;
