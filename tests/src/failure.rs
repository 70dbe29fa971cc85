//! Why the harness itself could not go on. What the product does wrong is no failure of the harness: it is a claim that
//! does not hold (see [`crate::tour`]).

use std::fmt;

/// What could not be done, with its causes, in one line.
pub struct Failure(String);

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure in words.
    pub fn new(what: impl Into<String>) -> Failure {
        Failure(what.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// `main` and tests print a failure by Debug; the words are what the reader needs.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure(error.to_string())
    }
}

impl From<nix::Error> for Failure {
    fn from(error: nix::Error) -> Failure {
        Failure(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure(format!("not the JSON that was expected: {error}"))
    }
}

/// Says what was being done when something went wrong.
pub trait Context<T> {
    /// `act` is put before the cause: "failed to open `x`: no such file".
    fn context(self, act: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, act: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{act}: {error}")))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, act: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Failure(act.to_string()))
    }
}
