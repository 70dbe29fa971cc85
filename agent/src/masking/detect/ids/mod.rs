//! The checks of national ids, one function an id. Each takes the letters and digits of a form that already has the
//! right shape; what an id is made of is said by the authority that issues it.

use super::checksum::{month_day, value};

mod elsewhere;
mod europe;

pub(super) use elsewhere::*;
pub(super) use europe::*;

/// The digits as numbers; letters are left out.
struct Digits {
    all: [u8; 20],
    len: usize,
}

impl Digits {
    fn of(text: &[u8]) -> Self {
        let mut digits = Digits { all: [0; 20], len: 0 };
        for byte in text.iter().filter(|b| b.is_ascii_digit()) {
            if let Some(place) = digits.all.get_mut(digits.len) {
                *place = byte - b'0';
                digits.len += 1;
            }
        }
        digits
    }

    fn slice(&self) -> &[u8] {
        self.all.get(..self.len).unwrap_or_default()
    }

    /// The number that the digits from one place to another write.
    fn number(&self, from: usize, to: usize) -> u64 {
        value(self.slice().get(from..to).unwrap_or_default())
    }

    fn at(&self, place: usize) -> u32 {
        self.slice().get(place).copied().map_or(0, u32::from)
    }

    fn last(&self) -> u32 {
        self.slice().last().copied().map_or(0, u32::from)
    }

    /// `… YY MM DD` with the month at this place.
    fn dated(&self, month: usize) -> bool {
        month_day(self.number(month, month + 2), self.number(month + 2, month + 4))
    }

    fn all_equal(&self) -> bool {
        self.slice().windows(2).all(|w| matches!(w, [a, b] if a == b))
    }
}

fn letter(text: &[u8], place: usize) -> u8 {
    text.get(place).copied().unwrap_or(0)
}
