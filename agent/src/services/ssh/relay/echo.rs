//! The echo of keys: what a person has just typed, and the terminal shows as it came, tells nobody anything.
//!
//! Enters: what the client sends and what the target writes, in the order in which they come. Leaves: whether a piece
//! of output is nothing but the next keys that were typed. Must hold: each key counts once and in its turn, a piece
//! counts whole or not at all, and whatever else comes in either direction ends the matter. So a value of the target's
//! passes for an echo where the person has typed all of the piece before it came, and not by some characters that agree.
//!
//! Keys alone count. What is pasted comes many bytes at a time, and its echo is masked like all output: a value in it
//! that was shown piece by piece could not be taken back.
use parking_lot::Mutex;

/// More bytes in one message are a paste. One key has four at most; on a slow line several come together.
const KEYS: usize = 8;
/// What may wait for its echo.
const WAITING: usize = 32;

/// What was typed and has not been shown yet. Shared by both directions of a channel.
#[derive(Default)]
pub(super) struct Echo {
    waiting: Mutex<Vec<u8>>,
}

impl Echo {
    /// The client has sent this. To be called before the target has it.
    pub(super) fn typed(&self, data: &[u8]) {
        let mut waiting = self.waiting.lock();
        // what a control character shows, and what comes behind it, is the program's own matter
        let keys = data.len() <= KEYS && !data.iter().any(u8::is_ascii_control);
        if keys && waiting.len() + data.len() <= WAITING {
            waiting.extend_from_slice(data);
        } else {
            waiting.clear();
        }
    }

    /// Whether this output is the echo of what was typed, which is then used up.
    pub(super) fn explains(&self, output: &[u8]) -> bool {
        let mut waiting = self.waiting.lock();
        let explained = !output.is_empty() && waiting.starts_with(output);
        if explained {
            waiting.drain(..output.len());
        } else {
            waiting.clear();
        }
        explained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_explained_once_and_in_its_turn() {
        let echo = Echo::default();
        assert!(!echo.explains(b"x"), "nobody has typed");
        echo.typed(b"l");
        echo.typed("sé".as_bytes());
        assert!(echo.explains(b"l") && echo.explains("sé".as_bytes()));
        assert!(!echo.explains(b"l"), "a second time");
        echo.typed(b"abc");
        assert!(!echo.explains(b"b"), "out of turn");
        assert!(!echo.explains(b"a"), "what does not agree ends it");
        echo.typed(b"a");
        assert!(!echo.explains(b""));
    }

    #[test]
    fn a_piece_counts_whole_or_not_at_all() {
        let echo = Echo::default();
        echo.typed(b"4111");
        assert!(!echo.explains(b"4111111111111111\r\n"));
        assert!(!echo.explains(b"4"));
    }

    #[test]
    fn pastes_and_control_characters_have_no_echo() {
        let echo = Echo::default();
        echo.typed(b"4111111111111111");
        assert!(!echo.explains(b"4"), "pasted");
        echo.typed(b"ls");
        echo.typed(b"\r");
        assert!(!echo.explains(b"ls"), "what a line's end brings is the program's");
        (0..=WAITING).for_each(|_| echo.typed(b"x"));
        assert!(!echo.explains(b"x"), "typed without end, and nothing shown");
    }
}
