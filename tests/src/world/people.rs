//! The people of the tour: Unix users that exist in the room's mount namespace alone.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::PathBuf;

use crate::{Context, Result};

/// What everybody finds programs by. `sudo` gets the same as its secure_path.
pub const PATH: &str = "/run/demo/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A Unix user, and the person behind it as the provider knows her.
#[derive(Debug, Clone)]
pub struct Person {
    /// Login name, on the host and at the provider.
    pub name: &'static str,
    /// User id, and id of the user's own group.
    pub uid: u32,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: &'static str,
    /// `sub` at the provider; empty: has no account there.
    pub subject: &'static str,
    /// Name in full.
    pub full_name: &'static str,
    /// Groups at the provider.
    pub groups: &'static [&'static str],
}

impl Person {
    /// The environment of a login, and nothing of ours in it but the road to the demo's socket.
    pub fn environment(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("HOME", self.home.to_string_lossy().into_owned()),
            ("USER", self.name.to_owned()),
            ("LOGNAME", self.name.to_owned()),
            ("SHELL", self.shell.to_owned()),
            ("PATH", PATH.to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            // The plainest terminal, so that what is read back is what was printed.
            ("TERM", "dumb".to_owned()),
            ("PAGER", "cat".to_owned()),
        ])
    }
}

/// Everybody.
#[derive(Debug, Clone)]
pub struct People {
    /// Analyst; also an administrator of Sluice, which must not help her.
    pub alice: Person,
    /// Database administrator.
    pub bob: Person,
    /// Has an account at the provider and is in no group.
    pub carol: Person,
    /// A Unix user that others become by sudo; no account at the provider.
    pub dave: Person,
    /// Who the proxy runs as.
    pub sluice: Person,
    /// The account at the application server that people work under; nobody logs in as it on the bastion.
    pub deploy: Person,
    /// Another account there, which must be asked for by name.
    pub report: Person,
}

impl People {
    /// Picks user ids that nobody on this machine has.
    pub fn plan() -> Result<People> {
        let mut taken = HashSet::new();
        for file in ["/etc/passwd", "/etc/group"] {
            let text = fs::read_to_string(file).context(format!("failed to read `{file}`"))?;
            taken.extend(text.lines().filter_map(|line| line.split(':').nth(2)?.parse::<u32>().ok()));
        }
        let mut free = (60001..60513).filter(|uid| !taken.contains(uid));
        let mut person = |name, full_name, subject, groups| -> Result<Person> {
            Ok(Person {
                name,
                uid: free.next().context("no free user id between 60001 and 60512")?,
                home: PathBuf::from(crate::world::HOME).join("home").join(name),
                shell: "/bin/bash",
                subject,
                full_name,
                groups,
            })
        };
        Ok(People {
            alice: person("alice", "Alice Arnold", "u-5b1c77", &["analysts", "sluice-admins"])?,
            bob: person("bob", "Bob Berger", "u-90fe21", &["dba", "analysts"])?,
            carol: person("carol", "Carol Clemens", "u-3d02aa", &[])?,
            dave: person("dave", "Dave Dorn", "", &[])?,
            sluice: person("sluice", "Sluice", "", &[])?,
            deploy: Person { shell: super::ssh::SHELL, ..person("deploy", "Deployment", "", &[])? },
            report: Person { shell: super::ssh::SHELL, ..person("report", "Reports", "", &[])? },
        })
    }

    /// All of them.
    pub fn all(&self) -> [&Person; 7] {
        [&self.alice, &self.bob, &self.carol, &self.dave, &self.sluice, &self.deploy, &self.report]
    }

    /// By name; for `enter`.
    pub fn named(&self, name: &str) -> Option<&Person> {
        self.all().into_iter().find(|person| person.name == name)
    }
}
