//! Who is asking: credentials in, [`Verified`] principals out.
//!
//! Must hold: nobody outside this room can make a [`Verified`].

use std::ops::Deref;
use std::time::SystemTime;

use sluice_api::common;
use sluice_policy::Principal;

/// Something that was proven, not claimed. Made in this room alone.
#[derive(Clone, Debug)]
pub struct Verified<T>(T);

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl Verified<Principal> {
    /// The principal without the proof: for records and comparisons.
    pub fn to_owned_principal(&self) -> Principal {
        self.0.clone()
    }
}

/// A person who has proven who he is, and for how long that holds.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who.
    pub principal: Verified<Principal>,
    /// Until when.
    pub expires_at: SystemTime,
    /// How: `device`, `browser`, `token`, `bound`.
    pub how: &'static str,
}

/// The principal as it stands in messages, recordings and events.
pub fn message(principal: &Principal) -> common::Principal {
    common::Principal {
        subject: principal.subject.clone(),
        issuer: principal.issuer.clone(),
        name: principal.name.clone(),
        email: principal.email.clone(),
        groups: principal.groups.clone(),
        service: principal.service,
    }
}
