//! One folder a protocol behind one trait.
pub mod postgres;
