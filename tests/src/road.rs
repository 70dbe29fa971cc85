//! A road to the application server: straight, or through Sluice. The same scripts run on both, at a person's terminal, so
//! that what comes back can be compared.
//!
//! On the straight road dave works outside the guarded cgroup and holds a key of his own; on the other alice works under
//! her login and holds nothing. A script finds: `$HOST`; `$LOGIN`, which is `$HOST` with the account where the road needs
//! one; `$KEY`, the private key, empty where there is none; `$SCRIPTS`, the programs of `fixtures/ssh`; `$PYTHON`, a Python
//! with the SSH libraries of the conformance tests where they are installed; and an empty working directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::command::{patient, sh};
use crate::scene::log_in;
use crate::stage::Stage;
use crate::terminal::Terminal;
use crate::world::network::{APP, APP_NAME};
use crate::world::people::Person;
use crate::world::{HOME, World, own};
use crate::{Context, Failure, Result};

/// Programs that scripts use.
const SCRIPTS: [(&str, &str); 6] = [
    ("screens.py", include_str!("../fixtures/ssh/screens.py")),
    ("with_paramiko.py", include_str!("../fixtures/ssh/with_paramiko.py")),
    ("with_asyncssh.py", include_str!("../fixtures/ssh/with_asyncssh.py")),
    ("with_requests.py", include_str!("../fixtures/ssh/with_requests.py")),
    ("keys.py", include_str!("../fixtures/ssh/keys.py")),
    ("playbook.yml", include_str!("../fixtures/ssh/playbook.yml")),
];

/// One of the roads, with somebody at a terminal at its beginning.
pub struct Road {
    /// How the road is called in reports.
    pub name: &'static str,
    /// Who walks it.
    pub person: Person,
    /// Where he types.
    pub terminal: Terminal,
    directory: PathBuf,
    key: Option<PathBuf>,
    walked: u32,
}

/// What a script gave back.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: Vec<u8>,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Both outputs and the status, for people.
    pub fn shown(&self) -> String {
        let err = String::from_utf8_lossy(&self.err);
        format!(
            "status {} after {:.1?}\nout: {}\nerr: {}",
            self.status,
            self.took,
            self.text().trim(),
            err.trim()
        )
    }
}

impl Road {
    /// Dave's, with a key that the server knows.
    pub fn direct(world: &World) -> Result<Road> {
        let person = world.people.dave.clone();
        let key = person.home.join(".ssh/direct");
        let ssh = dot_ssh(&person)?;
        fs::copy(&world.app.direct_key, &key)?;
        let host_key = world.app.host_key()?;
        fs::write(ssh.join("known_hosts"), format!("{APP_NAME},{APP} {host_key}\n"))?;
        let config = format!(
            "Host {APP_NAME}\n    User deploy\n    IdentityFile {}\n    IdentitiesOnly yes\n    BatchMode yes\n",
            key.display()
        );
        fs::write(ssh.join("config"), config)?;
        give(&person, &ssh)?;
        let terminal = Terminal::open_outside(world, &person)?;
        Road::begin("direct", person, terminal, Some(key))
    }

    /// Alice's, under her login. Clients know Sluice by the line that `sluice ca --ssh` prints.
    pub fn through_sluice(world: &World, stage: &Stage) -> Result<Road> {
        let person = world.people.alice.clone();
        let ssh = dot_ssh(&person)?;
        give(&person, &ssh)?;
        let mut terminal = log_in(world, stage, &person)?;
        let ran = terminal.run(stage, "sluice ca --ssh > ~/.ssh/known_hosts")?;
        if ran.status != 0 {
            return Err(Failure::new(format!("sluice ca --ssh: {}", ran.text)));
        }
        Road::begin("sluice", person, terminal, None)
    }

    /// Somebody's who is not logged in, inside the guarded cgroup.
    pub fn stranger(world: &World, person: &Person) -> Result<Road> {
        give(person, &dot_ssh(person)?)?;
        let terminal = Terminal::open(world, person)?;
        Road::begin("stranger", person.clone(), terminal, None)
    }

    fn begin(name: &'static str, person: Person, terminal: Terminal, key: Option<PathBuf>) -> Result<Road> {
        let directory = Path::new(HOME).join("roads").join(name);
        let scripts = directory.join("scripts");
        fs::create_dir_all(&scripts)?;
        for (name, text) in SCRIPTS {
            fs::write(scripts.join(name), text)?;
        }
        Ok(Road { name, person, terminal, directory, key, walked: 0 })
    }

    /// Runs a script of the POSIX shell at the terminal and takes what it says; at the limit it is killed.
    pub fn walk(&mut self, stage: &Stage, script: &str, limit: Duration) -> Result<Outcome> {
        self.start(script, limit)?;
        self.finish(stage)
    }

    /// The same, without waiting for its end.
    pub fn start(&mut self, script: &str, limit: Duration) -> Result<()> {
        self.walked += 1;
        let here = self.here();
        let work = here.join("work");
        fs::create_dir_all(&work)?;
        let key = self.key.as_ref().map(|key| key.display().to_string()).unwrap_or_default();
        let login = if self.key.is_some() { format!("deploy@{APP_NAME}") } else { APP_NAME.to_owned() };
        let (scripts, python) = (self.directory.join("scripts"), crate::conformance::PYTHON);
        let text = format!(
            "HOST={APP_NAME} LOGIN={login} KEY={key} SCRIPTS={} PYTHON={python}\n\
             export HOST LOGIN KEY SCRIPTS PYTHON\ncd {}\n{script}\n",
            scripts.display(),
            work.display(),
        );
        fs::write(here.join("script"), text)?;
        own(&here, &format!("{0}:{0}", self.person.uid))?;
        // Not in the foreground: what asks at the terminal stops, and the limit ends it.
        let at = here.display();
        self.terminal.type_line(&format!(
            "timeout -k 5 {} sh {at}/script < /dev/null > {at}/out 2> {at}/err",
            patient(limit).as_secs()
        ))
    }

    /// Waits for the end of what was started.
    pub fn finish(&mut self, stage: &Stage) -> Result<Outcome> {
        let begun = Instant::now();
        let status = self.terminal.prompt(stage)?.status;
        let here = self.here();
        let read = |name: &str| fs::read(here.join(name)).context(format!("the {name} of a script"));
        Ok(Outcome { status, out: read("out")?, err: read("err")?, took: begun.elapsed() })
    }

    fn here(&self) -> PathBuf {
        self.directory.join(self.walked.to_string())
    }
}

fn dot_ssh(person: &Person) -> Result<PathBuf> {
    let directory = person.home.join(".ssh");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn give(person: &Person, directory: &Path) -> Result<()> {
    own(directory, &format!("{0}:{0}", person.uid))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        sh("chmod", ["600", &entry?.path().to_string_lossy()])?;
    }
    Ok(())
}
