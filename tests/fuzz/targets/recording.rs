//! A recording that somebody has had in his hands.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = sluice_evidence::recover(bytes);
    if let Ok(mut reader) = sluice_evidence::Reader::new(bytes) {
        while let Ok(Some(_)) = reader.next() {}
    }
});
