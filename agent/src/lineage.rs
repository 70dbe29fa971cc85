//! What sessions execute, on its way from the loader into the recording of the session.
//!
//! Enters: executions with their session's id. Leaves: each once, to the session that stands, else to the audit events
//! with the name of whoever started it. What must hold: a session is expected here before the loader follows it, so that
//! nothing comes too early; nothing is acknowledged that is in neither place.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sluice_api::common::Executed;
use sluice_api::handover::{Execution, Run};
use sluice_policy::Principal;
use tokio::sync::mpsc;

/// Executions of one session that wait for its recording.
const MAX_WAITING: usize = 1024;
/// A recording that takes none for so long keeps the others waiting: what comes then is an audit event.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sessions that have ended and whose person is remembered.
const MAX_OUTLIVED: usize = 4096;

/// What the loader has to tell of a session.
pub enum Told {
    /// A program has begun to run.
    Executed(Executed),
    /// One is about to, and waits for a decision.
    Asked(Run),
}

/// Sessions that are followed. One a process.
#[derive(Default)]
pub struct Lineages {
    open: Mutex<HashMap<String, mpsc::Sender<Told>>>,
    outlived: Mutex<Outlived>,
}

#[derive(Default)]
struct Outlived {
    people: HashMap<String, Principal>,
    order: VecDeque<String>,
}

/// A session that is followed, for as long as this lives.
pub struct Registration {
    session: String,
    lineages: Arc<Lineages>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.lineages.open.lock().remove(&self.session);
    }
}

impl Lineages {
    /// From now on executions of this session come here.
    pub fn expect(self: &Arc<Self>, session: &str) -> (Registration, mpsc::Receiver<Told>) {
        let (sender, inbox) = mpsc::channel(MAX_WAITING);
        self.open.lock().insert(session.to_owned(), sender);
        (Registration { session: session.to_owned(), lineages: Arc::clone(self) }, inbox)
    }

    /// Gives it to its session; back it comes where that has ended.
    ///
    /// # Errors
    /// The execution itself.
    pub async fn deliver(&self, execution: Execution) -> Result<(), Execution> {
        let sender = self.open.lock().get(&execution.session).cloned();
        let (Some(sender), Some(executed)) = (sender, execution.executed.clone()) else {
            return Err(execution);
        };
        sender.send_timeout(Told::Executed(executed), PATIENCE).await.map_err(|_| execution)
    }

    /// Gives it to its session. `false`: there is nobody who could decide.
    pub async fn ask(&self, run: Run) -> bool {
        let sender = self.open.lock().get(&run.session).cloned();
        match sender {
            Some(sender) => sender.send_timeout(Told::Asked(run), PATIENCE).await.is_ok(),
            None => false,
        }
    }

    /// Processes of this session live on without it.
    pub fn outlives(&self, session: &str, who: Principal) {
        let mut outlived = self.outlived.lock();
        if outlived.order.len() >= MAX_OUTLIVED
            && let Some(oldest) = outlived.order.pop_front()
        {
            outlived.people.remove(&oldest);
        }
        outlived.order.push_back(session.to_owned());
        outlived.people.insert(session.to_owned(), who);
    }

    /// Who started what lives on.
    pub fn person(&self, session: &str) -> Option<Principal> {
        self.outlived.lock().people.get(session).cloned()
    }
}

/// Programs that have something run by somebody else: there the lineage ends.
const ELSEWHERE: [&str; 14] = [
    "at", "batch", "crontab", "systemd-run", "systemctl", "machinectl", "busctl", "dbus-send", "docker",
    "podman", "nerdctl", "ctr", "lxc", "incus",
];

/// In words, what this program starts that nobody sees; `None` for all others.
pub fn outside(executed: &Executed) -> Option<String> {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let names = [last(&executed.program), last(&executed.executable)];
    let name = ELSEWHERE.iter().find(|name| names.iter().any(|own| own == *name))?;
    Some(format!("what `{name}` starts runs outside of this session, and is not seen in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(session: &str) -> Execution {
        Execution { session: session.to_owned(), executed: Some(Executed::default()) }
    }

    #[tokio::test]
    async fn an_execution_goes_to_its_session_and_to_no_other() {
        let lineages = Arc::new(Lineages::default());
        let (one, mut inbox) = lineages.expect("one");
        let (_two, mut other) = lineages.expect("two");
        lineages.deliver(execution("one")).await.unwrap();
        assert!(inbox.try_recv().is_ok() && other.try_recv().is_err());
        drop(one);
        assert!(lineages.deliver(execution("one")).await.is_err(), "its session has ended");
        assert!(inbox.recv().await.is_none());
    }

    #[test]
    fn where_the_lineage_ends_is_said() {
        let run = |program: &str| Executed { program: program.into(), ..Executed::default() };
        for program in ["/usr/bin/at", "crontab", "/usr/bin/systemd-run"] {
            assert!(outside(&run(program)).is_some(), "{program}");
        }
        let linked = Executed { executable: "/usr/bin/at".into(), ..run("/tmp/innocent") };
        assert!(outside(&linked).is_some());
        assert!(outside(&run("/usr/bin/cat")).is_none());
    }
}
