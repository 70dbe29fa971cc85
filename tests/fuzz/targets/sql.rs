//! SQL text from a client: understood or refused, never a crash.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sluice_protocol::postgres::sql::{Catalogue, SearchPath, analyse, skeleton};

fuzz_target!(|text: &str| {
    let catalogue = Catalogue::default();
    let path = SearchPath::new(["public"]);
    assert!(!analyse(text, &catalogue, &path).statements.iter().any(|s| s.span.end > text.len()));
    let mut out = Vec::new();
    let _ = skeleton(text, &mut out);
});
