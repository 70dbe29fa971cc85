//! `sluice events`.

pub(super) mod summary;

use clap::Args;
use serde_json::Value;
use sluice_api::admin::{self, request::Request, response::Response};

use super::client::{Client, odd};
use super::terminal::{self, parse_time, print, safe};
use super::{Failure, print_json};

/// Audit events, oldest first: one readable line each, or the JSON as it stands in the file.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sluice events --since 2h --class bypass\n  sluice events --follow --json\n  \
                  sluice events --since 7d --class bypass --summary"
)]
pub(super) struct Events {
    /// Go on as they happen.
    #[arg(long, short)]
    follow: bool,
    /// Since when: RFC 3339, or an age such as 90s, 15m, 2h, 3d.
    #[arg(long, value_parser = parse_time)]
    since: Option<i64>,
    /// Only this class: login, session, decision, approval, alarm, bypass, config, policy, recorder, host, provider, upstream.
    #[arg(long, default_value = "")]
    class: String,
    /// Count what is alike: by person, program, destination, what became of it, and road.
    #[arg(long, conflicts_with = "follow")]
    summary: bool,
}

pub(super) fn events(mut client: Client, command: &Events, json: bool) -> Result<(), Failure> {
    let request = admin::Events {
        follow: command.follow,
        since_us: command.since.unwrap_or(0),
        class: command.class.clone(),
    };
    client.send(Request::Events(request))?;
    if command.follow {
        client.wait_long()?;
    }
    let mut summary = command.summary.then(summary::Summary::default);
    while let Some(answer) = client.next()? {
        let Response::Event(event) = answer else { return Err(odd()) };
        if let Some(summary) = &mut summary {
            summary.add(&event.json);
            continue;
        }
        let line = if json { event.json } else { readable(&event.json) };
        print(&format!("{line}\n"))?;
    }
    match summary {
        Some(summary) if json => print_json(&summary.json()),
        Some(summary) => Ok(print(&summary.text())?),
        None => Ok(()),
    }
}

/// One line: time, class, activity, who, the rest as name=value.
fn readable(json: &str) -> String {
    let Ok(Value::Object(event)) = serde_json::from_str::<Value>(json) else { return safe(json) };
    let word = |name: &str| event.get(name).map(flat).unwrap_or_default();
    let when = match event.get("time") {
        Some(Value::Number(n)) => n.as_i64().map(terminal::time).unwrap_or_default(),
        Some(other) => flat(other),
        None => String::new(),
    };
    let mut line = format!("{when} {:<9} {}", word("class"), word("activity"));
    for (name, value) in &event {
        if !matches!(name.as_str(), "time" | "class" | "activity" | "seq") {
            let text = flat(value);
            if !text.is_empty() {
                line.push_str(&format!(" {name}={text}"));
            }
        }
    }
    safe(&line)
}

fn flat(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        Value::Array(list) => list.iter().map(flat).collect::<Vec<_>>().join(","),
        Value::Object(map) => {
            let inner = map.iter().map(|(n, v)| (n, flat(v))).filter(|(_, v)| !v.is_empty());
            inner.map(|(n, v)| format!("{n}:{v}")).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn lines_are_readable_and_harmless() {
        let json = r#"{"seq":1,"time":0,"class":"bypass","activity":"redirected","actor":{"uid":7,"exe":"/bin/e\u001b[2J"}}"#;
        assert_eq!(
            readable(json),
            "1970-01-01 00:00:00Z bypass    redirected actor=uid:7 exe:/bin/e\\u{1b}[2J"
        );
        assert_eq!(readable("no json\u{7}"), "no json\\u{7}");
    }
}
