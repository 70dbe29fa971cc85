//! Where most end-to-end tests begin: a guarded world, and alice logged in at a terminal of hers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::until;
use crate::enclosure::Room;
use crate::stage::Stage;
use crate::terminal::Terminal;
use crate::tour::device_url;
use crate::world::people::Person;
use crate::world::sluice::Sluice;
use crate::world::{HOME, World};
use crate::{Context, Failure, Result};

/// A guarded world with alice in it.
pub struct Scene {
    /// Everything that stands.
    pub world: World,
    /// What is shown when a test fails.
    pub stage: Stage,
    /// Alice's terminal, with a login bound to it.
    pub alice: Terminal,
}

impl Scene {
    /// Furnishes the room, starts Sluice, and logs alice in.
    pub fn open(room: Room) -> Result<Scene> {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        world.guard(&stage)?;
        let alice = log_in(&world, &stage, &world.people.alice)?;
        Ok(Scene { world, stage, alice })
    }

    /// Another terminal, of a person who has logged in there.
    pub fn logged_in(&self, person: &Person) -> Result<Terminal> {
        log_in(&self.world, &self.stage, person)
    }

    /// Puts a script where everybody can read it.
    pub fn script(&self, name: &str, text: &str) -> Result<String> {
        let path = Path::new(HOME).join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        Ok(path.display().to_string())
    }

    /// What a command at alice's prompt prints.
    pub fn says(&mut self, command: &str) -> Result<String> {
        Ok(self.alice.run(&self.stage, command)?.text)
    }

    /// Id of the session that began last.
    pub fn last_session(&mut self) -> Result<String> {
        let listed = self.says("sluice sessions --json --limit 1")?;
        listed.split('"').find(|word| word.len() == 36).map(str::to_owned).context(listed)
    }

    /// Id of the session that began last, once its recording is closed: what the kernel told of its last
    /// program arrives after that program's own output.
    pub fn closed_session(&mut self) -> Result<String> {
        let id = self.last_session()?;
        until("the recording is closed", Duration::from_secs(10), || {
            Ok(self.says(&format!("sluice replay {id} --json | grep -c '\"Closed\"'"))?.trim() == "1")
        })?;
        Ok(id)
    }

    /// What one statement of alice's by psql prints.
    pub fn psql(&mut self) -> Result<String> {
        self.says("psql -h db.internal shop -Atc 'select count(*) from customers'")
    }

    /// Sluice, which runs.
    pub fn sluice(&self) -> Result<&Sluice> {
        self.world.sluice.as_ref().context("Sluice has not been started")
    }

    /// Whether there is an event of this class with `part` in it.
    pub fn event(&self, class: &str, part: &str) -> Result<bool> {
        let events = self.sluice()?.events()?;
        Ok(events.iter().any(|event| {
            event.get("class").is_some_and(|found| found == class) && event.to_string().contains(part)
        }))
    }

    /// Asks the loader to read its files again.
    pub fn hangup(&self) -> Result<()> {
        let loader = self.sluice()?.loader().context("no loader runs")?;
        Ok(kill(Pid::from_raw(loader.cast_signed()), Signal::SIGHUP)?)
    }

    /// Resident memory of the proxy in KB.
    pub fn resident_kb(&self) -> Result<u64> {
        let pid = self.sluice()?.proxies().first().copied().context("no proxy runs")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        Ok(line.split_whitespace().next().unwrap_or("0").parse().unwrap_or(0))
    }
}

/// A person sits down, types `sluice login` and confirms in a browser.
pub fn log_in(world: &World, stage: &Stage, person: &Person) -> Result<Terminal> {
    let mut terminal = Terminal::open(world, person)?;
    log_in_at(&mut terminal, world, stage, person)?;
    Ok(terminal)
}

/// The same at a terminal that is open: logins do not outlive the proxy.
pub fn log_in_at(terminal: &mut Terminal, world: &World, stage: &Stage, person: &Person) -> Result<()> {
    terminal.type_line("sluice login")?;
    let url = terminal.find("a URL to confirm at", |screen| device_url(screen, &world.provider.issuer))?;
    world.provider.confirm(&url, person)?;
    let ran = terminal.prompt(stage)?;
    if ran.status == 0 {
        Ok(())
    } else {
        Err(Failure::new(format!("sluice login of {}: {}", person.name, ran.text)))
    }
}
