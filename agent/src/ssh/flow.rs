//! How much of a channel's bytes may wait for the other leg.
//!
//! russh opens a channel's window again as soon as bytes have arrived, not when they have been taken, and its loop for a
//! connection stands still while a channel's queue is full. A queue with a limit would therefore stop *both* directions
//! once each waits for the other (a paused reader of `ssh host gzip < large`), for ever; one without would hold whatever
//! a fast sender has. So the queues have no limit and the loop waits: while too much of a channel is there, it goes on
//! only as bytes are taken, which slows the sender by TCP. Where none are taken for [`PAUSE`], it goes on all the same,
//! and grants [`TRICKLE`] bytes in place of a window: whoever waits for a window message of the other side always gets
//! to read it, and a sender that nobody reads gains some kilobytes a second at most.
//!
//! Two do not go by that: russh's client grants a whole window each time half of one has come, whatever is asked of it, and
//! nobody in russh minds who sends more than was granted. So there is a most that may wait ([`FULL`]). A target's loop
//! stands still there until the client has taken something: it may do so for ever, since the client's loop never does
//! and hears when the client reads on. A client that gets there is let go.
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
/// What one packet of a client's may carry towards us: the most that russh takes. Everybody has 32 KiB (RFC 4253, section
/// 6.1), and who has more to say at once comes with half as many of these.
pub const LARGEST_PACKET: u32 = 65_535;
/// What is granted while too much waits. Half of it is the least that a window message is sent for.
const TRICKLE: u32 = 512;
/// More than so much of one channel is too much.
const HIGH: usize = 256 << 10;
/// How long the loop waits for something to be taken.
const PAUSE: Duration = Duration::from_millis(20);
/// The most of one channel that waits. From a client that keeps to its windows it would come in an hour of trickle.
const FULL: usize = 64 << 20;
/// What a message costs beside its bytes.
const OVERHEAD: usize = 128;

/// What happens where [`FULL`] waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtFull {
    /// The connection stands still. Not for both legs: each could wait for the other.
    Wait,
    /// It ends.
    End,
}

/// More waits on a channel than its windows have room for.
#[derive(Debug, PartialEq, Eq)]
pub struct Overfull;

/// The channels of one connection.
pub struct Flows {
    window: u32,
    at_full: AtFull,
    by_channel: Mutex<HashMap<u32, Arc<Flow>>>,
    congested: Arc<AtomicUsize>,
}

/// One channel's bytes that have arrived and have not been taken.
pub struct Flow {
    queued: AtomicUsize,
    congested: AtomicBool,
    closed: AtomicBool,
    all_congested: Arc<AtomicUsize>,
    taken: Notify,
}

impl Flows {
    /// Of a connection whose channels have this window.
    pub fn new(window: u32, at_full: AtFull) -> Arc<Self> {
        Arc::new(Self { window, at_full, by_channel: Mutex::default(), congested: Arc::default() })
    }

    /// From now on the channel's bytes are counted; whoever takes them says so to the [`Flow`].
    pub fn open(&self, channel: u32) -> Arc<Flow> {
        let flow = Arc::new(Flow {
            queued: AtomicUsize::new(0),
            congested: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            all_congested: Arc::clone(&self.congested),
            taken: Notify::new(),
        });
        self.by_channel.lock().insert(channel, Arc::clone(&flow));
        flow
    }

    /// The channel is no more.
    pub fn close(&self, channel: u32) {
        if let Some(flow) = self.by_channel.lock().remove(&channel) {
            flow.closed.store(true, Ordering::Release);
            flow.taken.notify_waiters();
        }
    }

    /// Bytes have arrived; for the connection's loop, which waits here when they are too many.
    ///
    /// # Errors
    /// [`Overfull`]: the connection has to end.
    pub async fn arrived(&self, channel: u32, bytes: usize) -> Result<(), Overfull> {
        let Some(flow) = self.by_channel.lock().get(&channel).cloned() else { return Ok(()) };
        flow.queued.fetch_add(bytes + OVERHEAD, Ordering::AcqRel);
        while flow.holds(HIGH) {
            if flow.holds(FULL) {
                match self.at_full {
                    AtFull::Wait => flow.progress(FULL).await,
                    AtFull::End => return Err(Overfull),
                }
            } else if tokio::time::timeout(PAUSE, flow.progress(HIGH)).await.is_err() {
                flow.set_congested(true);
                return Ok(());
            }
        }
        Ok(())
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

    /// More than this waits for somebody.
    fn holds(&self, bytes: usize) -> bool {
        self.queued.load(Ordering::Acquire) > bytes && !self.closed.load(Ordering::Acquire)
    }

    /// Waits until something is taken, where there is more than that.
    async fn progress(&self, than: usize) {
        let woken = self.taken.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        // taken between the look and the waiting
        if self.holds(than) {
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
        let flows = Flows::new(WINDOW_LOCAL, AtFull::End);
        let flow = flows.open(7);
        let start = tokio::time::Instant::now();
        flows.arrived(7, HIGH / 2).await.unwrap();
        assert_eq!((flows.window(), start.elapsed()), (WINDOW_LOCAL, Duration::ZERO));
        flows.arrived(7, HIGH).await.unwrap();
        assert_eq!((flows.window(), start.elapsed()), (TRICKLE, PAUSE));
        flow.took(HIGH);
        assert_eq!(flows.window(), WINDOW_LOCAL);
        // a channel that ends in that state does not hold the others
        flows.arrived(7, HIGH).await.unwrap();
        assert_eq!(flows.window(), TRICKLE);
        drop(flow);
        flows.close(7);
        assert_eq!(flows.window(), WINDOW_LOCAL);
    }

    #[tokio::test(start_paused = true)]
    async fn the_loop_goes_on_as_soon_as_bytes_are_taken() {
        let flows = Flows::new(WINDOW_LOCAL, AtFull::End);
        let flow = flows.open(1);
        let start = tokio::time::Instant::now();
        let taker = async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            flow.took(HIGH * 2);
        };
        let (arrived, ()) = tokio::join!(flows.arrived(1, HIGH * 2), taker);
        arrived.unwrap();
        assert_eq!(start.elapsed(), Duration::from_millis(3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded_for_those_who_keep_to_no_window() {
        let flows = Flows::new(WINDOW_LOCAL, AtFull::End);
        let _flow = flows.open(1);
        assert_eq!(flows.arrived(1, FULL - OVERHEAD).await, Ok(()));
        assert_eq!(flows.arrived(1, 1).await, Err(Overfull));

        let flows = Flows::new(WINDOW_REMOTE, AtFull::Wait);
        let flow = flows.open(1);
        assert_eq!(flows.arrived(1, FULL - OVERHEAD).await, Ok(()));
        let start = tokio::time::Instant::now();
        let taker = async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            flow.took(1000);
        };
        let (arrived, ()) = tokio::join!(flows.arrived(1, 1), taker);
        assert_eq!((arrived, start.elapsed()), (Ok(()), Duration::from_secs(3600) + PAUSE));
        // whoever takes it has gone: the loop has others to serve
        let closer = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            flows.close(1);
        };
        let (arrived, ()) = tokio::join!(flows.arrived(1, 100_000), closer);
        assert_eq!((arrived, start.elapsed()), (Ok(()), Duration::from_secs(3601) + PAUSE));
    }
}
