//! Codecs, state machines and verdicts: bytes in, values out; no socket, no clock, no runtime.
pub mod postgres;
pub mod ssh;
