//! Files at the gate, for the protocols that carry files.
use russh::ChannelMsg;
use sluice_api::record;
use sluice_policy::Operation;

use super::judge::Verdict;
use super::pump::Way;
use super::say;
use super::setup::Inbox;

/// What the gate says to a file.
pub(super) enum FileVerdict {
    Go,
    /// In words for the person.
    No(String),
    /// The client has gone meanwhile.
    Gone,
}

impl Way<'_> {
    /// Judges a request for a file, and waits where somebody has to agree: the person reads so on standard error.
    /// Nothing else of this channel goes on meanwhile.
    pub(super) async fn judge_file(&self, operation: &Operation, client: &mut Inbox) -> FileVerdict {
        let link = self.link;
        let (id, started) = (link.tape().operation(), std::time::Instant::now());
        let verdict = match link.judge(id, operation).await {
            Verdict::Go(_permit) => FileVerdict::Go,
            Verdict::No(words) => FileVerdict::No(words.join("; ")),
            Verdict::Wait(mut held) => {
                let lines = [
                    format!("{} waits for the approval of {}", operation.understood, held.wanted()),
                    format!(
                        "rule {}; somebody else runs: sluice approve {}",
                        held.rules().join(", "),
                        held.id()
                    ),
                ];
                link.tape().said(id, "NOTICE", &lines).await;
                link.flush().await;
                say::say(self.client.half(), say::shown(&lines, false), false).await;
                let approval = held.id().to_owned();
                tokio::select! {
                    decided = held.wait() => match decided {
                        Ok(_permit) => {
                            for by in held.approved_by() {
                                link.approval(id, &approval, "approved", Some(by)).await;
                            }
                            FileVerdict::Go
                        }
                        Err(refusal) => {
                            link.approval(id, &approval, "denied", None).await;
                            FileVerdict::No(say::refusal(&refusal).join("; "))
                        }
                    },
                    () = closed(client) => {
                        link.approval(id, &approval, "withdrawn", None).await;
                        FileVerdict::Gone
                    }
                    _ = link.ending() => FileVerdict::Gone,
                }
            }
        };
        match &verdict {
            FileVerdict::No(_) => link.completed(id, "refused".to_owned(), true, started).await,
            FileVerdict::Gone => link.completed(id, "withdrawn".to_owned(), true, started).await,
            // the file's own entry says what became of it
            FileVerdict::Go => {}
        }
        verdict
    }

    /// Something was done to a file, or was tried.
    pub(super) async fn note_file(&self, file: record::File) {
        self.link.tape().note(|recording| recording.file(file)).await;
    }

    /// Ends a channel whose protocol was not kept to, or that nothing more will come of.
    pub(super) async fn break_off(&self, why: &str) -> super::pump::Ended {
        let lines = [why.to_owned()];
        self.link.tape().said(self.id, "ERROR", &lines).await;
        if self.link.flush().await {
            say::say(self.client.half(), say::shown(&lines, false), false).await;
            say::end(self.client.half(), 1).await;
        }
        super::pump::Ended::by(why, true)
    }
}

/// Waits until the client closes its end; what else it sends is kept. Cancel safe.
async fn closed(inbox: &mut Inbox) {
    loop {
        match inbox.read.wait().await {
            None | Some(ChannelMsg::Close) => return,
            Some(ChannelMsg::WindowAdjusted { .. }) => {}
            Some(other) => inbox.ahead.push_back(other),
        }
    }
}
