//! Why somebody runs a statement, said in the statement itself.
//!
//! Enters: the text of a statement. Leaves: what stands behind `reason:` in its first such comment. It is a claim of
//! the person and decides nothing by itself; the server never looks at it.

use pg_query::protobuf::Token;

/// What a comment of this text gives as the reason: `-- reason: OPS-12 …` or `/* reason: OPS-12 … */`, in any case.
/// `None` where no comment does, or the text is none that PostgreSQL's own scanner takes.
pub fn reason(text: &str) -> Option<String> {
    let scanned = pg_query::scan(text).ok()?;
    let comments = scanned.tokens.iter().filter_map(|token| {
        let whole = text.get(usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?)?;
        match Token::try_from(token.token) {
            Ok(Token::SqlComment) => whole.strip_prefix("--"),
            Ok(Token::CComment) => whole.strip_prefix("/*").and_then(|rest| rest.strip_suffix("*/")),
            _ => None,
        }
    });
    comments.filter_map(behind_the_word).next()
}

fn behind_the_word(comment: &str) -> Option<String> {
    const WORD: &str = "reason:";
    let comment = comment.trim();
    let (word, rest) = (comment.get(..WORD.len())?, comment.get(WORD.len()..)?);
    let rest = rest.trim();
    (word.eq_ignore_ascii_case(WORD) && !rest.is_empty()).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::reason;

    #[test]
    fn it_stands_in_a_comment_and_nowhere_else() {
        let found = |text: &str| reason(text);
        assert_eq!(
            found("delete from t -- reason: OPS-12, twice ordered").as_deref(),
            Some("OPS-12, twice ordered")
        );
        assert_eq!(
            found("/* Reason:  OPS-12\n   twice */ delete from t").as_deref(),
            Some("OPS-12\n   twice")
        );
        assert_eq!(found("-- reason:\ndelete from t"), None);
        assert_eq!(found("-- for no reason: none\ndelete from t"), None);
        assert_eq!(found("select '-- reason: in a string', \"/* reason: in a name */\""), None);
        assert_eq!(found("select $$ -- reason: in dollars $$"), None);
        assert_eq!(found("-- x\n-- reason: first\n-- reason: second\nselect 1").as_deref(), Some("first"));
        assert_eq!(found("select 'unclosed -- reason: x"), None);
    }

    proptest! {
        #[test]
        fn no_text_upsets_it(text in "(?s).{0,200}", other in "[-/*reason: '\"$é\n]{0,60}") {
            let _ = reason(&text);
            let _ = reason(&other);
        }
    }
}
