//! The proxy and the people's CLI. Rooms in the order in which a connection walks through them:
//! [`intake`] → [`identity`] → [`gate`] → [`services`] (with [`upstream`], [`masking`]) → [`recorder`];
//! [`tls`] and [`ssh`] are what both legs stand on; [`audit`] takes what each of them has to tell, [`admin`] answers `sluice`, [`metrics`] whoever scrapes, [`app`] wires it all.
pub mod admin;
pub mod app;
pub mod audit;
mod buffers;
pub mod cli;
pub mod fence;
pub mod gate;
pub mod identity;
pub mod intake;
pub mod lineage;
pub mod masking;
pub mod metrics;
pub mod recorder;
pub mod services;
pub mod ssh;
pub mod tls;
pub mod upstream;
