//! to follow
