//! Messages of the admin socket and of the hand-over.
#![no_main]
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use sluice_api::{admin, frame, handover, record};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((_, taken))) = frame::decode::<admin::Request>(bytes) {
        assert!(taken <= bytes.len());
    }
    let _ = handover::FromProxy::decode(bytes);
    let _ = handover::FromLoader::decode(bytes);
    let _ = record::Entry::decode(bytes);
});
