//! What the functions of pg_catalog may do.
