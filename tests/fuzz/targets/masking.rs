//! Rows of a target: masked or an error, and a classed value never in clear.
#![no_main]
// the room alone, not the whole proxy: it is pure
#[allow(dead_code, unused_imports, reason = "each target calls a part of it")]
#[path = "../../../agent/src/masking/mod.rs"]
mod masking;

use libfuzzer_sys::fuzz_target;
use masking::{ColumnPlan, CopyFormat, CopyMask, MaskKey, MaskKind, RowMask, StreamMask, Treatment, hints};

fuzz_target!(|bytes: &[u8]| {
    let key = MaskKey::new(&[1; 32]);
    let classed = |kind| Treatment::Mask { kind, class: "pii.email".into(), derived: false };
    let plan: Vec<ColumnPlan> = [Treatment::Detect, classed(MaskKind::Partial), classed(MaskKind::Redact)]
        .into_iter()
        .map(|treatment| ColumnPlan { treatment, type_oid: 25, binary: false, hints: hints(b"phone") })
        .collect();
    let mut out = Vec::new();
    let _ = RowMask::new(plan.clone(), &key).data_row(bytes, &mut out);
    for format in [
        CopyFormat::Text { delimiter: b'\t', null: b"\\N".to_vec(), header: bytes.len() % 2 == 1 },
        CopyFormat::Csv { delimiter: b',', quote: b'"', escape: b'\\', null: Vec::new(), header: false },
    ] {
        let mut mask = CopyMask::new(format, plan.clone(), &key);
        let mut out = Vec::new();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let _ = mask
            .push(first, &mut out)
            .and_then(|()| mask.push(second, &mut out))
            .and_then(|()| mask.finish(&mut out));
    }
    stream(bytes);
});

/// However a stream comes in pieces, it is the same, and as long as before.
fn stream(bytes: &[u8]) {
    for make in [|| StreamMask::terminal(20), StreamMask::pipe] {
        let (mut mask, mut whole) = (make(), Vec::new());
        mask.push(bytes, &mut whole);
        mask.flush(&mut whole);
        let (mut mask, mut pieces) = (make(), Vec::new());
        bytes.chunks(3).for_each(|piece| mask.push(piece, &mut pieces));
        mask.flush(&mut pieces);
        assert!(whole == pieces && whole.len() == bytes.len());
    }
}
