//! The PostgreSQL service.
