//! `sluice classify`: a proposal for `[target.classes]`, for a person to review.

use std::io::IsTerminal as _;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sluice_api::admin::{self, ClassifiedColumn, ClassifiedTable, request::Request, response::Response};

use super::client::{Client, odd};
use super::terminal::{print, safe, say};
use super::{Failure, print_json_line};

/// In so many of a hundred values something must be recognised, so that a class is proposed and not only mentioned:
/// a random number of 16 digits looks like a card in two of a hundred.
const ENOUGH: u64 = 10;

/// Looks at a sample of each table with the detectors and proposes classes. Values are counted, and none is shown. It is a
/// session under your name, on record; needs the right `classify`.
#[derive(Args)]
#[command(
    after_help = "What is printed belongs into the target's part of sluice.toml, once somebody has read it:\n\
lines of it that begin with # are for that person to decide.\n\n\
Examples:\n  sluice classify shop > proposal.toml\n  sluice classify shop --database orders --schema public --rows 5000"
)]
pub(super) struct Classify {
    /// The target, as `sluice targets` shows it.
    target: String,
    /// The database; without it the first that the target names.
    #[arg(long, default_value = "")]
    database: String,
    /// Only this schema.
    #[arg(long, default_value = "")]
    schema: String,
    /// How many rows of each table are looked at.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rows: u32,
}

pub(super) fn classify(mut client: Client, command: Classify, json: bool) -> Result<(), Failure> {
    let Classify { target, database, schema, rows } = command;
    // a large table may take its time
    client.wait_long()?;
    client.send(Request::Classify(admin::Classify { target: target.clone(), database, schema, rows }))?;
    let bar = progress();
    let (mut classed, mut proposed, mut unread) = (0, 0, 0);
    let mut out = format!(
        "# What `sluice classify {}` found; read it before you use it.\n[target.classes]\n",
        safe(&target)
    );
    while let Some(answer) = client.next()? {
        let Response::Classified(table) = answer else { return Err(odd()) };
        bar.set_length(u64::from(table.tables));
        bar.set_position(u64::from(table.place));
        if json {
            print_json_line(&table)?;
            continue;
        }
        unread += u32::from(!table.failed.is_empty());
        let lines = render(&table);
        classed += table.columns.iter().filter(|column| !column.class.is_empty()).count();
        proposed += lines.lines().filter(|line| line.starts_with('"')).count();
        out.push_str(&lines);
    }
    bar.finish_and_clear();
    if !json {
        print(&out)?;
        say(&format!(
            "{proposed} columns proposed, {classed} have a class already, {unread} tables could not be read"
        ));
    }
    Ok(())
}

fn progress() -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("tables {pos}/{len} {wide_bar} {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The lines of one table.
fn render(table: &ClassifiedTable) -> String {
    let mut out = String::new();
    if !table.failed.is_empty() {
        out.push_str(&format!("# {}.{}: {}\n", safe(&table.schema), safe(&table.table), safe(&table.failed)));
    }
    for column in &table.columns {
        if let Some(line) = propose(table, column) {
            out.push_str(&line);
        }
    }
    out
}

/// The line of a column: a proposal, a doubt behind `#`, or none.
fn propose(table: &ClassifiedTable, column: &ClassifiedColumn) -> Option<String> {
    if !column.class.is_empty() {
        return None;
    }
    let most = column.recognised.iter().max_by_key(|found| found.values);
    let (family, why, doubt) = match (most, column.by_name.first()) {
        (Some(found), _) => {
            let share = found.values * 100 / column.values.max(1);
            let seen: Vec<String> = column
                .recognised
                .iter()
                .map(|found| format!("{} in {} of {}", safe(&found.family), found.values, column.values))
                .collect();
            (found.family.as_str(), seen.join(", "), share < ENOUGH)
        }
        // nothing was in it that could be looked at: the name is all there is
        (None, Some(family)) if column.values == 0 => {
            let seen = if table.failed.is_empty() { "no values" } else { "not looked into" };
            (family.as_str(), format!("by its name; {seen}"), true)
        }
        (None, _) => return None,
    };
    let key = key(&[&table.schema, &table.table, &column.name])?;
    let mark = if doubt { "# " } else { "" };
    Some(format!("{mark}{key} = \"{}\"  # {}: {why}\n", class(family), safe(&column.r#type)))
}

/// `"schema.table.column"`, as the configuration has it. A name with a dot can't be written there.
fn key(parts: &[&str]) -> Option<String> {
    let plain = |part: &&str| !part.is_empty() && !part.contains('.') && !part.chars().any(char::is_control);
    let whole = parts.join(".");
    parts.iter().all(plain).then(|| format!("\"{}\"", whole.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// The class of a family, by the names that the examples use.
fn class(family: &str) -> String {
    match family {
        "secret" | "password" | "token" => format!("secret.{family}"),
        "email" | "phone" | "card" | "iban" | "ip" | "mac" | "birth" | "name" => format!("pii.{family}"),
        // the others are ids that a state gives out
        _ => "pii.national_id".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use admin::Recognised;

    fn column(name: &str, values: u64, recognised: &[(&str, u64)], by_name: &[&str]) -> ClassifiedColumn {
        ClassifiedColumn {
            name: name.into(),
            r#type: "text".into(),
            class: String::new(),
            values,
            by_name: by_name.iter().map(|&name| name.to_owned()).collect(),
            recognised: recognised
                .iter()
                .map(|&(family, values)| Recognised { family: family.into(), values })
                .collect(),
        }
    }

    #[test]
    fn a_proposal_is_a_configuration_that_a_person_can_read() {
        let table = ClassifiedTable {
            schema: "public".into(),
            table: "customers".into(),
            columns: vec![
                column("email", 100, &[("email", 98)], &[]),
                column("number", 1000, &[("card", 21)], &[]),
                column("born", 0, &[], &["birth"]),
                column("plain", 100, &[], &[]),
                column("tax", 10, &[("nl_bsn", 9)], &[]),
                column("a.b", 10, &[("email", 9)], &[]),
                ClassifiedColumn { class: "pii.phone".into(), ..column("phone", 10, &[("phone", 10)], &[]) },
            ],
            ..ClassifiedTable::default()
        };
        assert_eq!(
            render(&table),
            "\"public.customers.email\" = \"pii.email\"  # text: email in 98 of 100\n\
             # \"public.customers.number\" = \"pii.card\"  # text: card in 21 of 1000\n\
             # \"public.customers.born\" = \"pii.birth\"  # text: by its name; no values\n\
             \"public.customers.tax\" = \"pii.national_id\"  # text: nl_bsn in 9 of 10\n"
        );
    }
}
