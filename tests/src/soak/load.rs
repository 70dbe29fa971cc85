//! pgbench in the three ways to ask, by two people, for as long as nobody says stop.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::command::until;
use crate::scene::{log_in, log_in_at};
use crate::stage::Stage;
use crate::terminal::Terminal;
use crate::world::World;
use crate::world::people::Person;
use crate::{Failure, Result};

use super::place;

/// One transaction: reads, masked values among them, and a write.
const SCRIPT: &str = "\\set id random(1, 50000)\n\\set customer random(1, 20000)\n\
    select id, state, amount from orders where id = :id;\n\
    select name, email, city from customers where id = :customer;\n\
    begin;\n\
    update orders set note = 'soak' where id = :id;\n\
    select count(*) from payments where order_id = :id;\n\
    end;\n";

/// The same as a pipeline, which the simple protocol does not have.
const PIPELINE: &str = "\\set id random(1, 50000)\n\\startpipeline\n\
    select id, state, amount from orders where id = :id;\n\
    select name, phone from customers where id = :id;\n\
    \\endpipeline\n";

/// Starts pgbench again and again: a connection that was cut is what the soak is about.
const WORKER: &str = r#"#!/bin/bash
here=$(dirname "$0") name=$1 mode=$2 rate=$3
export PGHOST=db.internal PGDATABASE=shop PGSSLMODE=require PGAPPNAME=soak-$name
files="-f $here/soak.sql@3"
[ "$mode" = simple ] || files="$files -f $here/pipeline.sql@1"
while [ ! -e "$here/stop" ]; do
    if [ -e "$here/pause" ]; then sleep 0.2; continue; fi
    # who has to log in anew is asked by the connection, and would wait there
    timeout -k 2 30 pgbench -n -M "$mode" -c 4 -j 1 -T 6 -R "$rate" $files >> "$here/out-$name-$mode" 2>&1
    sleep 0.2
done
"#;

/// Who asks how. The end of `application_name` is the person.
const WORKERS: [(&str, &str); 3] = [("alice", "simple"), ("alice", "extended"), ("bob", "prepared")];

/// The world under load.
pub(super) struct Load {
    pub(super) world: World,
    pub(super) stage: Stage,
    pub(super) alice: Terminal,
    pub(super) bob: Terminal,
}

impl Load {
    pub(super) fn begin(world: World, rate: u32) -> Result<Load> {
        let here = place();
        fs::create_dir_all(&here)?;
        for (name, text) in [("soak.sql", SCRIPT), ("pipeline.sql", PIPELINE), ("worker.sh", WORKER)] {
            fs::write(here.join(name), text)?;
            fs::set_permissions(here.join(name), fs::Permissions::from_mode(0o755))?;
        }
        fs::set_permissions(&here, fs::Permissions::from_mode(0o777))?;
        let stage = Stage::new(true);
        let mut alice = log_in(&world, &stage, &world.people.alice)?;
        let mut bob = log_in(&world, &stage, &world.people.bob)?;
        for (name, mode) in WORKERS {
            let terminal = if name == "bob" { &mut bob } else { &mut alice };
            let worker = here.join("worker.sh");
            let line = format!("(bash {} {name} {mode} {rate} > /dev/null 2>&1 &)", worker.display());
            terminal.run(&stage, &line)?;
        }
        let mut load = Load { world, stage, alice, bob };
        load.flows()?;
        Ok(load)
    }

    /// What one statement by psql prints, as this person.
    pub(super) fn asks(&mut self, name: &str, sql: &str) -> Result<String> {
        let line = format!("PGAPPNAME=soak-probe-{name} timeout 20 psql -h db.internal shop -Atc \"{sql}\"");
        let terminal = if name == "bob" { &mut self.bob } else { &mut self.alice };
        Ok(terminal.run(&self.stage, &line)?.text)
    }

    /// Waits until both get through, and pgbench does.
    pub(super) fn flows(&mut self) -> Result<()> {
        for name in ["alice", "bob"] {
            let mut said = String::new();
            until("the road is open again", Duration::from_secs(60), || {
                said = self.asks(name, "select 40 + 2")?;
                Ok(said.lines().any(|line| line == "42"))
            })
            .map_err(|why| Failure::new(format!("{why}; {name} sees: {said}")))?;
        }
        let loads = WORKERS.len();
        until("all loads run", Duration::from_secs(60), || Ok(self.count("soak-%")? >= 4 * loads))
    }

    /// Both log in again: the proxy is another one.
    pub(super) fn log_in_again(&mut self) -> Result<()> {
        let (alice, bob) = (self.world.people.alice.clone(), self.world.people.bob.clone());
        log_in_at(&mut self.alice, &self.world, &self.stage, &alice)?;
        log_in_at(&mut self.bob, &self.world, &self.stage, &bob)
    }

    /// Another terminal, with psql in it that waits for a statement; its connection is called `soak-NAME-PERSON`.
    pub(super) fn held(&self, name: &str, person: &Person) -> Result<Terminal> {
        let mut terminal = log_in(&self.world, &self.stage, person)?;
        let called = format!("soak-{name}-{}", person.name);
        terminal.type_line(&format!("PGAPPNAME={called} psql -h db.internal shop"))?;
        terminal.psql_prompt(&self.stage)?;
        terminal.statement(&self.stage, "select 'held';")?;
        Ok(terminal)
    }

    /// Connections at the server with an `application_name` like this.
    pub(super) fn count(&self, like: &str) -> Result<usize> {
        let asked = format!(
            "select count(*) from pg_stat_activity where usename = 'app' and application_name like '{like}'"
        );
        Ok(self.world.postgres.psql("postgres", &asked)?.parse().unwrap_or(usize::MAX))
    }

    /// Lets everybody finish; returns when nobody is connected. That a client which has vanished is gone, too, takes the
    /// time after which the kernel asks for it.
    pub(super) fn quiet(&mut self) -> Result<()> {
        fs::write(place().join("pause"), "")?;
        let mut left = String::new();
        until("nobody is connected", Duration::from_secs(180), || {
            let asked = "select string_agg(application_name || ' ' || state, ', ') from pg_stat_activity \
                         where usename = 'app'";
            left = self.world.postgres.psql("postgres", asked)?;
            Ok(left.is_empty())
        })
        .map_err(|why| Failure::new(format!("{why}; there are still: {left}")))
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        fs::remove_file(place().join("pause"))?;
        self.flows()
    }

    /// The loads end for good.
    pub(super) fn end(&mut self) -> Result<()> {
        fs::write(place().join("stop"), "")?;
        let sluice = self.world.sluice.as_ref();
        until("pgbench has ended", Duration::from_secs(60), || {
            Ok(sluice.is_none_or(|sluice| sluice.running("pgbench").is_empty()))
        })
    }
}
