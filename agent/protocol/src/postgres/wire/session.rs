//! Which answer belongs to which message; to follow.
