//! Keys by which a client cancels: ours, never the target's. The process is the target's own where no other session here
//! has its number, since programs know their notifications and their row of pg_stat_activity by it; who cancels has to
//! know the key, which is random.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use sluice_protocol::postgres::wire::startup::{CancelRequest, ProtocolVersion};

use crate::services::postgres::Cancel;

struct Entry {
    key: Vec<u8>,
    cancel: Weak<Cancel>,
}

/// The sessions that may be cancelled.
#[derive(Default)]
pub(in crate::services::postgres) struct CancelKeys {
    by_process: Mutex<HashMap<u32, Entry>>,
    random: Random,
}

struct Random(SystemRandom);

impl Default for Random {
    fn default() -> Self {
        Self(SystemRandom::new())
    }
}

/// A session in the table, for as long as it lives.
pub(super) struct Registered {
    keys: Arc<CancelKeys>,
    pub(super) process: u32,
    pub(super) key: Vec<u8>,
}

impl CancelKeys {
    /// Gives a session of the target's `process` its key; `None` without random bytes.
    pub(super) fn register(
        self: &Arc<Self>,
        version: ProtocolVersion,
        process: u32,
        cancel: &Arc<Cancel>,
    ) -> Option<Registered> {
        let mut key = vec![0; if version >= ProtocolVersion::V3_2 { 32 } else { 4 }];
        self.random.0.fill(&mut key).ok()?;
        let mut by_process = self.by_process.lock();
        let mut process = process;
        loop {
            if process != 0 && !by_process.contains_key(&process) {
                by_process.insert(process, Entry { key: key.clone(), cancel: Arc::downgrade(cancel) });
                return Some(Registered { keys: Arc::clone(self), process, key });
            }
            // two targets have a process of that number, or a pooler has none
            let mut number = [0; 4];
            self.random.0.fill(&mut number).ok()?;
            // drivers show it as a pid: positive
            process = u32::from_be_bytes(number) >> 1;
        }
    }

    /// A CancelRequest, which is answered by nothing, as in PostgreSQL.
    pub(super) fn cancel(&self, request: &CancelRequest) {
        let found = {
            let by_process = self.by_process.lock();
            let entry = by_process.get(&request.process);
            entry.filter(|entry| equal(&entry.key, &request.key)).and_then(|entry| entry.cancel.upgrade())
        };
        if let Some(cancel) = found {
            cancel.request();
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.keys.by_process.lock().remove(&self.process);
    }
}

/// In a time that depends on the lengths alone.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn only_the_right_key_cancels_and_only_while_the_session_lives() {
        let keys = Arc::new(CancelKeys::default());
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let cancel = Cancel::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let session = keys.register(ProtocolVersion::V3_0, 4711, &cancel).unwrap();
        assert_eq!(session.process, 4711, "the target's own");
        let other = keys.register(ProtocolVersion::V3_0, 4711, &cancel).unwrap();
        assert!(other.process != 4711 && other.process != 0, "another target's of the same number");
        let request = |key: &[u8]| CancelRequest { process: session.process, key: key.to_vec() };
        let mut wrong = session.key.clone();
        wrong[3] ^= 1;
        keys.cancel(&request(&wrong));
        keys.cancel(&request(&session.key[..3]));
        keys.cancel(&CancelRequest { process: session.process ^ 1, key: session.key.clone() });
        assert_eq!(count.load(Ordering::SeqCst), 0);
        let right = request(&session.key);
        keys.cancel(&right);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        drop(session);
        keys.cancel(&right);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert_eq!(keys.register(ProtocolVersion::V3_2, 0, &cancel).unwrap().key.len(), 32);
    }
}
