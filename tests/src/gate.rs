//! A guarded world with alice's road through Sluice: what the tests of SSH begin with.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::command::until;
use crate::enclosure::Room;
use crate::road::{Outcome, Road};
use crate::scene::Scene;
use crate::world::HOME;

/// A guarded world, and alice's road in it.
pub struct Gate {
    /// The world.
    pub scene: Scene,
    /// Hers.
    pub road: Road,
}

impl Gate {
    /// Starts the world and logs her in.
    pub fn open(room: Room) -> Result<Gate> {
        let scene = Scene::open(room)?;
        let road = Road::through_sluice(&scene.world, &scene.stage)?;
        Ok(Gate { scene, road })
    }

    /// Runs a script of hers.
    pub fn walk(&mut self, script: &str) -> Result<Outcome> {
        self.road.walk(&self.scene.stage, script, Duration::from_secs(20))
    }

    /// Adds or replaces a file of rules and waits until `script` ends with this success.
    pub fn rules(&mut self, name: &str, text: &str, script: &str, succeeds: bool) -> Result<()> {
        fs::write(Path::new(HOME).join("sluice/policy").join(name), text)?;
        until("the new rules", Duration::from_secs(15), || Ok((self.walk(script)?.status == 0) == succeeds))
    }
}

/// What an outcome says, wherever it says it.
pub fn both(outcome: &Outcome) -> String {
    format!("{}{}", outcome.text(), String::from_utf8_lossy(&outcome.err))
}
