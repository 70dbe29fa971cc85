//! What an idle session costs the proxy.

use std::fs;
use std::time::Duration;

use super::roads::Roads;
use crate::command::until;
use crate::stage::Stage;
use crate::world::World;
use crate::{Context, Result};

/// Sessions that are opened at once; the server allows 200.
const SESSIONS: u32 = 150;

/// Kilobytes of the proxy's own memory for each of [`SESSIONS`] sessions that have done one statement and wait.
pub(super) fn idle_session(roads: &mut Roads, stage: &Stage) -> Result<f64> {
    stage.progress("idle sessions");
    // The first sessions warm caches up: they are no part of what a further one costs.
    roads.run(2, "pgbench -n -S -c 32 -j 2 -T 1")?;
    let before = memory(&roads.world)?;
    let script = format!(
        "printf 'select 1;\\n\\\\sleep 12 s\\n' > $HOME/.idle.sql; \
         pgbench -n -f $HOME/.idle.sql -c {SESSIONS} -j 1 -t 1; rm $HOME/.idle.sql"
    );
    let idle = "select count(*) from pg_stat_activity where usename = 'app' and state = 'idle' and query = 'select 1;'";
    let after = roads.meanwhile(&script, |world| {
        until("all sessions are idle", Duration::from_secs(30), || {
            Ok(world.postgres.psql("shop", idle)?.parse::<u32>().unwrap_or_default() >= SESSIONS)
        })?;
        memory(world)
    })?;
    Ok((after - before) / f64::from(SESSIONS))
}

/// Private memory of the proxy, in kilobytes.
pub(crate) fn memory(world: &World) -> Result<f64> {
    let sluice = world.sluice.as_ref().context("Sluice has not been started")?;
    let pid = sluice.proxies().first().copied().context("there is no proxy")?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| -> Option<f64> {
        rollup.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    Ok(field("Private_Clean:").unwrap_or_default() + field("Private_Dirty:").context("no Private_Dirty")?)
}
