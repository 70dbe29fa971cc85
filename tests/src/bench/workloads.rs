//! What is measured: a script that any road can run, and how to read its figure.

use super::roads::Roads;
use crate::Result;
use crate::stage::Stage;

/// What the goal is set against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    Pgbouncer,
    Direct,
}

impl Against {
    pub(super) fn name(self) -> &'static str {
        match self {
            Against::Pgbouncer => "pgbouncer",
            Against::Direct => "direct",
        }
    }
}

/// One row of the table to be.
pub(super) struct Workload {
    pub(super) name: String,
    pub(super) script: String,
    /// The figure in the script's output; more is better.
    pub(super) read: fn(&str) -> Option<f64>,
    pub(super) unit: &'static str,
    pub(super) against: Against,
    pub(super) goal: Option<f64>,
}

/// Lines of the table that COPY reads; their text is a little more than a gigabyte.
const BULK_ROWS: u32 = 8_400_000;
const SMALL_ROWS: u32 = 3_000_000;

/// All rows, in the order of the table.
pub(super) fn all(quick: bool) -> Vec<Workload> {
    let seconds = if quick { 1 } else { 5 };
    let mut workloads = Vec::new();
    for mode in ["simple", "extended", "prepared"] {
        for clients in [1, 8, 32] {
            workloads.push(Workload {
                name: format!("pgbench -S, {mode}, {clients} clients"),
                script: format!("pgbench -n -S -M {mode} -c {clients} -j 2 -T {seconds}"),
                read: tps,
                unit: "tps",
                against: Against::Pgbouncer,
                goal: Some(0.8),
            });
        }
    }
    workloads.push(Workload {
        name: "connections".into(),
        script: format!("pgbench -n -S -C -c 4 -j 2 -T {seconds}"),
        read: tps,
        unit: "per s",
        against: Against::Direct,
        goal: None,
    });
    workloads.push(Workload {
        name: if quick { "COPY out of 100 MB".into() } else { "COPY out of 1 GB".into() },
        script: "TIMEFORMAT='elapsed %R'; time psql -Xqc 'copy bulk to stdout' > /dev/null".into(),
        read: rate,
        unit: "1/s",
        against: Against::Direct,
        goal: Some(0.7),
    });
    workloads.push(Workload {
        name: format!("SELECT of {} small rows", if quick { SMALL_ROWS / 10 } else { SMALL_ROWS }),
        // pgbench takes the rows and throws them away; psql would be busy with formatting them.
        script: "echo 'select * from small;' > $HOME/.small.sql; \
                 pgbench -n -f $HOME/.small.sql -c 1 -t 1; rm $HOME/.small.sql"
            .into(),
        read: tps,
        unit: "1/s",
        against: Against::Direct,
        goal: Some(0.7),
    });
    workloads
}

/// Makes the tables that the workloads read, and keeps the server's own log out of the figures.
pub(super) fn prepare(roads: &Roads, workloads: &[Workload], quick: bool, stage: &Stage) -> Result<()> {
    let server = &roads.world.postgres;
    for setting in ["log_statement = 'none'", "log_connections = off", "log_disconnections = off"] {
        server.psql("postgres", &format!("alter system set {setting}"))?;
    }
    server.psql("postgres", "select pg_reload_conf()")?;
    let needs = |part: &str| workloads.iter().any(|workload| workload.name.contains(part));
    let share = if quick { 10 } else { 1 };
    if needs("pgbench") || needs("connections") {
        stage.progress("pgbench's tables, scale 10");
        crate::command::run(server.direct("pgbench").args(["-i", "-q", "-s", "10"]))?;
    }
    if needs("COPY") {
        stage.progress("a gigabyte of rows");
        make(
            roads,
            "bulk",
            &format!(
                "select n as id, (n::bigint * 7919 % 20000)::integer as customer_id, \
             (array['view', 'cart', 'order', 'return'])[1 + n % 4] as kind, \
             'session ' || md5(n::text) || ' page ' || md5((n + 1)::text) as detail, \
             timestamptz '2025-01-01' + n * interval '1 second' as at from generate_series(1, {}) as n",
                BULK_ROWS / share
            ),
        )?;
    }
    if needs("small rows") {
        stage.progress("small rows");
        let rows = SMALL_ROWS / share;
        make(
            roads,
            "small",
            &format!("select n as id, n % 97 as kind from generate_series(1, {rows}) as n"),
        )?;
    }
    Ok(())
}

fn make(roads: &Roads, table: &str, query: &str) -> Result<()> {
    let server = &roads.world.postgres;
    server.psql("shop", &format!("create unlogged table public.{table} as {query}"))?;
    server.psql("shop", &format!("alter table public.{table} owner to app"))?;
    server.psql("shop", &format!("vacuum (freeze, analyze) public.{table}")).map(drop)
}

fn tps(text: &str) -> Option<f64> {
    if text.contains("aborted") {
        return None;
    }
    let line = text.lines().find(|line| line.starts_with("tps = "))?;
    line.split_whitespace().nth(2)?.parse().ok()
}

fn rate(text: &str) -> Option<f64> {
    if text.contains("ERROR") || text.contains("error:") {
        return None;
    }
    let line = text.lines().find_map(|line| line.strip_prefix("elapsed "))?;
    line.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0).map(|seconds| 1.0 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_errors_are_no_figures() {
        assert_eq!(tps("pgbench\ntps = 1234.5 (without initial connection time)\n"), Some(1234.5));
        assert_eq!(tps("client 0 aborted in command 1\ntps = 9.0 (…)\n"), None);
        assert_eq!(rate("elapsed 2.000\n"), Some(0.5));
        assert_eq!(rate("ERROR:  refused\nelapsed 0.010\n"), None);
    }
}
