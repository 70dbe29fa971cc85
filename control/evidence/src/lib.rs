//! control/evidence
