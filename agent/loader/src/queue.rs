//! What is to reach the proxy for certain: kept, numbered, until the proxy says that it has it on record.

use std::collections::VecDeque;

use prost::Message;

/// Bytes in one packet, well below the limit of a packet.
const BATCH: usize = 32 << 10;
/// Of messages that may come in floods: so many are on their way at most, so that they don't keep the answers from the proxy
/// that it waits for.
pub(crate) const WINDOW: usize = 256;

/// Messages on their way.
pub(crate) struct Queue<T> {
    /// Sequence number of the first.
    first: u64,
    waiting: VecDeque<T>,
    /// How many of them are on their way to the proxy.
    sent: usize,
    /// Thrown away because nobody took them.
    lost: u64,
    /// More are not kept: the oldest go, and the count of lost ones grows.
    most: usize,
    /// More are not on their way.
    window: usize,
}

impl<T: Message + Clone> Queue<T> {
    pub(crate) fn new(most: usize, window: usize) -> Self {
        Self { first: 0, waiting: VecDeque::new(), sent: 0, lost: 0, most, window }
    }

    pub(crate) fn push(&mut self, message: T) {
        if self.waiting.len() >= self.most {
            self.waiting.pop_front();
            self.first += 1;
            self.sent = self.sent.saturating_sub(1);
            self.lost += 1;
        }
        self.waiting.push_back(message);
    }

    /// The next ones that were not sent yet, and the number of the first of them; to be asked for again once others have been
    /// seen.
    pub(crate) fn batch(&mut self) -> Option<(u64, Vec<T>)> {
        let mut messages = Vec::new();
        let mut bytes = 0;
        let free = self.window.saturating_sub(self.sent);
        for message in self.waiting.iter().skip(self.sent).take(free) {
            bytes += message.encoded_len() + 8;
            if bytes > BATCH && !messages.is_empty() {
                break;
            }
            messages.push(message.clone());
        }
        if messages.is_empty() {
            return None;
        }
        let first = self.first + self.sent as u64;
        self.sent += messages.len();
        Some((first, messages))
    }

    /// The proxy has all up to this one on record.
    pub(crate) fn seen(&mut self, up_to: u64) {
        while self.sent > 0 && self.first <= up_to {
            self.waiting.pop_front();
            self.first += 1;
            self.sent -= 1;
        }
    }

    /// There is another proxy: what was not acknowledged is sent again.
    pub(crate) fn start_over(&mut self) {
        self.sent = 0;
    }

    /// How many were thrown away.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}

/// A list that may be longer than a packet, cut; one empty piece of an empty one.
pub(crate) fn batches<T: Message>(all: Vec<T>) -> Vec<Vec<T>> {
    let mut pieces = vec![Vec::new()];
    let mut bytes = 0;
    for message in all {
        let own = message.encoded_len() + 8;
        bytes += own;
        if bytes > BATCH {
            bytes = own;
            pieces.push(Vec::new());
        }
        if let Some(last) = pieces.last_mut() {
            last.push(message);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use sluice_api::handover::KernelEvent;

    use super::*;

    fn queue(count: i64) -> Queue<KernelEvent> {
        let mut queue = Queue::new(3, 2);
        (0..count).for_each(|time_us| queue.push(KernelEvent { time_us, ..KernelEvent::default() }));
        queue
    }

    #[test]
    fn what_was_not_acknowledged_comes_again() {
        let mut kept = queue(3);
        assert_eq!(kept.batch().map(|(first, events)| (first, events.len())), Some((0, 2)));
        assert!(kept.batch().is_none(), "no more than the window");
        kept.seen(0);
        kept.start_over();
        assert_eq!(kept.batch().map(|(first, events)| (first, events.len())), Some((1, 2)));
        kept.seen(u64::MAX);
        assert!(kept.waiting.is_empty());
    }

    #[test]
    fn nothing_is_acknowledged_that_was_not_sent() {
        let mut kept = queue(3);
        kept.seen(u64::MAX);
        assert_eq!(kept.waiting.len(), 3);
    }

    #[test]
    fn the_oldest_go_and_are_counted() {
        let mut kept = queue(5);
        assert_eq!((kept.lost(), kept.batch().map(|(first, _)| first)), (2, Some(2)));
    }
}
