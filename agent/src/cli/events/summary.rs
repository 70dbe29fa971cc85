//! `sluice events --summary`: who tried what how often, in place of a line for each try.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::super::terminal::{Table, time};

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Kind {
    class: String,
    activity: String,
    /// The proven person, or `uid NAME` where nobody is proven.
    who: String,
    /// The program, where the event tells of one.
    program: String,
    /// The target with the address that was asked for, as far as the event tells.
    destination: String,
    /// The way that was taken, of bypass attempts.
    road: String,
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    kind: Kind,
    count: u64,
    /// Microseconds since 1970.
    first_us: i64,
    last_us: i64,
}

/// Events, counted.
#[derive(Default)]
pub(in super::super) struct Summary {
    counts: BTreeMap<Kind, (u64, i64, i64)>,
    unread: u64,
}

impl Summary {
    /// Takes one event, as it stands in the file.
    pub(in super::super) fn add(&mut self, json: &str) {
        let Ok(event) = serde_json::from_str::<Value>(json) else {
            self.unread += 1;
            return;
        };
        let at = event.get("time").and_then(Value::as_i64).unwrap_or(0);
        let (count, first, last) = self.counts.entry(kind(&event)).or_insert((0, at, at));
        *count += 1;
        *first = at.min(*first);
        *last = at.max(*last);
    }

    /// The most frequent first.
    fn lines(self) -> Vec<Line> {
        let mut lines: Vec<Line> = self
            .counts
            .into_iter()
            .map(|(kind, (count, first_us, last_us))| Line { kind, count, first_us, last_us })
            .collect();
        // stable: equal ones stay in the order of their kinds
        lines.sort_by_key(|line| std::cmp::Reverse(line.count));
        lines
    }

    /// For scripts.
    pub(in super::super) fn json(self) -> impl Serialize {
        self.lines()
    }

    /// For people.
    pub(in super::super) fn text(self) -> String {
        let unread = self.unread;
        let mut table =
            Table::new(["COUNT", "CLASS", "WHAT", "WHO", "PROGRAM", "DESTINATION", "ROAD", "FIRST", "LAST"]);
        for line in self.lines() {
            let Kind { class, activity, who, program, destination, road } = line.kind;
            let times = [time(line.first_us), time(line.last_us)];
            let words = [line.count.to_string(), class, activity, who, program, destination, road];
            table.row(words.into_iter().map(dashed).chain(times));
        }
        let mut text = table.render();
        if unread > 0 {
            text.push_str(&format!("{unread} lines are no events and were not counted\n"));
        }
        text
    }
}

fn dashed(word: String) -> String {
    if word.is_empty() { "-".to_owned() } else { word }
}

fn kind(event: &Value) -> Kind {
    let word = |path: &str| match event.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let first = |paths: &[&str]| {
        paths.iter().map(|path| word(path)).find(|text| !text.is_empty()).unwrap_or_default()
    };
    let unproven = first(&["/process/user", "/process/uid", "/origin/uid"]);
    let who = match first(&["/actor/name", "/actor/subject"]) {
        person if !person.is_empty() => person,
        _ if unproven.is_empty() => String::new(),
        _ => format!("uid {unproven}"),
    };
    let address = match (word("/origin/address"), word("/origin/port")) {
        (address, _) if address.is_empty() => String::new(),
        (address, port) if address.contains(':') => format!("[{address}]:{port}"),
        (address, port) => format!("{address}:{port}"),
    };
    let destination = [word("/target"), word("/database"), address];
    Kind {
        class: word("/class"),
        activity: word("/activity"),
        who,
        program: first(&["/process/exe", "/origin/comm"]),
        destination: destination.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "),
        road: word("/road"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRY: &str = r#"{"seq":1,"time":2000000,"class":"bypass","activity":"dropped","road":"packet","target":"shop",
        "origin":{"address":"10.0.0.1","port":5432,"uid":7,"comm":"nc"},"process":{"user":"daemon","uid":7,"exe":"/bin/nc"}}"#;

    #[test]
    fn the_same_is_counted_and_another_is_not() {
        let mut summary = Summary::default();
        summary.add(TRY);
        summary.add(&TRY.replace("2000000", "1000000"));
        summary.add(&TRY.replace("/bin/nc", r"/bin/\u001b[2Jnc"));
        summary.add("nonsense");
        let text = anstream::adapter::strip_str(&summary.text()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("2      bypass  dropped  uid daemon  /bin/nc "), "{text}");
        assert!(
            lines[1].contains("shop 10.0.0.1:5432  packet  1970-01-01 00:00:01Z  1970-01-01 00:00:02Z"),
            "{text}"
        );
        assert!(lines[2].starts_with("1 ") && !text.contains('\u{1b}'), "{text}");
        assert!(lines[3].starts_with("1 lines are no events"), "{text}");
    }

    #[test]
    fn a_proven_person_goes_before_a_user_of_the_host() {
        let event = serde_json::json!({"class": "decision", "activity": "refused", "actor": {"name": "alice", "subject": "s"},
            "target": "shop", "database": "shop", "process": {"user": "root", "exe": "/usr/bin/psql"}});
        let kind = kind(&event);
        assert_eq!((kind.who.as_str(), kind.destination.as_str()), ("alice", "shop shop"));
    }
}
