//! control/policy
