//! What the kernel has to tell of the programs that run in a session: into its recording, up to the last of them.
use std::sync::Arc;
use std::time::Duration;

use sluice_api::common::Executed;
use sluice_api::handover::{Run, Settled};
use sluice_api::record;
use sluice_api::record::entry::Entry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::link::Link;
use crate::audit;
use super::judge::Verdict;
use super::say;
use crate::gate::Held;
use crate::lineage::{Registration, Told, outside};

/// After the session, for its processes to end.
const AFTER: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(50);
/// For what has come to be written.
const WRITTEN: Duration = Duration::from_secs(3);
/// How often a session that may not go on unseen is asked for.
const LOOK: Duration = Duration::from_secs(1);

/// A session as it is followed before it stands.
pub(in crate::services::ssh) struct Following {
    /// What the recording says of it; `None` where nobody wants to know.
    pub(in crate::services::ssh) begun: Option<record::Lineage>,
    /// Its place with those that are followed.
    pub(in crate::services::ssh) registration: Registration,
    /// Its executions.
    pub(in crate::services::ssh) inbox: mpsc::Receiver<Told>,
}

/// The same while it stands.
pub(super) struct Followed {
    registration: Registration,
    writer: JoinHandle<()>,
    looker: Option<JoinHandle<()>>,
}

impl Link {
    /// Executions go into the recording from now on.
    pub(super) fn follow(self: &Arc<Self>, following: Following) -> Option<Followed> {
        let begun = following.begun?;
        let followed = begun.state == "followed";
        let (link, mut inbox) = (Arc::clone(self), following.inbox);
        let writer = tokio::spawn(async move {
            link.tape().entry(Entry::Lineage(begun)).await;
            while let Some(told) = inbox.recv().await {
                match told {
                    Told::Executed(executed) => link.executed(executed).await,
                    // what waits for an approval keeps nobody else waiting
                    Told::Asked(run) => drop(tokio::spawn(Arc::clone(&link).decide(run))),
                }
            }
        });
        let required = self.gated().facts().target.ssh().is_some_and(|ssh| ssh.truth.is_required());
        let looker = (followed && required).then(|| tokio::spawn(Arc::clone(self).look()));
        followed.then_some(Followed { registration: following.registration, writer, looker })
    }

    async fn executed(&self, executed: Executed) {
        let outside = outside(&executed);
        self.tape().entry(Entry::Executed(executed)).await;
        if let Some(message) = outside {
            let end = record::Lineage { state: "outside".into(), message, ..Default::default() };
            self.tape().entry(Entry::Lineage(end)).await;
        }
    }

    /// A program is about to run in this session, and waits.
    async fn decide(self: Arc<Self>, run: Run) {
        let (id, started) = (self.tape().operation(), std::time::Instant::now());
        let operation = self.place().run(&run.path);
        let refused = match self.judge(id, &operation).await {
            Verdict::Go(_permit) => None,
            Verdict::No(words) => Some(words),
            Verdict::Wait(held) => self.program_approved(id, &operation.understood, held).await.err(),
        };
        if let Some(words) = &refused {
            self.say_to_all(id, "ERROR", words).await;
            self.completed(id, "refused".to_owned(), true, started).await;
        }
        self.house().link.decided(run.request, refused.is_none()).await;
    }

    async fn program_approved(&self, id: u64, what: &str, mut held: Held) -> Result<(), Vec<String>> {
        let lines = [
            format!("waiting for the approval of {}: {what}", held.wanted()),
            format!("rule {}; somebody else runs: sluice approve {}", held.rules().join(", "), held.id()),
        ];
        self.say_to_all(id, "NOTICE", &lines).await;
        let approval = held.id().to_owned();
        let decided = tokio::select! {
            decided = held.wait() => decided.map(drop).map_err(|refusal| say::refusal(&refusal)),
            _ = self.ending() => Err(vec!["the session has ended".to_owned()]),
        };
        match &decided {
            Ok(()) => {
                for by in held.approved_by() {
                    self.approval(id, &approval, "approved", Some(by)).await;
                }
                self.approval(id, &approval, "used", None).await;
                self.say_to_all(id, "NOTICE", &["approved".to_owned()]).await;
            }
            Err(_) => self.approval(id, &approval, "denied", None).await,
        }
        decided
    }

    async fn say_to_all(&self, id: u64, severity: &str, lines: &[String]) {
        self.tape().said(id, severity, lines).await;
        if self.flush().await {
            self.tell_all(lines).await;
        }
    }

    /// A session whose programs have to be seen ends when one could not be.
    async fn look(self: Arc<Self>) {
        loop {
            sleep(LOOK).await;
            match self.house().link.settle(self.gated().id()).await {
                Ok(rest) if rest.lost_records == 0 && rest.lost_forks == 0 => {}
                Ok(rest) => return self.end(format!("not everything in it can be seen: {}", lost(&rest))),
                Err(error) => return self.end(format!("what runs in it can't be seen any more: {error}")),
            }
        }
    }

    /// Waits for the last execution of a session that has ended, and says what lives on and what is missing.
    pub(super) async fn settle(&self, followed: Followed) {
        if let Some(looker) = &followed.looker {
            looker.abort();
        }
        let (began, mut rest) = (std::time::Instant::now(), Err("never asked".to_owned()));
        while began.elapsed() < AFTER {
            rest = self.house().link.settle(self.gated().id()).await.map_err(|error| error.to_string());
            if !matches!(&rest, Ok(settled) if settled.remaining > 0) {
                break;
            }
            sleep(STEP).await;
        }
        let remaining = rest.as_ref().map_or(0, |rest| rest.remaining);
        let who = self.gated().principal().to_owned_principal();
        if remaining > 0 {
            self.house().lineages.outlives(self.gated().id(), who.clone());
        }
        drop(followed.registration);
        if timeout(WRITTEN, followed.writer).await.is_err() {
            self.tape().entry(gap("not every execution could be written in time".to_owned())).await;
        }
        match rest {
            Ok(rest) if rest.lost_records > 0 || rest.lost_forks > 0 => {
                self.tape().entry(gap(lost(&rest))).await;
            }
            Ok(_) => {}
            Err(error) => {
                self.tape().entry(gap(format!("the last executions may be missing: {error}"))).await;
            }
        }
        if remaining > 0 {
            let message = "what they execute from now on stands in the audit events".to_owned();
            let outlived = record::Lineage { state: "outlived".into(), processes: remaining, message };
            self.tape().entry(Entry::Lineage(outlived)).await;
            let event = audit::outlived(self.gated().facts(), &who, remaining);
            if let Err(error) = self.house().audit.record_now(&event) {
                tracing::error!(%error, "audit");
            }
        }
    }
}

fn gap(reason: String) -> Entry {
    Entry::Gap(record::Gap { bytes_discarded: 0, reason })
}

fn lost(rest: &Settled) -> String {
    format!(
        "{} executions did not fit into the kernel's ring, {} processes could not be noted",
        rest.lost_records, rest.lost_forks
    )
}
