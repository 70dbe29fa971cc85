//! How much of a channel's bytes may wait for the other leg.
//!
//! russh opens a channel's window again as soon as bytes have arrived, not when they have been taken, and its loop for a
//! connection stands still while a channel's queue is full. A queue with a limit would therefore stop *both* directions
//! once each waits for the other (a paused reader of `ssh host gzip < large`), for ever; one without would hold whatever
//! a fast sender has. So the queues have no limit and the loop waits: while too much of a channel is there, it goes on
//! only as bytes are taken, which slows the sender by TCP. Where none are taken for [`PAUSE`], it goes on all the same,
//! and grants [`TRICKLE`] bytes in place of a window: whoever waits for a window message of the other side always gets
//! to read it, and a sender that nobody reads gains some kilobytes a second at most.
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Window of a channel with a client, which is on this machine.
pub const WINDOW_LOCAL: u32 = 1 << 20;
/// Window of a channel with a target, which may be far away.
pub const WINDOW_REMOTE: u32 = 2 << 20;
/// What one packet of a channel may carry towards us: the most that russh takes. Everybody has 32 KiB (RFC 4253, section
/// 6.1), and who has more to say at once comes with half as many of these.
pub const LARGEST_PACKET: u32 = 65_535;
/// What is granted while too much waits. Half of it is the least that a window message is sent for.
const TRICKLE: u32 = 512;
/// More than so much of one channel is too much.
const HIGH: usize = 256 << 10;
/// How long the loop waits for something to be taken.
const PAUSE: Duration = Duration::from_millis(20);
/// What a message costs beside its bytes.
const OVERHEAD: usize = 128;

/// The channels of one connection.
pub struct Flows {
    window: u32,
    by_channel: Mutex<HashMap<u32, Arc<Flow>>>,
    congested: Arc<AtomicUsize>,
}

/// One channel's bytes that have arrived and have not been taken.
pub struct Flow {
    queued: AtomicUsize,
    congested: AtomicBool,
    all_congested: Arc<AtomicUsize>,
    taken: Notify,
}

impl Flows {
    /// Of a connection whose channels have this window.
    pub fn new(window: u32) -> Arc<Self> {
        Arc::new(Self { window, by_channel: Mutex::default(), congested: Arc::default() })
    }

    /// From now on the channel's bytes are counted; whoever takes them says so to the [`Flow`].
    pub fn open(&self, channel: u32) -> Arc<Flow> {
        let flow = Arc::new(Flow {
            queued: AtomicUsize::new(0),
            congested: AtomicBool::new(false),
            all_congested: Arc::clone(&self.congested),
            taken: Notify::new(),
        });
        self.by_channel.lock().insert(channel, Arc::clone(&flow));
        flow
    }

    /// The channel is no more.
    pub fn close(&self, channel: u32) {
        self.by_channel.lock().remove(&channel);
    }

    /// Bytes have arrived; for the connection's loop, which waits here when they are too many.
    pub async fn arrived(&self, channel: u32, bytes: usize) {
        let Some(flow) = self.by_channel.lock().get(&channel).cloned() else { return };
        flow.queued.fetch_add(bytes + OVERHEAD, Ordering::AcqRel);
        while flow.is_high() {
            if tokio::time::timeout(PAUSE, flow.progress()).await.is_err() {
                flow.set_congested(true);
                return;
            }
        }
    }

    /// The window that the connection's channels are to have next.
    pub fn window(&self) -> u32 {
        if self.congested.load(Ordering::Acquire) > 0 { TRICKLE } else { self.window }
    }
}

impl Flow {
    /// So many bytes of one message have gone on.
    pub fn took(&self, bytes: usize) {
        let gone = bytes + OVERHEAD;
        let before =
            self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, |q| Some(q.saturating_sub(gone)));
        if before.unwrap_or(0).saturating_sub(gone) <= HIGH {
            self.set_congested(false);
        }
        self.taken.notify_waiters();
    }

    fn is_high(&self) -> bool {
        self.queued.load(Ordering::Acquire) > HIGH
    }

    /// Waits until something is taken.
    async fn progress(&self) {
        let woken = self.taken.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        // taken between the look and the waiting
        if self.is_high() {
            woken.await;
        }
    }

    fn set_congested(&self, now: bool) {
        if self.congested.swap(now, Ordering::AcqRel) != now {
            if now {
                self.all_congested.fetch_add(1, Ordering::AcqRel);
            } else {
                self.all_congested.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.set_congested(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_channel_that_nobody_takes_from_gets_a_trickle_and_then_its_window_again() {
        let flows = Flows::new(WINDOW_LOCAL);
        let flow = flows.open(7);
        let start = tokio::time::Instant::now();
        flows.arrived(7, HIGH / 2).await;
        assert_eq!((flows.window(), start.elapsed()), (WINDOW_LOCAL, Duration::ZERO));
        flows.arrived(7, HIGH).await;
        assert_eq!((flows.window(), start.elapsed()), (TRICKLE, PAUSE));
        flow.took(HIGH);
        assert_eq!(flows.window(), WINDOW_LOCAL);
        // a channel that ends in that state does not hold the others
        flows.arrived(7, HIGH).await;
        assert_eq!(flows.window(), TRICKLE);
        drop(flow);
        flows.close(7);
        assert_eq!(flows.window(), WINDOW_LOCAL);
    }

    #[tokio::test(start_paused = true)]
    async fn the_loop_goes_on_as_soon_as_bytes_are_taken() {
        let flows = Flows::new(WINDOW_LOCAL);
        let flow = flows.open(1);
        let start = tokio::time::Instant::now();
        let taker = async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            flow.took(HIGH * 2);
        };
        tokio::join!(flows.arrived(1, HIGH * 2), taker);
        assert_eq!(start.elapsed(), Duration::from_millis(3));
    }
}
