//! The machine between two scripted legs: what goes where, in which pieces, and what is on record.
use std::sync::Arc;

use proptest::prelude::*;
use sluice_api::record::{self, entry::Entry};
use sluice_config::Config;
use sluice_policy::{Context, Policy, Principal, Source};
use sluice_protocol::postgres::sql::{Catalogue, VerdictCache};
use sluice_protocol::postgres::sql::{ColumnRow, Owner, RelationRow, Rows};
use sluice_protocol::postgres::wire::write;

use super::Tape;
use super::machine::{Machine, Pause, Start};
use crate::audit::Audit;
use crate::gate::{Gate, GatedSession, SessionFacts};
use crate::identity::Verified;
use crate::masking::MaskKey;

mod limits;
mod splits;

const CUSTOMERS: u32 = 20001;
const ORDERS: u32 = 20002;

const CONFIG: &str = r#"
[identity]
issuer = "https://id.example.com"
client_id = "sluice"
[[target]]
name = "shop"
protocol = "postgres"
hosts = ["db.internal"]
ports = [5432]
[target.upstream]
user = "app"
[target.classes]
"public.customers.email" = "pii.email"
[target.masks]
"pii.email" = "partial"
"#;

const POLICY: &str = r#"
@id("connect") permit(principal, action == Action::"connect", resource);
@id("read") permit(principal, action in [Action::"select", Action::"session"], resource);
@id("limited") @limit("rows=2")
permit(principal, action == Action::"insert", resource);
@id("held") @approval("dba:1")
permit(principal, action == Action::"update", resource);
@id("no-delete") @message("rows stay")
forbid(principal, action == Action::"delete", resource);
"#;

/// What was recorded, in order; commits in between.
#[derive(Debug, Default)]
struct Reel {
    entries: Vec<Entry>,
    rows: Vec<u8>,
    row_count: u64,
    stream: Vec<u8>,
}

impl Tape for Reel {
    fn entry(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    fn operation_again(&mut self, id: u64, text: &str, parameters: &[String], rest: &[u8]) {
        let operation: record::Operation = prost::Message::decode(rest).unwrap();
        self.entries.push(Entry::Operation(record::Operation {
            id,
            text: text.into(),
            parameters: parameters.to_vec(),
            ..operation
        }));
    }

    fn result_again(&mut self, operation: u64, rest: &[u8]) {
        let result: record::Result = prost::Message::decode(rest).unwrap();
        self.entries.push(Entry::Result(record::Result { operation, ..result }));
    }

    fn rows(&mut self, _: u64, rows: &[u8], count: u64) {
        self.rows.extend_from_slice(rows);
        self.row_count += count;
    }

    fn stream(&mut self, _: u64, bytes: &[u8], _: bool) {
        self.stream.extend_from_slice(bytes);
    }

    fn commit<'a>(&mut self, bytes: &'a [u8], _: bool) -> Result<&'a [u8], String> {
        Ok(bytes)
    }

    async fn commit_strict(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn close(self, _: &str) {}
}

impl Reel {
    fn verdicts(&self) -> Vec<(&str, &str)> {
        let operations = self.entries.iter().filter_map(|e| match e {
            Entry::Operation(o) => Some((o.text.as_str(), o.verdict.as_str())),
            _ => None,
        });
        operations.collect()
    }

    fn completed(&self) -> Vec<&record::Completed> {
        let completed = self.entries.iter().filter_map(|e| match e {
            Entry::Completed(c) => Some(c),
            _ => None,
        });
        completed.collect()
    }
}

fn catalogue() -> Catalogue {
    let mut rows = Rows { version: 150_008, ..Rows::default() };
    for (oid, name, columns) in
        [(CUSTOMERS, "customers", &["id", "email"]), (ORDERS, "orders", &["id", "total"])]
    {
        rows.relations.push(RelationRow {
            oid,
            schema: "public".into(),
            name: name.into(),
            kind: "r".into(),
            definition: None,
            rules: Vec::new(),
        });
        rows.columns.extend(columns.iter().zip(1..).map(|(name, attnum)| ColumnRow {
            relation: oid,
            attnum,
            name: (*name).into(),
            type_oid: 25,
            generated: false,
            from: Vec::new(),
            words: String::new(),
        }));
    }
    let mut owner = Owner::default();
    owner.classes.insert("public.customers.email".into(), "pii.email".into());
    Catalogue::assemble(rows, &owner).0
}

struct Stage {
    machine: Machine<Reel>,
    gate: Arc<Gate>,
    _dir: tempfile::TempDir,
}

fn policy(text: &str) -> Policy {
    Policy::load(&[Source { name: "test.cedar", text }]).unwrap()
}

fn session(gate: &Arc<Gate>) -> GatedSession {
    let config = Config::parse("sluice.toml", CONFIG).unwrap();
    let principal = Principal {
        issuer: "https://id.example.com".into(),
        subject: "alice".into(),
        name: "alice".into(),
        email: String::new(),
        groups: Vec::new(),
        service: false,
    };
    let facts = SessionFacts {
        session: "s".into(),
        target: Arc::new(config.targets.into_iter().next().unwrap()),
        address: "10.0.0.1:5432".parse().unwrap(),
        database: "shop".into(),
        context: Context {
            source: String::new(),
            uid: 1000,
            tty: String::new(),
            exe: String::new(),
            authenticated_by: "device".into(),
            now_s: 0,
            application: String::new(),
        },
    };
    let (session, _permit) = gate.open(&Verified::for_test(principal), facts).unwrap();
    session
}

fn stage() -> Stage {
    stage_under(POLICY)
}

fn stage_under(rules: &str) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(policy(rules), Audit::start(dir.path()).unwrap());
    let machine = Machine::new(Start {
        gated: Arc::new(session(&gate)),
        tape: Reel::default(),
        catalogue: Arc::new(catalogue()),
        verdicts: Arc::new(VerdictCache::default()),
        search_path: "\"$user\", public".into(),
        mask_key: MaskKey::new(&[0; 32]),
    });
    Stage { machine, gate, _dir: dir }
}

impl Stage {
    /// The client says this; what goes to the target.
    fn up(&mut self, bytes: &[u8]) -> Vec<u8> {
        let taken = self.machine.client_said(bytes).unwrap();
        assert_eq!(taken, bytes.len(), "all of it was taken");
        std::mem::take(&mut self.machine.to_server)
    }

    /// The target says this; what goes to the client.
    fn down(&mut self, bytes: &[u8]) -> Vec<u8> {
        let taken = self.machine.server_said(bytes).unwrap();
        assert_eq!(taken, bytes.len(), "all of it was taken");
        std::mem::take(&mut self.machine.to_client)
    }
}

fn query(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write::query(text, &mut out);
    out
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn description(columns: &[(&str, u32, i16)]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
    for (name, table, attribute) in columns {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(&table.to_be_bytes());
        body.extend_from_slice(&attribute.to_be_bytes());
        body.extend_from_slice(&25_u32.to_be_bytes());
        body.extend_from_slice(&(-1_i16).to_be_bytes());
        body.extend_from_slice(&(-1_i32).to_be_bytes());
        body.extend_from_slice(&0_i16.to_be_bytes());
    }
    message(b'T', &body)
}

fn row(values: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    message(b'D', &body)
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn error(code: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0Msyntax error\0\0").as_bytes())
}

fn customers() -> Vec<u8> {
    let columns = [("id", CUSTOMERS, 1), ("email", CUSTOMERS, 2)];
    [
        description(&columns),
        row(&["1", "alice@example.com"]),
        row(&["2", "bob@example.org"]),
        complete("SELECT 2"),
        ready(),
    ]
    .concat()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_permitted_query_goes_up_as_it_is_and_comes_back_masked_and_recorded() {
    let mut stage = stage();
    let sent = query("select * from customers");
    assert_eq!(stage.up(&sent), sent);
    let shown = text(&stage.down(&customers()));
    assert!(shown.contains("a***@***.com") && !shown.contains("alice@"), "{shown}");
    let tape = &stage.machine.tape;
    assert_eq!(tape.verdicts(), [("select * from customers", "permit")]);
    assert_eq!(tape.row_count, 2);
    assert!(!text(&tape.rows).contains("alice@") && text(&tape.rows).contains("b***@***.org"));
    assert_eq!(tape.completed().first().map(|c| (c.tag.as_str(), c.rows)), Some(("SELECT 2", 2)));
}

#[test]
fn what_is_remembered_is_recorded_and_masked_like_the_first_time() {
    let mut stage = stage();
    let mut firsts = Vec::new();
    for literal in 1..5 {
        let sent = query(&format!("select * from customers where id = {literal}"));
        assert_eq!(stage.up(&sent), sent);
        firsts.push(stage.down(&customers()));
    }
    assert!(firsts.windows(2).all(|pair| pair[0] == pair[1]));
    let tape = &stage.machine.tape;
    let mut operations = tape.entries.iter().filter_map(|e| match e {
        Entry::Operation(o) => Some(o.clone()),
        _ => None,
    });
    let first = operations.next().unwrap();
    for (again, n) in operations.zip(2_u64..) {
        assert_eq!(again.text, format!("select * from customers where id = {n}"));
        assert_eq!(again, record::Operation { id: n, text: again.text.clone(), ..first.clone() });
    }
    let results: Vec<_> = tape.entries.iter().filter(|e| matches!(e, Entry::Result(_))).collect();
    assert_eq!(results.len(), 4);
}

#[test]
fn s19_what_is_remembered_does_not_outlive_a_policy() {
    let mut stage = stage();
    for _ in 0..3 {
        stage.up(&query("select * from customers"));
        stage.down(&customers());
    }
    let other =
        format!("{POLICY}\n@id(\"closed\") forbid(principal, action == Action::\"select\", resource);");
    stage.gate.replace(policy(&other));
    let up = text(&stage.up(&query("select * from customers")));
    assert!(!up.contains("customers"), "{up}");
    let told = text(&stage.down(&[error("42601"), ready()].concat()));
    assert!(told.contains("closed"), "{told}");
    let unmask =
        format!("{POLICY}\n@id(\"clear\") permit(principal, action == Action::\"unmask\", resource);");
    stage.gate.replace(policy(&unmask));
    stage.up(&query("select * from customers"));
    assert!(text(&stage.down(&customers())).contains("alice@example.com"));
    stage.gate.replace(policy(POLICY));
    stage.up(&query("select * from customers"));
    assert!(!text(&stage.down(&customers())).contains("alice@example.com"));
}

#[test]
fn a_refused_statement_never_goes_up_and_its_error_is_ours() {
    let mut stage = stage();
    let up = text(&stage.up(&query("delete from orders")));
    assert!(!up.contains("orders"), "{up}");
    let told = text(&stage.down(&[error("42601"), ready()].concat()));
    assert!(told.contains("C42501") && told.contains("no-delete") && told.contains("rows stay"), "{told}");
    assert!(!told.contains("syntax error"));
    // the session lives on
    let sent = query("select 1");
    assert_eq!(stage.up(&sent), sent);
}

#[test]
fn s19_a_pipeline_is_skipped_from_the_refusal_to_its_sync() {
    let mut stage = stage();
    let mut sent = Vec::new();
    write::parse("a", "select id from orders", &mut sent);
    write::parse("b", "delete from orders", &mut sent);
    write::bind("", "b", &[], &mut sent);
    write::execute("", 0, &mut sent);
    write::sync(&mut sent);
    let up = text(&stage.up(&sent));
    assert!(up.contains("select id from orders") && !up.contains("delete"), "{up}");
    let told = stage.down(&[message(b'1', b""), error("42601"), ready()].concat());
    assert_eq!(told.first(), Some(&b'1'));
    assert!(text(&told).contains("no-delete") && told.ends_with(&ready()));
    // the name was never made
    let mut again = Vec::new();
    write::bind("", "b", &[], &mut again);
    write::execute("", 0, &mut again);
    write::sync(&mut again);
    stage.up(&again);
    let told = text(&stage.down(&[error("42601"), ready()].concat()));
    assert!(told.contains("C26000"), "{told}");
    assert_eq!(stage.machine.tape.verdicts().iter().filter(|(_, v)| *v == "permit").count(), 0);
}

#[test]
fn a_held_statement_waits_and_nothing_behind_it_passes() {
    let mut stage = stage();
    let mut sent = query("update orders set total = '0' where id = '7'");
    let held = sent.len();
    sent.extend(query("select 1"));
    let taken = stage.machine.client_said(&sent).unwrap();
    assert_eq!((taken, stage.machine.to_server.len()), (0, 0), "{held} bytes wait in front");
    assert!(matches!(&stage.machine.pause, Some(Pause::Held(holdings)) if holdings.len() == 1));
    assert!(text(&stage.machine.to_client).contains("waiting for approval"));
    assert_eq!(stage.gate.approvals().count(), 1);
    // whoever goes withdraws
    stage.machine.pause = None;
    assert_eq!(stage.gate.approvals().count(), 0);
}

#[test]
fn rows_are_cut_at_the_limit_and_the_statement_fails() {
    let mut stage = stage();
    stage.up(&query("insert into orders values ('1', '2') returning id"));
    let answer = [
        description(&[("id", ORDERS, 1)]),
        row(&["1"]),
        row(&["2"]),
        row(&["3"]),
        complete("INSERT 0 3"),
        ready(),
    ];
    let told = stage.down(&answer.concat());
    assert_eq!(told.windows(5).filter(|w| w[0] == b'D' && w[1..] == [0, 0, 0, 11]).count(), 2);
    assert!(text(&told).contains("limited") && !text(&told).contains("INSERT 0 3"));
    assert!(stage.machine.tape.completed().iter().all(|c| c.failed));
}

#[test]
fn copy_comes_out_masked_whatever_is_in_one_read() {
    let lines = ["1\talice@example.com\n", "2\tbob@example.org\n", "3\t\\N\n"];
    let pieces: Vec<Vec<u8>> = lines.iter().map(|line| message(b'd', line.as_bytes())).collect();
    let mut stage = stage();
    stage.up(&query("copy customers to stdout"));
    let mut shown = stage.down(&message(b'H', &[0, 0, 2, 0, 0, 0, 0]));
    shown.extend(stage.down(&pieces.concat()));
    shown.extend(stage.down(&[message(b'c', b""), complete("COPY 3"), ready()].concat()));
    let shown = text(&shown);
    assert!(shown.contains("1\ta***@***.com\n") && !shown.contains("alice@"), "{shown}");
    let recorded = text(&stage.machine.tape.stream);
    assert_eq!(recorded, "1\ta***@***.com\n2\tb***@***.org\n3\t\\N\n");
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_session() {
    for bytes in
        [row(&["x"]), message(b'd', b"x\n"), complete("SELECT 1"), ready(), message(b'G', &[0, 0, 0])]
    {
        let mut stage = stage();
        assert!(stage.machine.server_said(&bytes).is_err(), "{bytes:?}");
        assert!(stage.machine.to_client.is_empty());
    }
}

/// A conversation: what the client says, what the target answers.
fn conversation() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut extended = Vec::new();
    write::parse("p", "select * from customers", &mut extended);
    write::bind("", "p", &[], &mut extended);
    write::describe(b'P', "", &mut extended);
    write::execute("", 0, &mut extended);
    write::sync(&mut extended);
    let answer = [message(b'1', b""), message(b'2', b""), customers()].concat();
    let copied = [
        message(b'H', &[0, 0, 2, 0, 0, 0, 0]),
        message(b'd', b"1\talice@example.com\n"),
        message(b'd', b"2\tbob@example.org\n"),
        message(b'c', b""),
        complete("COPY 2"),
        ready(),
    ];
    vec![
        (query("select * from customers"), customers()),
        (extended, answer),
        (query("delete from orders"), [error("42601"), ready()].concat()),
        (query("copy customers to stdout"), copied.concat()),
    ]
}

/// Plays it with both sides in pieces of these sizes; everything that came out.
fn play(up: usize, down: usize) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let mut stage = stage();
    for (said, answered) in conversation() {
        let mut input = Vec::new();
        for piece in said.chunks(up) {
            input.extend_from_slice(piece);
            let taken = stage.machine.client_said(&input).unwrap();
            input.drain(..taken);
        }
        assert!(input.is_empty());
        for piece in answered.chunks(down) {
            input.extend_from_slice(piece);
            let taken = stage.machine.server_said(&input).unwrap();
            input.drain(..taken);
        }
        assert!(input.is_empty());
    }
    let machine = stage.machine;
    let recorded = [machine.tape.rows, machine.tape.stream].concat();
    (machine.to_server, machine.to_client, recorded)
}

#[test]
fn s25_messages_split_at_every_byte_come_to_the_same() {
    let whole = play(usize::MAX, usize::MAX);
    for size in 1..40 {
        assert_eq!(play(size, usize::MAX), whole, "client in pieces of {size}");
        assert_eq!(play(usize::MAX, size), whole, "target in pieces of {size}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes of strangers end a session or wait for more; they never panic, and nothing unjudged goes up.
    #[test]
    fn s25_garbage_from_either_side_ends_in_an_error(
        kind in any::<u8>(), length in 0_u32..300, body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&body);
        let mut stage = stage();
        let _ = stage.machine.server_said(&bytes);
        let mut stage = self::stage();
        stage.up(&query("select * from customers"));
        let _ = stage.machine.server_said(&bytes);
        let mut stage = self::stage();
        let _ = stage.machine.client_said(&bytes);
    }
}

/// The answer to one question of our own.
fn shown(value: &str) -> Vec<u8> {
    let closed = [message(b'3', b""), message(b'3', b"")].concat();
    [message(b'1', b""), message(b'2', b""), row(&[value]), complete("SHOW"), closed].concat()
}

#[test]
fn a_path_that_may_have_moved_is_asked_for_once_behind_each_answer() {
    let mut stage = stage_under("@id(\"all\") permit(principal, action, resource);");
    let open = || message(b'Z', b"T");
    stage.up(&query("begin"));
    stage.down(&[complete("BEGIN"), open()].concat());
    stage.up(&query("set local search_path = public"));
    stage.down(&[complete("SET"), open()].concat());
    // what comes next waits for the answer to a question of our own
    let wanted = query("select id from customers");
    let taken = stage.machine.client_said(&wanted).unwrap();
    assert_eq!(taken, 0, "it waits");
    assert!(text(&std::mem::take(&mut stage.machine.to_server)).contains("SHOW search_path"));
    assert_eq!(
        stage.down(&[shown("public"), shown("none"), shown("app"), open()].concat()),
        b"",
        "nothing of it is the client's"
    );
    // the pump goes on once all is answered
    stage.machine.pause = None;
    assert_eq!(stage.up(&wanted), wanted, "and then it goes, without another question");
}

#[test]
fn what_begins_a_transaction_is_not_asked_behind() {
    let mut stage = stage_under("@id(\"all\") permit(principal, action, resource);");
    stage.up(&query("begin"));
    stage.down(&[complete("BEGIN"), message(b'Z', b"T")].concat());
    stage.up(&query("set transaction read only"));
    stage.down(&[complete("SET"), message(b'Z', b"T")].concat());
    let next = query("set transaction read write");
    assert_eq!(
        stage.up(&next),
        next,
        "no question of ours stands between: it would be the transaction's first"
    );
}

#[test]
fn what_every_verdict_rests_on_stays_and_so_does_the_session() {
    let mut stage = stage_under("@id(\"all\") permit(principal, action, resource);");
    for set in ["set standard_conforming_strings = off", "set client_encoding = 'sjis'", "set names 'latin1'"]
    {
        assert!(!text(&stage.up(&query(set))).contains(set), "{set} goes nowhere");
        let refused = stage.down(&[error("42601"), ready()].concat());
        assert!(text(&refused).contains("stays as it is"), "{set}: {}", text(&refused));
        stage.machine.pause = None;
    }
    for name in ["UTF8", "UNICODE"] {
        let kept = query(&format!("set client_encoding = '{name}'"));
        assert_eq!(stage.up(&kept), kept);
        let told = message(b'S', format!("client_encoding\0{name}\0").as_bytes());
        stage.down(&[told, complete("SET"), ready()].concat());
        stage.machine.pause = None;
    }
    let other = message(b'S', b"client_encoding\0LATIN1\0");
    assert!(stage.machine.server_said(&other).is_err(), "by a road that nobody saw: the session ends");
}

#[test]
fn where_detectors_are_off_only_classes_mask() {
    let wanted = query("select 'a@example.com' as note");
    for (detects, seen) in [(true, false), (false, true)] {
        let mut stage = stage_under("@id(\"all\") permit(principal, action, resource);");
        stage.machine.detects = detects;
        stage.up(&wanted);
        let down =
            [description(&[("note", 0, 0)]), row(&["a@example.com"]), complete("SELECT 1"), ready()].concat();
        assert_eq!(text(&stage.down(&down)).contains("a@example.com"), seen);
    }
}

#[test]
fn parameters_of_any_length_fit_into_the_recording_the_first_time_and_again() {
    let mut stage = stage_under("@id(\"all\") permit(principal, action, resource);");
    let long = "x".repeat(20 << 20);
    let mut up = Vec::new();
    write::parse("", "insert into orders (id) values ($1)", &mut up);
    write::bind("", "", &[Some(long.as_bytes())], &mut up);
    write::execute("", 0, &mut up);
    write::sync(&mut up);
    let answers = [message(b'1', b""), message(b'2', b""), complete("INSERT 0 1"), ready()].concat();
    for time in 0..3 {
        stage.up(&up);
        stage.machine.server_said(&answers).unwrap();
        stage.machine.pause = None;
        let recorded = stage.machine.tape.entries.iter().filter_map(|entry| match entry {
            Entry::Operation(operation) => Some(operation.parameters.iter().map(String::len).sum::<usize>()),
            _ => None,
        });
        let recorded: Vec<usize> = recorded.collect();
        assert_eq!(recorded.len(), time + 1);
        assert!(recorded.iter().all(|length| *length < (1 << 20) + 200), "{recorded:?}");
    }
    let quoted = message(b'E', format!("SERROR\0VERROR\0C22P02\0M{long}\0\0").as_bytes());
    stage.up(&query("select id from orders"));
    stage.machine.server_said(&[quoted, ready()].concat()).unwrap();
    assert!(stage.machine.tape.completed().iter().all(|completed| completed.tag.len() < 70_000));
    let many = super::understand::cut_parameters(&vec!["y".repeat(1 << 20); 50]).into_owned();
    assert_eq!(many.len(), 50);
    assert!(many.iter().map(String::len).sum::<usize>() < 5 << 20 && many[49].contains("SHA-256"));
}
