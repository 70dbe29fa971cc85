//! One folder a protocol behind one trait.
mod caller;
pub mod postgres;
pub mod ssh;

use std::future::Future;
use std::sync::Arc;

use sluice_config::Target;

pub use caller::Via;

use crate::app::House;
use crate::intake::Inbound;

/// A protocol: carries one connection from its first byte to its end.
pub trait Service: Send + Sync + 'static {
    /// Serves `inbound`, which wants to go to `target`. Says to the client, the log and the audit what there is to say.
    fn serve(
        self: Arc<Self>,
        inbound: Inbound,
        target: Arc<Target>,
        house: Arc<House>,
    ) -> impl Future<Output = ()> + Send;
}
