//! The SSH service: [`door`] finds out who it is and opens the target, [`relay`] carries the channels.
//!
//! One connection of a client is one session at the gate, one recording and one connection to the target; channels go
//! one to one, so that multiplexing clients work as they do directly.
mod door;
mod relay;

use std::sync::Arc;

use sluice_config::Target;

use super::Service;
use crate::app::House;
use crate::intake::Inbound;

/// What the sessions of this protocol share: nothing.
pub struct Ssh;

impl Service for Ssh {
    async fn serve(self: Arc<Self>, inbound: Inbound, target: Arc<Target>, house: Arc<House>) {
        door::enter(inbound, target, house).await;
    }
}
