//! What a program writes, as the person may see it: masked, and released before it is recorded.
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;

use super::echo::Echo;
use super::pump::Shape;
use crate::masking::StreamMask;

/// One of a program's two streams on its way to the client.
pub(super) struct Shown<'w> {
    /// `None`: a protocol of programs, whose bytes are not text for people.
    mask: Option<StreamMask>,
    /// The terminal's width, as of its last change.
    columns: &'w AtomicU32,
    seen_columns: u32,
    /// Of a terminal.
    echo: Option<&'w Echo>,
    told: bool,
    pub(super) stderr: bool,
}

impl<'w> Shown<'w> {
    pub(super) fn new(shape: &Shape, columns: &'w AtomicU32, echo: &'w Echo, stderr: bool) -> Self {
        let seen_columns = columns.load(Ordering::Acquire);
        let mask = match shape {
            Shape::Screen => Some(StreamMask::terminal(usize::try_from(seen_columns).unwrap_or(0))),
            Shape::Command => Some(StreamMask::pipe()),
            _ => None,
        };
        let echo = matches!(shape, Shape::Screen).then_some(echo);
        Self { mask, columns, seen_columns, echo, told: false, stderr }
    }

    /// What may be shown now that these have come.
    pub(super) fn push(&mut self, data: Bytes) -> Bytes {
        let Some(mask) = self.mask.as_mut().filter(|mask| !mask.is_binary()) else { return data };
        let columns = self.columns.load(Ordering::Acquire);
        if columns != self.seen_columns {
            self.seen_columns = columns;
            mask.set_columns(usize::try_from(columns).unwrap_or(0));
        }
        let mut out = Vec::with_capacity(data.len());
        // behind something that is held back its echo waits as well: it may be a part of that
        let is_echo = self.echo.is_some_and(|echo| echo.explains(&data)) && mask.deadline().is_none();
        mask.push(&data, &mut out);
        if is_echo {
            mask.flush(&mut out);
        }
        Bytes::from(out)
    }

    /// Everything that is held back.
    pub(super) fn flush(&mut self) -> Bytes {
        let mut out = Vec::new();
        if let Some(mask) = &mut self.mask {
            mask.flush(&mut out);
        }
        Bytes::from(out)
    }

    /// When to flush, if anything is held back.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.mask.as_ref().and_then(StreamMask::deadline)
    }

    /// Says once that the stream was found to be no text.
    pub(super) fn found_binary(&mut self) -> bool {
        let found = !self.told && self.mask.as_ref().is_some_and(StreamMask::is_binary);
        self.told |= found;
        found
    }
}

/// Waits until then; for ever without a time. Cancel safe.
pub(super) async fn due(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &[u8] = b"4111111111111111";

    fn screen<'w>(columns: &'w AtomicU32, echo: &'w Echo) -> Shown<'w> {
        Shown::new(&Shape::Screen, columns, echo, false)
    }

    /// What is shown of these pieces before anybody's patience ends.
    fn shown(screen: &mut Shown<'_>, pieces: impl IntoIterator<Item = &'static [u8]>) -> String {
        let shown: Vec<u8> =
            pieces.into_iter().flat_map(|piece| screen.push(Bytes::from_static(piece))).collect();
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_key_is_shown_at_once_and_what_nobody_typed_is_not() {
        let (columns, echo) = (AtomicU32::new(80), Echo::default());
        let mut screen = screen(&columns, &echo);
        assert_eq!(shown(&mut screen, [&b"$ "[..]]), "$ ");
        assert_eq!(shown(&mut screen, [&b"x"[..]]), "", "as without the echo");
        assert!(screen.deadline().is_some());
        assert_eq!(&screen.flush()[..], b"x");
        for key in [b"c", b"a", b"t"] {
            echo.typed(key);
            assert_eq!(screen.push(Bytes::from_static(key)), &key[..]);
            assert!(screen.deadline().is_none());
        }
    }

    #[test]
    fn a_value_byte_by_byte_is_masked_whatever_was_typed() {
        let address: &[u8] = b"bob@example.org";
        for (value, stars) in [(CARD, "************1111\r\n"), (address, "***************\r\n")] {
            for typed in [&b""[..], b"x", b"ls -l", b"\r"] {
                let (columns, echo) = (AtomicU32::new(80), Echo::default());
                let mut screen = screen(&columns, &echo);
                echo.typed(typed);
                let pieces = value.chunks(1).chain([&b"\r\n"[..]]);
                assert_eq!(shown(&mut screen, pieces), stars, "{typed:?}");
            }
        }
    }

    #[test]
    fn keys_that_agree_with_a_value_on_its_way_do_not_open_it() {
        let (columns, echo) = (AtomicU32::new(80), Echo::default());
        let mut screen = screen(&columns, &echo);
        let (first, rest) = CARD.split_at(6);
        assert_eq!(shown(&mut screen, [first]), "");
        echo.typed(b"1");
        assert_eq!(shown(&mut screen, rest.chunks(1).chain([&b"\r\n"[..]])), "************1111\r\n");
        // somebody who has typed the beginning of a value that then comes in pieces sees that he has, and no more
        echo.typed(b"41");
        assert_eq!(shown(&mut screen, CARD.chunks(1).chain([&b"\r\n"[..]])), "41**********1111\r\n");
        // the whole of a guess is no part of the piece that it is in
        echo.typed(b"411111");
        assert_eq!(shown(&mut screen, [CARD, b"\r\n"]), "************1111\r\n");
    }

    #[test]
    fn a_value_that_is_pasted_is_masked_in_its_echo() {
        let (columns, echo) = (AtomicU32::new(80), Echo::default());
        let mut screen = screen(&columns, &echo);
        echo.typed(CARD);
        assert_eq!(shown(&mut screen, CARD.chunks(4).chain([&b"\r\n"[..]])), "************1111\r\n");
        // typed key by key it is known only when it is complete: what comes behind it is starred
        let mut typed = String::new();
        for key in b"bob@example.org".chunks(1) {
            echo.typed(key);
            typed += &shown(&mut screen, [key]);
        }
        assert!(typed.starts_with("bob@") && typed.ends_with('*'), "{typed}");
    }
}
