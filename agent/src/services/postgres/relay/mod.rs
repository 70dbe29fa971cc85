//! Everything after a session is established.
