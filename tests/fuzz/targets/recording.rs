//! A recording's file, as a crash or an attacker left it.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sluice_evidence::{Accept, recover, verify};

fuzz_target!(|bytes: &[u8]| {
    // nobody's key is trusted: nothing sealed may pass
    assert!(verify(bytes, &[], Accept::Sealed).is_err());
    let _ = verify(bytes, &[], Accept::Live);
    if let Ok(report) = recover(bytes, &[]) {
        assert!(report.bytes <= bytes.len() as u64);
    }
});
