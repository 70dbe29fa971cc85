//! Something is to run in a channel: a shell, a command, a subsystem.
use std::sync::Arc;
use std::time::Instant;

use russh::{ChannelWriteHalf, Error, client};
use sluice_policy::Operation;
use sluice_protocol::ssh::command::{self, Server};
use sluice_protocol::ssh::path::Start;

use super::judge::Verdict;
use super::link::Link;
use super::pump::{Shape, carry};
use super::scp::ScpPipe;
use super::setup::{Setup, farewell};
use super::sftp::SftpPipe;
use crate::gate::Permit;

/// What a client wants to run.
pub(in crate::services::ssh) enum Program {
    Shell,
    Exec(Vec<u8>),
    Subsystem(String),
}

/// What came of it.
pub(in crate::services::ssh) enum Begun {
    /// The target has said yes.
    Runs,
    /// The target has said no.
    Failed,
    /// The gate has said no, and the channel says why.
    Refused,
    /// Somebody else has to come first, and the channel says whom it waits for.
    Waits,
}

/// An operation on its way to the target.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) program: Program,
    pub(super) operation: Operation,
    pub(super) shape: Shape,
    pub(super) started: Instant,
}

impl Program {
    async fn request(&self, target: &ChannelWriteHalf<client::Msg>) -> Result<(), Error> {
        match self {
            Self::Shell => target.request_shell(true).await,
            // byte for byte: what was judged is what runs
            Self::Exec(line) => target.exec(true, line.clone()).await,
            Self::Subsystem(name) => target.request_subsystem(true, name.as_str()).await,
        }
    }
}

impl Link {
    /// Judges what a client wants to run, and runs it.
    pub(in crate::services::ssh) async fn begin(self: &Arc<Self>, setup: Setup, program: Program) -> Begun {
        let (operation, shape) = self.understand(&program, setup.has_terminal());
        let job = Job { id: self.tape().operation(), program, operation, shape, started: Instant::now() };
        if let Some(screen) = &setup.screen {
            self.note_screen(job.id, screen).await;
        }
        match self.judge(job.id, &job.operation).await {
            Verdict::No(words) => {
                self.turn_away(setup, job, words, "refused");
                Begun::Refused
            }
            Verdict::Go(permit) if self.presence().is_none_or(|presence| presence.is_complete()) => {
                if self.run(setup, job, &permit).await.is_ok() { Begun::Runs } else { Begun::Failed }
            }
            Verdict::Go(permit) => {
                tokio::spawn(Arc::clone(self).wait_and_run(setup, job, Ok(permit)));
                Begun::Waits
            }
            Verdict::Wait(held) => {
                tokio::spawn(Arc::clone(self).wait_and_run(setup, job, Err(held)));
                Begun::Waits
            }
        }
    }

    /// How the operation is judged, and what will go through the channel.
    fn understand(&self, program: &Program, terminal: bool) -> (Operation, Shape) {
        let place = self.place();
        let streams = if terminal { Shape::Screen } else { Shape::Command };
        match program {
            Program::Shell => (place.shell(), streams),
            Program::Exec(line) => {
                let understood = command::analyse(line);
                let shape = match &understood.server {
                    Some(Server::Sftp) => Shape::Sftp(Box::new(SftpPipe::new())),
                    Some(Server::Scp(asked)) => Shape::Scp(Box::new(ScpPipe::new(asked.clone()))),
                    Some(Server::Rsync(_) | Server::Git(_)) => Shape::Machine,
                    None => streams,
                };
                (place.exec(line, &understood, &Start::default()), shape)
            }
            Program::Subsystem(name) if name == "sftp" => {
                (place.subsystem(name.as_bytes()), Shape::Sftp(Box::new(SftpPipe::new())))
            }
            Program::Subsystem(name) => (place.subsystem(name.as_bytes()), streams),
        }
    }

    /// Says why not, in the channel, beside whoever goes on.
    pub(super) fn turn_away(self: &Arc<Self>, setup: Setup, job: Job, words: Vec<String>, tag: &'static str) {
        let link = Arc::clone(self);
        tokio::spawn(async move {
            link.tape().said(job.id, "ERROR", &words).await;
            link.completed(job.id, tag.to_owned(), true, job.started).await;
            let channel = setup.client.number;
            // on record before it is said
            if link.flush().await {
                farewell(setup, &words, 1).await;
            }
            link.hush(channel);
        });
    }

    /// Asks the target to run it; from its yes on the channel is carried.
    ///
    /// # Errors
    /// It said no: the client's end, for words.
    pub(super) async fn run(
        self: &Arc<Self>,
        mut setup: Setup,
        job: Job,
        permit: &Permit,
    ) -> Result<(), Setup> {
        let strict = permit.obligations().record_strict;
        let Some(mut target) = setup.target.take() else { return Err(setup) };
        // what was permitted is on record before the target hears of it
        if !self.flush().await {
            return Err(setup);
        }
        let sent = job.program.request(&target.write).await;
        if !target.answered(sent).await {
            self.completed(job.id, "the target refused it".to_owned(), true, job.started).await;
            self.hush(setup.client.number);
            let _ = target.write.close().await;
            return Err(setup);
        }
        let columns = setup.screen.as_ref().map_or(0, |screen| screen.columns);
        let words = std::mem::take(&mut setup.words);
        tokio::spawn(carry(Arc::clone(self), job, setup.client, target, columns, words, strict));
        Ok(())
    }

    /// Everything noted is written; otherwise the session ends.
    pub(super) async fn flush(&self) -> bool {
        match self.tape().pass(|_| {}, crate::recorder::Released::own(&[]), false).await {
            Ok(_) => true,
            Err(why) => {
                self.unrecorded(&why);
                false
            }
        }
    }
}
