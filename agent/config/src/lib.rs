//! agent/config
