use super::*;
use sluice_api::record::entry::Entry;
use sluice_evidence::ledger::Standing;
use sluice_evidence::{Accept, End, State};

fn settings() -> Recording {
    Recording {
        max_rows: 2,
        max_bytes: 1 << 20,
        transfers: sluice_config::Transfers::Digest,
        max_transfer: 0,
        min_free: 0,
    }
}

fn opened() -> record::Opened {
    let attributes = [("database".to_owned(), "shop".to_owned())].into();
    record::Opened { target: "shop".into(), attributes, ..Default::default() }
}

fn row(value: &str) -> Vec<u8> {
    let mut row = vec![b'D'];
    row.extend((4 + 2 + 4 + value.len() as u32).to_be_bytes());
    row.extend(1_u16.to_be_bytes());
    row.extend((value.len() as u32).to_be_bytes());
    row.extend(value.bytes());
    row
}

fn operation(id: u64, verdict: &str) -> Entry {
    Entry::Operation(record::Operation { id, verdict: verdict.into(), ..Default::default() })
}

#[test]
fn what_was_committed_is_read_back_and_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(dir.path(), &settings()).unwrap();
    let mut session = recorder.open(opened()).unwrap();
    let id = session.id();
    session.entry(operation(1, "permit"));
    let _ = session.commit(Released::permitted(b"Q")).unwrap().bytes();
    let rows: Vec<u8> = ["a", "b", "c"].iter().flat_map(|v| row(v)).collect();
    session.rows(1, &rows, 3);
    session.completed(record::Completed { operation: 1, ..Default::default() });
    assert_eq!(session.commit(Released::masked(&rows)).unwrap().bytes(), rows);
    session.entry(operation(2, "refuse"));

    let live: Vec<_> = recorder.read(&id).unwrap().map(Result::unwrap).collect();
    let Some(Entry::Data(data)) = &live[2].entry else { panic!("{live:?}") };
    assert_eq!(Rows::new(&data.rows).collect::<Vec<_>>(), [[Some(b"a".as_slice())], [Some(b"b")]]);
    let Some(Entry::Completed(completed)) = &live[3].entry else { panic!("{live:?}") };
    assert_eq!((completed.rows, completed.rows_digested), (3, 1));
    assert_eq!(recorder.list(&Filter::default()).unwrap()[0].state, "live");

    session.close("done");
    let listed = recorder.list(&Filter::default()).unwrap();
    assert_eq!((listed[0].operations, listed[0].refused, listed[0].state.as_str()), (2, 1, "sealed"));
    let report = verify_file(&recorder.path(&id), &[recorder.public_key().clone()], Accept::Sealed).unwrap();
    assert_eq!(report.state, State::Sealed(End::Closed));
}

#[test]
fn a_crash_is_closed_and_a_change_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(dir.path(), &settings()).unwrap();
    let key = recorder.public_key().clone();
    let mut crashed = recorder.open(opened()).unwrap();
    crashed.entry(operation(1, "permit"));
    let _ = crashed.commit(Released::own(b"x")).unwrap();
    let (id, path) = (crashed.id(), recorder.path(&crashed.id()));
    let changed = recorder.open(opened()).unwrap();
    let changed_path = recorder.path(&changed.id());
    changed.close("done");
    // the writer died in the middle of a frame
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(&[0, 0, 0, 40, 1]);
    std::mem::forget(crashed);
    drop(recorder);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &bytes).unwrap();

    let recorder = Recorder::start(dir.path(), &settings()).unwrap();
    assert_eq!(recorder.findings(), [Finding::Recovered(id, 5)]);
    let entries: Vec<_> = recorder.read(&id).unwrap().map(Result::unwrap).collect();
    assert!(matches!(&entries.last().unwrap().entry, Some(Entry::Gap(gap)) if gap.bytes_discarded == 5));
    let report = verify_directory(&dir.path().join("recordings"), std::slice::from_ref(&key)).unwrap();
    assert!(report.ledger.is_ok());
    assert!(report.sessions.values().all(|s| matches!(s, Standing::Sealed(_) | Standing::Recovered(_))));

    let mut bytes = std::fs::read(&changed_path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&changed_path, &bytes).unwrap();
    std::fs::remove_file(&path).unwrap();
    let report = verify_directory(&dir.path().join("recordings"), &[key]).unwrap();
    let mut names: Vec<_> = report.sessions.values().map(Standing::name).collect();
    names.sort_unstable();
    assert_eq!(names, ["broken", "missing"]);
}

#[test]
fn a_full_disk_ends_the_session_and_lets_none_in() {
    let dir = tempfile::tempdir().unwrap();
    let full = Recording { min_free: u64::MAX, ..settings() };
    let recorder = Recorder::start(dir.path(), &settings()).unwrap();
    let mut session = recorder.open(opened()).unwrap();
    recorder.set(&full);
    assert!(matches!(recorder.open(opened()), Err(RecorderError::NoSpace { .. })));
    session.fail_for_test();
    session.entry(operation(1, "permit"));
    assert!(matches!(session.commit(Released::permitted(b"Q")), Err(RecorderError::Poisoned)));
}

#[tokio::test]
async fn strict_commits_wait_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(dir.path(), &settings()).unwrap();
    let mut session = recorder.open(opened()).unwrap();
    session.entry(operation(1, "permit"));
    assert_eq!(session.commit_strict(Released::permitted(b"Q")).await.unwrap().bytes(), b"Q");
}

#[test]
fn a_terminal_is_kept_whole_and_keystrokes_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let tight = Recording { max_bytes: 4, ..settings() };
    let recorder = Recorder::start(dir.path(), &tight).unwrap();
    let attributes = [("account".to_owned(), "deploy".to_owned())].into();
    let mut session =
        recorder.open(record::Opened { target: "app".into(), attributes, ..Default::default() }).unwrap();
    let id = session.id();
    assert_eq!(recorder.summary(&id).unwrap().database, "deploy");
    session.terminal(record::Terminal { operation: 1, columns: 80, rows: 24, term: "xterm".into() });
    session.typed(1, 7);
    session.screen(1, b"$ echo hello\r\n");
    let _ = session.commit(Released::masked(b"$ echo hello\r\n")).unwrap();
    session.screen(1, b"hello\r\n");
    session.stderr(2, b"no such file");
    session.completed(record::Completed { operation: 1, ..Default::default() });
    session.completed(record::Completed { operation: 2, ..Default::default() });
    session.file(record::File { operation: 3, action: "file_read".into(), ..Default::default() });
    session.close("done");

    let entries: Vec<_> = recorder.read(&id).unwrap().filter_map(|e| e.unwrap().entry).collect();
    let screen: Vec<u8> =
        entries.iter().flat_map(|e| if let Entry::Data(d) = e { d.screen.clone() } else { vec![] }).collect();
    assert_eq!(screen, b"$ echo hello\r\nhello\r\n", "the limits are not a terminal's");
    let completed: Vec<_> =
        entries.iter().filter_map(|e| if let Entry::Completed(c) = e { Some(c) } else { None }).collect();
    assert_eq!((completed[0].bytes, completed[0].bytes_typed, completed[0].bytes_digested), (21, 7, 0));
    assert_eq!((completed[1].bytes, completed[1].bytes_digested), (12, 8));
    assert!(entries.iter().any(|e| matches!(e, Entry::Data(d) if d.stderr && d.stream == b"no s")));
    assert!(entries.iter().any(|e| matches!(e, Entry::File(f) if f.action == "file_read")));
    assert!(matches!(&entries[1], Entry::Terminal(t) if t.columns == 80));
}

#[tokio::test]
async fn a_live_session_is_followed_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(dir.path(), &settings()).unwrap();
    let mut session = recorder.open(opened()).unwrap();
    let id = session.id();
    let mut following = recorder.follow(&id).unwrap();
    let first = following.next().await.unwrap().unwrap();
    assert!(matches!(first.entry, Some(Entry::Opened(_))));
    assert!(at_rest(&mut following).await.is_none());
    for n in 1..=3 {
        session.entry(operation(n, "permit"));
        let _ = session.commit(Released::permitted(b"Q")).unwrap();
        let entry = following.next().await.unwrap().unwrap();
        assert!(matches!(entry.entry, Some(Entry::Operation(o)) if o.id == n));
    }
    let task = tokio::spawn(async move {
        let mut rest = Vec::new();
        while let Some(entry) = following.next().await.unwrap() {
            rest.push(entry.entry.unwrap());
        }
        rest
    });
    tokio::task::yield_now().await;
    session.close("done");
    let rest = task.await.unwrap();
    assert!(matches!(rest.as_slice(), [Entry::Closed(closed)] if closed.reason == "done"), "{rest:?}");
    assert!(matches!(recorder.follow(&id), Err(RecorderError::NotFound(_))), "it is over");
}

/// A look at a time when there is nothing, as a select would do it.
async fn at_rest(following: &mut Following) -> Option<record::Entry> {
    tokio::select! {
        biased;
        entry = following.next() => Some(entry.unwrap().unwrap()),
        () = tokio::time::sleep(std::time::Duration::from_millis(20)) => None,
    }
}
