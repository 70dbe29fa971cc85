//! PostgreSQL: [`wire`] is the frontend/backend protocol, [`sql`] what a statement does.
pub mod sql;
pub mod wire;
