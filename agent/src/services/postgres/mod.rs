//! The PostgreSQL service.
pub mod catalogue;
