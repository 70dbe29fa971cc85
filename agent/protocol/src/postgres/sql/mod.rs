//! What a statement does: effects, relations, columns, lineage.
