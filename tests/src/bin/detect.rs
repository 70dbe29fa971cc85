//! The detectors alone, on columns that come as JSON: what they recognise, and how fast. For `cargo xtask bench detect`.
//!
//! Standard input: `[{"column": …, "values": [text, …]}, …]`. Standard output: for each column the names of what was
//! recognised in each value, with and without the column's name, and how long all values took.

use std::hint::black_box;
use std::time::Instant;

use serde::{Deserialize, Serialize};

// by path: nothing else of the proxy has to be built for this
#[path = "../../../agent/src/masking/detect/mod.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "a part of the room is used here"))]
#[expect(unreachable_pub, reason = "it is public in the room")]
mod detect;
#[path = "../../../agent/src/masking/prefilter.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "rows are not looked at here"))]
mod prefilter;

use detect::{Families, hints, scrub_hinted};

#[derive(Deserialize)]
struct Column {
    column: String,
    values: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    /// A list a column, a list a value.
    with_name: Vec<Vec<Vec<&'static str>>>,
    without_name: Vec<Vec<Vec<&'static str>>>,
    values: usize,
    bytes: usize,
    /// Of one pass over all values, the best of several.
    seconds: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let columns: Vec<Column> = serde_json::from_reader(std::io::stdin().lock())?;
    let named = |column: &Column| hints(column.column.as_bytes());
    let report = Report {
        with_name: columns.iter().map(|column| recognised(column, named(column))).collect(),
        without_name: columns.iter().map(|column| recognised(column, Families::NONE)).collect(),
        values: columns.iter().map(|column| column.values.len()).sum(),
        bytes: columns.iter().flat_map(|column| &column.values).map(String::len).sum(),
        seconds: (0..20).map(|_| seconds(&columns)).fold(f64::INFINITY, f64::min),
    };
    serde_json::to_writer(std::io::stdout().lock(), &report)?;
    Ok(())
}

fn recognised(column: &Column, hints: Families) -> Vec<Vec<&'static str>> {
    let found = |value: &String| scrub_hinted(&mut value.clone().into_bytes(), hints).names().collect();
    column.values.iter().map(found).collect()
}

/// As the rows of a result are masked: the name once a column, each value in place.
fn seconds(columns: &[Column]) -> f64 {
    let mut all: Vec<(&Column, Vec<Vec<u8>>)> =
        columns.iter().map(|c| (c, c.values.iter().map(|v| v.clone().into_bytes()).collect())).collect();
    let start = Instant::now();
    for (column, values) in &mut all {
        let hints = hints(column.column.as_bytes());
        for value in values {
            black_box(scrub_hinted(value, hints));
        }
    }
    start.elapsed().as_secs_f64()
}
