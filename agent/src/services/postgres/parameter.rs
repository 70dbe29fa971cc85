//! Parameters of Bind as people, recordings and approvals have them, and back.
//!
//! Must hold: two different parameters are never shown alike, so that what was approved is what runs: NULL is not the text
//! `NULL`, and bytes are not the text that spells them.

/// A parameter as it goes over the wire; `None` is NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) value: Option<Vec<u8>>,
    pub(super) binary: bool,
}

/// Text as it is, in quotes where it could be taken for something else; binary in PostgreSQL's own notation for bytes.
pub(super) fn shown(binary: bool, value: Option<&[u8]>) -> String {
    let Some(bytes) = value else { return "NULL".to_owned() };
    match std::str::from_utf8(bytes) {
        Ok(text) if !binary => {
            let doubtful = text == "NULL" || text.starts_with("\\x") || text.starts_with('\'');
            if doubtful { format!("'{text}'") } else { text.to_owned() }
        }
        // the target refuses text that is no UTF-8
        _ => format!("\\x{}", hex::encode(bytes)),
    }
}

/// The parameter behind what was shown.
pub(super) fn read(shown: &str) -> Parameter {
    if shown == "NULL" {
        return Parameter { value: None, binary: false };
    }
    if let Some(bytes) = shown.strip_prefix("\\x").and_then(|digits| hex::decode(digits).ok()) {
        return Parameter { value: Some(bytes), binary: true };
    }
    let quoted = shown.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    Parameter { value: Some(quoted.unwrap_or(shown).as_bytes().to_vec()), binary: false }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_be_mistaken_is_quoted() {
        let text = |text: &str| shown(false, Some(text.as_bytes()));
        assert_eq!(text("7"), "7");
        assert_eq!(text("NULL"), "'NULL'");
        assert_eq!(text("\\x41"), "'\\x41'");
        assert_eq!(text("'NULL'"), "''NULL''");
        assert_eq!(shown(false, None), "NULL");
        assert_eq!(shown(true, Some(b"A")), "\\x41");
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_back(text in "('|NULL|\\\\x|[0-9a-f]|\\PC){0,12}", bytes in any::<Vec<u8>>()) {
            let of_text = shown(false, Some(text.as_bytes()));
            prop_assert_eq!(read(&of_text), Parameter { value: Some(text.into_bytes()), binary: false });
            let of_bytes = shown(true, Some(&bytes));
            prop_assert_eq!(read(&of_bytes), Parameter { value: Some(bytes), binary: true });
        }
    }
}
