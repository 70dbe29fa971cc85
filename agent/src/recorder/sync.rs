//! Written becomes durable: one thread does fdatasync for all, every 200 ms or at once when somebody waits for it.
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::error::RecorderError;
use super::shared::Shared;
use super::spool::SpoolFile;

/// What was written is on the disk after this at the latest.
const INTERVAL: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Queue {
    files: Vec<Arc<SpoolFile>>,
    waiting: Vec<oneshot::Sender<()>>,
    stopping: bool,
}

/// Files with writes that are not on the disk yet.
#[derive(Default)]
pub(super) struct Dirty {
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl Dirty {
    /// Takes up a file at the next round.
    pub(super) fn add(&self, file: &Arc<SpoolFile>) {
        self.queue.lock().files.push(Arc::clone(file));
    }

    /// Asks for a round now. The receiver hears when everything added before is on the disk.
    pub(super) fn now(&self) -> oneshot::Receiver<()> {
        let (done, wait) = oneshot::channel();
        self.queue.lock().waiting.push(done);
        self.wake.notify_one();
        wait
    }

    pub(super) fn stop(&self) {
        self.queue.lock().stopping = true;
        self.wake.notify_one();
    }

    fn next(&self) -> (Vec<Arc<SpoolFile>>, Vec<oneshot::Sender<()>>, bool) {
        let mut queue = self.queue.lock();
        if queue.waiting.is_empty() && !queue.stopping {
            self.wake.wait_for(&mut queue, INTERVAL);
        }
        (std::mem::take(&mut queue.files), std::mem::take(&mut queue.waiting), queue.stopping)
    }
}

pub(super) fn spawn(shared: &Arc<Shared>) -> Result<JoinHandle<()>, RecorderError> {
    let shared = Arc::clone(shared);
    let dir = shared.dir.clone();
    std::thread::Builder::new()
        .name("recorder-sync".into())
        .spawn(move || run(&shared))
        .map_err(RecorderError::io("start the syncing thread of", &dir))
}

fn run(shared: &Shared) {
    loop {
        let (files, waiting, stopping) = shared.dirty.next();
        for file in &files {
            // cleaned first: a write during the sync soils again
            file.clean();
            if let Err(error) = file.sync() {
                tracing::error!(%error, "a recording could not be synced to disk");
                shared.wrote(&Err(error));
            }
        }
        for waiter in waiting {
            let _ = waiter.send(());
        }
        if stopping {
            return;
        }
    }
}
