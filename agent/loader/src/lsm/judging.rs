//! Which loader answers for judged sessions. The kernel empties the entry when this process ends, and refuses from then on
//! what the sessions of it would execute; a later loader answers for its own.

use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData};
use sluice_abi::Proxy;
use sluice_abi::lineage::Session;

use crate::{kernel, process};

type Answering = [u8; size_of::<Proxy>()];

/// The table, and this process.
pub(crate) struct Judging {
    sessions: HashMap<MapData, Session, Answering>,
    own: Answering,
}

impl Judging {
    /// Registers this process.
    pub(super) fn open(maps: &Path) -> Result<Self, String> {
        let open = |name: &str| {
            MapData::from_pin(maps.join(name)).map_err(|error| format!("{name}: {}", kernel::words(&error)))
        };
        let words = |error: aya::maps::MapError| error.to_string();
        let pid = std::process::id();
        let start_ticks = process::start_ticks(pid).ok_or("/proc does not tell when this process began")?;
        let own = kernel::registered(&Proxy { cgroup: 0, start_ticks, tgid: pid, pad: 0 });
        let mut holder: Array<MapData, Answering> = Map::Array(open("HOLDER")?).try_into().map_err(words)?;
        holder.set(0, own, 0).map_err(words)?;
        let sessions = Map::HashMap(open("JUDGED")?).try_into().map_err(words)?;
        let mut judging = Self { sessions, own };
        // of canaries: nobody answers for them
        judging.sessions.insert(super::CANARY, Answering::default(), 0).map_err(words)?;
        Ok(judging)
    }

    /// From now on nobody of this session executes anything without this loader.
    ///
    /// # Errors
    /// In words: there is no room.
    pub(crate) fn add(&mut self, session: Session) -> Result<(), String> {
        self.sessions
            .insert(session, self.own, 0)
            .map_err(|error| format!("too many judged sessions: {error}"))
    }

    /// Nobody of it is left.
    pub(crate) fn remove(&mut self, session: Session) {
        // absent where it was not judged
        let _ = self.sessions.remove(&session);
    }
}
