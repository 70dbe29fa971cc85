//! What a decision costs without a network: `cargo xtask bench verdict`.
//!
//! Each row stands beside something that cannot be done for less, measured in the same round: a verdict beside the
//! grammar's own parse of the same text, a mask beside copying the same bytes. Medians of rounds that take turns.

#![expect(clippy::unwrap_used, reason = "a benchmark may end in a panic, as a test may")]

use std::hint::black_box;
use std::time::Instant;

use sluice_agent::masking::{ColumnPlan, MaskKey, MaskKind, RowMask, Treatment, hints};
use sluice_policy::{Context, Policy, Principal, Source};
use sluice_protocol::postgres::sql::{
    CacheKey, Catalogue, ColumnRow, Owner, RelationRow, Rows, SearchPath, VerdictCache, analyse,
};

/// Tables of the database that is asked about, a dozen columns each.
const TABLES: u32 = 200;
/// Rounds; each measures both sides.
const ROUNDS: usize = 15;

const STATEMENTS: [(&str, &str); 5] = [
    ("a look-up", "SELECT c3, c4 FROM t7 WHERE c1 = 4711"),
    ("an update", "UPDATE t7 SET c3 = 'x', c4 = c4 || 'y' WHERE c1 = 4711 RETURNING c1"),
    (
        "a report",
        "SELECT a.c1, b.c2, count(*), max(b.c5) FROM t1 a JOIN t2 b ON b.c2 = a.c1 LEFT JOIN t3 c USING (c6) \
         WHERE a.c3 IN ('a', 'b', 'c') AND b.c4 > '2025-01-01' GROUP BY a.c1, b.c2 HAVING count(*) > 3 ORDER BY 3 DESC LIMIT 50",
    ),
    (
        "a CTE that writes",
        "WITH gone AS (DELETE FROM t4 WHERE c1 < 100 RETURNING *), kept AS (SELECT * FROM t5) \
         INSERT INTO t6 SELECT gone.* FROM gone JOIN kept ON kept.c1 = gone.c1",
    ),
    (
        "psql's \\d",
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relname OPERATOR(pg_catalog.~) '^(t7)$' COLLATE pg_catalog.default ORDER BY 1, 2",
    ),
];

const POLICY: &str = include_str!("../../packaging/example/policy/shop.cedar");

fn main() {
    let mut table = Vec::new();
    verdicts(&mut table);
    decision(&mut table);
    masks(&mut table);
    let width = table.iter().map(|row| row.name.len()).max().unwrap_or(0);
    println!("{:width$}  {:>12} {:>12} {:>7} {:>7}", "", "Sluice", "beside", "ratio", "goal");
    for row in &table {
        let goal = row.goal.map_or_else(String::new, |goal| format!("{goal:.2}"));
        println!(
            "{:width$}  {:>12} {:>12} {:>7.2} {goal:>7}  {}",
            row.name,
            row.unit.show(row.ours),
            row.unit.show(row.beside),
            row.ratio(),
            row.than
        );
    }
    if let Ok(file) = std::env::var("SLUICE_BENCH_JSON") {
        std::fs::write(file, json(&table)).unwrap();
    }
}

struct Row {
    name: String,
    ours: f64,
    beside: f64,
    than: &'static str,
    unit: Unit,
    goal: Option<f64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    /// Seconds; less is better.
    Time,
    /// Bytes a second; more is better.
    Rate,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Time if value < 1e-6 => format!("{:.0} ns", value * 1e9),
            Unit::Time => format!("{:.1} us", value * 1e6),
            Unit::Rate => format!("{:.0} MB/s", value / 1e6),
        }
    }
}

impl Row {
    /// Ours to what stands beside it.
    fn ratio(&self) -> f64 {
        self.ours / self.beside
    }
}

fn json(rows: &[Row]) -> String {
    let row = |row: &Row| {
        serde_json::json!({
            "name": row.name, "ratio": (row.ratio() * 1e4).round() / 1e4, "goal": row.goal,
            "unit": if row.unit == Unit::Time { "s" } else { "B/s" },
            "sluice": row.ours, "beside": row.beside, "than": row.than,
        })
    };
    serde_json::json!({"rows": rows.iter().map(row).collect::<Vec<_>>()}).to_string()
}

/// Medians of both, in alternation: of one run, in seconds.
fn both(mut ours: impl FnMut(), mut beside: impl FnMut()) -> (f64, f64) {
    let mut figures: [Vec<f64>; 2] = Default::default();
    let (often, often_beside) = (repeats(&mut ours), repeats(&mut beside));
    for _ in 0..ROUNDS {
        figures[0].push(once(&mut ours, often));
        figures[1].push(once(&mut beside, often_beside));
    }
    let [ours, beside] = figures.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    (ours, beside)
}

/// So often that a measurement takes some milliseconds.
fn repeats(act: &mut impl FnMut()) -> u32 {
    let mut often = 1;
    while once(act, often) * f64::from(often) < 0.005 && often < 1 << 24 {
        often *= 2;
    }
    often
}

fn once(act: &mut impl FnMut(), often: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..often {
        act();
    }
    start.elapsed().as_secs_f64() / f64::from(often)
}

fn verdicts(table: &mut Vec<Row>) {
    let catalogue = catalogue();
    let path = SearchPath::default();
    for (name, text) in STATEMENTS {
        let parse = || drop(black_box(pg_query::parse(black_box(text), pg_query::ParserOptions::default())));
        let (ours, beside) = both(|| drop(black_box(analyse(black_box(text), &catalogue, &path))), parse);
        // most of it is the grammar's own work
        let goal = Some(2.5);
        table.push(Row {
            name: format!("verdict on {name}, cold"),
            ours,
            beside,
            than: "parsing it",
            unit: Unit::Time,
            goal,
        });
        let (cache, mut key) = (VerdictCache::new(1024), CacheKey::default());
        let (ours, beside) =
            both(|| drop(black_box(cache.analyse(black_box(text), &catalogue, &path, &mut key))), parse);
        let goal = Some(0.05);
        table.push(Row {
            name: format!("verdict on {name}, found again"),
            ours,
            beside,
            than: "parsing it",
            unit: Unit::Time,
            goal,
        });
    }
}

/// The policy of the example, asked about a statement.
fn decision(table: &mut Vec<Row>) {
    let policy = Policy::load(&[Source { name: "shop.cedar", text: POLICY }]).unwrap();
    let alice = Principal {
        issuer: "https://id".into(),
        subject: "a1".into(),
        name: "alice".into(),
        email: String::new(),
        groups: vec!["analysts".into()],
        service: false,
    };
    let subject = policy.subject(&alice);
    let catalogue = catalogue();
    let (name, text) = STATEMENTS[0];
    let analysis = analyse(text, &catalogue, &SearchPath::default());
    let operation = analysis.statements[0].operation(&catalogue, ("shop", "shop"), text, Vec::new());
    let context = Context {
        source: String::new(),
        uid: 1000,
        tty: "pts/1".into(),
        exe: "/usr/bin/psql".into(),
        authenticated_by: "device".into(),
        now_s: 1_767_225_600,
        application: "psql".into(),
    };
    let (ours, beside) = both(
        || drop(black_box(policy.decide(&subject, black_box(&operation), &context))),
        || drop(black_box(pg_query::parse(black_box(text), pg_query::ParserOptions::default()))),
    );
    table.push(Row {
        name: format!("the policy's word on {name}"),
        ours,
        beside,
        than: "parsing it",
        unit: Unit::Time,
        goal: None,
    });
}

/// Name, treatment, type, column, and what its values are.
type Case = (&'static str, Treatment, u32, &'static str, fn(usize) -> String);

fn masks(table: &mut Vec<Row>) {
    let key = MaskKey::new(&[7; 32]);
    let classed = |kind| Treatment::Mask { kind, class: "pii.email".into(), derived: false };
    let email: fn(usize) -> String = |n| format!("person.{n}@example.com");
    let words: fn(usize) -> String =
        |n| format!("order {n} was shipped to the usual place, nothing else to say");
    let json: fn(usize) -> String =
        |n| format!("{{\"id\": {n}, \"state\": \"open\", \"items\": [1, 2, 3], \"note\": \"none\"}}");
    let number: fn(usize) -> String = |n| (n * 7919).to_string();
    let cases: [Case; 8] = [
        ("clear text", Treatment::Clear, 25, "c", words),
        ("integers, looked at", Treatment::Detect, 23, "c", number),
        ("text, looked at", Treatment::Detect, 25, "c", words),
        ("text with e-mail addresses, looked at", Treatment::Detect, 25, "c", email),
        ("JSON, looked at", Treatment::Detect, 3802, "c", json),
        ("e-mail, redacted", classed(MaskKind::Redact), 25, "email", email),
        ("e-mail, in part", classed(MaskKind::Partial), 25, "email", email),
        ("e-mail, hashed", classed(MaskKind::Hash), 25, "email", email),
    ];
    for (name, treatment, type_oid, column, value) in cases {
        let plan =
            |treatment| ColumnPlan { treatment, type_oid, binary: false, hints: hints(column.as_bytes()) };
        let mask = RowMask::new(vec![plan(Treatment::Clear), plan(treatment)], &key);
        let rows: Vec<Vec<u8>> = (0..1000).map(|n| row(&[n.to_string(), value(n)])).collect();
        let bytes: usize = rows.iter().map(Vec::len).sum();
        let (mut out, mut copy) = (Vec::with_capacity(2 * bytes), Vec::with_capacity(2 * bytes));
        let (ours, beside) = both(
            || {
                out.clear();
                for row in &rows {
                    // as the relay does it
                    if mask.dismisses(row) {
                        out.extend_from_slice(row)
                    } else {
                        mask.data_row(row, &mut out).unwrap()
                    }
                }
                black_box(&out);
            },
            || {
                copy.clear();
                rows.iter().for_each(|row| copy.extend_from_slice(row));
                black_box(&copy);
            },
        );
        let rate = |seconds: f64| bytes as f64 / seconds;
        table.push(Row {
            name: format!("rows: {name}"),
            ours: rate(ours),
            beside: rate(beside),
            than: "copying them",
            unit: Unit::Rate,
            goal: None,
        });
    }
}

/// The body of a DataRow.
fn row(values: &[String]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body
}

fn catalogue() -> Catalogue {
    let mut rows = Rows { version: 150_008, ..Rows::default() };
    let mut add = |oid: u32, schema: &str, name: String, columns: &[String]| {
        rows.relations.push(RelationRow {
            oid,
            schema: schema.into(),
            name,
            kind: "r".into(),
            definition: None,
            rules: Vec::new(),
        });
        rows.columns.extend(columns.iter().zip(1..).map(|(name, attnum)| ColumnRow {
            relation: oid,
            attnum,
            name: name.clone(),
            type_oid: 25,
            generated: false,
            from: Default::default(),
            words: String::new(),
        }));
    };
    let own: Vec<String> = (1..=12).map(|n| format!("c{n}")).collect();
    for n in 1..=TABLES {
        add(20_000 + n, "public", format!("t{n}"), &own);
    }
    for (oid, name, columns) in [
        (1259, "pg_class", ["oid", "relname", "relnamespace"]),
        (2615, "pg_namespace", ["oid", "nspname", "nspowner"]),
    ] {
        add(oid, "pg_catalog", name.into(), &columns.map(str::to_owned));
    }
    let mut owner = Owner::default();
    owner.classes.insert("public.t9.c5".into(), "pii.email".into());
    Catalogue::assemble(rows, &owner).0
}
