//! The detectors: any bytes, any column's name. The length stays, text stays text, and what the prefilter dismisses
//! nothing would have changed; a row is dismissed only when each of its values would have been.
#![no_main]
#[allow(dead_code, unused_imports, reason = "each target calls a part of it")]
#[path = "../../../agent/src/masking/mod.rs"]
mod masking;

use libfuzzer_sys::fuzz_target;
use masking::{ColumnPlan, Families, MaskKey, RowMask, Treatment, hints, scrub_hinted};

fuzz_target!(|bytes: &[u8]| {
    let (name, value) = bytes.split_at(bytes.iter().position(|b| *b == 0).unwrap_or(0));
    let mut shown = value.to_vec();
    scrub_hinted(&mut shown, hints(name));
    assert_eq!(shown.len(), value.len());
    if std::str::from_utf8(value).is_ok() {
        assert!(std::str::from_utf8(&shown).is_ok());
    }
    let plain =
        ColumnPlan { treatment: Treatment::Detect, type_oid: 25, binary: false, hints: Families::NONE };
    let mask = RowMask::new(vec![plain; 2], &MaskKey::new(&[1; 32]));
    let mut row = 2_u16.to_be_bytes().to_vec();
    for value in [name, value] {
        row.extend((value.len() as u32).to_be_bytes());
        row.extend(value);
    }
    if mask.dismisses(&row) {
        let mut out = Vec::new();
        let read = mask.data_row(&row, &mut out);
        assert!(read.is_ok() && out == row);
    }
});
