//! Proof of the order masking → record → forward, held by the compiler: what a service may send is [`Recorded`], which
//! only a commit makes, out of [`Released`], which is made where bytes were masked.

/// Bytes that may leave, once they are on record. Borrowed: the caller's buffer is neither copied nor given away.
///
/// Each constructor is a claim about the bytes; they are called where the claim is true and nowhere else.
#[must_use]
#[derive(Debug, Clone, Copy)]
pub struct Released<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) to_target: bool,
}

impl<'a> Released<'a> {
    /// Towards the client: everything of the target's in here went through masking, or (ParseComplete, CommandComplete,
    /// ReadyForQuery …) can't carry a value. For the room `masking` and the relay that drives it.
    pub(crate) fn masked(bytes: &'a [u8]) -> Self {
        Self { bytes, to_target: false }
    }

    /// Towards the client: messages that Sluice itself wrote (refusals, notices, start-up).
    pub(crate) fn own(bytes: &'a [u8]) -> Self {
        Self { bytes, to_target: false }
    }

    /// Towards the target: what the gate permitted.
    pub(crate) fn permitted(bytes: &'a [u8]) -> Self {
        Self { bytes, to_target: true }
    }
}

/// Bytes of which everything that was to be recorded is in the file.
#[must_use]
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a>(&'a [u8]);

impl<'a> Recorded<'a> {
    /// Only called by commit, after the write.
    pub(super) fn after_write(released: Released<'a>) -> Self {
        Self(released.bytes)
    }

    /// What to send, now.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }
}
