//! How many rows a DELETE or UPDATE would touch: the question that tells it.
//!
//! Enters: the text of a statement. Leaves: a SELECT over the same tables and the same condition, made of the same
//! pieces of text. Must hold: the question is one SELECT that parses, and where the statement can't be put into one,
//! there is none. (The grammar's own deparser ends the process where a tree has a value that it does not know: no road
//! for what comes from the network.)

use pg_query::protobuf::{RangeVar, ScanResult, Token};
use pg_query::{NodeEnum, ParserOptions};

use super::path::quote_identifier;

/// The question for a text with one plain DELETE or UPDATE that the grammar has taken. `None` for every other text: with
/// a WITH clause, at a cursor's row. Parameters keep their numbers; some may be of no use to the question.
pub fn count_of(text: &str) -> Option<String> {
    let (target, joins) = plain(text)?;
    let clauses = Clauses::read(text, &pg_query::scan(text).ok()?)?;
    let counted = if joins {
        // a row that a join finds several times is touched once
        let known_as =
            quote_identifier(target.alias.as_ref().map_or(&target.relname, |alias| &alias.aliasname));
        format!("DISTINCT ROW({known_as}.tableoid, {known_as}.ctid)")
    } else {
        "*".to_owned()
    };
    let mut question = format!("SELECT pg_catalog.count({counted}) FROM {}", clauses.target);
    if let Some(others) = clauses.others {
        question.push_str(", ");
        question.push_str(others);
    }
    if let Some(condition) = clauses.condition {
        // a comment at its end must not swallow what follows: nothing does
        question.push_str(" WHERE ");
        question.push_str(condition);
    }
    is_select(&question).then_some(question)
}

/// The table, and whether others are joined, of one statement without a WITH clause.
fn plain(text: &str) -> Option<(RangeVar, bool)> {
    let parsed = pg_query::parse(text, ParserOptions::default()).ok()?.protobuf;
    let [statement] = parsed.stmts.as_slice() else { return None };
    match statement.stmt.as_ref()?.node.as_ref()? {
        NodeEnum::DeleteStmt(s) if s.with_clause.is_none() => {
            Some((s.relation.clone()?, !s.using_clause.is_empty()))
        }
        NodeEnum::UpdateStmt(s) if s.with_clause.is_none() => {
            Some((s.relation.clone()?, !s.from_clause.is_empty()))
        }
        _ => None,
    }
}

fn is_select(question: &str) -> bool {
    let parsed = pg_query::parse(question, ParserOptions::default()).map(|parsed| parsed.protobuf.stmts);
    let Ok([statement]) = parsed.as_deref() else { return false };
    matches!(statement.stmt.as_ref().and_then(|s| s.node.as_ref()), Some(NodeEnum::SelectStmt(_)))
}

/// The pieces of the text.
struct Clauses<'a> {
    target: &'a str,
    others: Option<&'a str>,
    condition: Option<&'a str>,
}

/// The words that begin a clause, outside of parentheses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Delete,
    Update,
    From,
    Using,
    Set,
    Where,
    End,
}

impl<'a> Clauses<'a> {
    fn read(text: &'a str, scanned: &ScanResult) -> Option<Self> {
        let words = words(text, scanned)?;
        let mut pieces = words.windows(2).filter_map(|pair| match pair {
            [(word, _, from), (_, to, _)] => Some((*word, text.get(*from..*to)?.trim())),
            _ => None,
        });
        let mut clauses = Clauses { target: "", others: None, condition: None };
        let first = pieces.next()?;
        for (word, piece) in pieces {
            match (first.0, word) {
                (Word::Delete, Word::From) => clauses.target = piece,
                (Word::Delete, Word::Using) | (Word::Update, Word::From) => clauses.others = Some(piece),
                (Word::Update, Word::Set) => clauses.target = first.1,
                (_, Word::Where) => clauses.condition = Some(piece),
                _ => return None,
            }
        }
        (!clauses.target.is_empty()).then_some(clauses)
    }
}

/// Each word with where it begins and ends. `None`: the text has something that only its session has.
fn words(text: &str, scanned: &ScanResult) -> Option<Vec<(Word, usize, usize)>> {
    let mut words = Vec::new();
    let (mut depth, mut before) = (0_i32, Token::Nul);
    for token in &scanned.tokens {
        let kind = Token::try_from(token.token).ok()?;
        let (from, to) = (usize::try_from(token.start).ok()?, usize::try_from(token.end).ok()?);
        match kind {
            Token::CurrentP => return None,
            Token::SqlComment | Token::CComment => continue,
            Token::Ascii40 | Token::Ascii91 => depth += 1,
            Token::Ascii41 | Token::Ascii93 => depth -= 1,
            _ => {}
        }
        let word = match kind {
            _ if depth != 0 => None,
            Token::DeleteP => Some(Word::Delete),
            Token::Update => Some(Word::Update),
            // `IS DISTINCT FROM` is no clause
            Token::From if before != Token::Distinct => Some(Word::From),
            Token::Using => Some(Word::Using),
            Token::Set => Some(Word::Set),
            Token::Where => Some(Word::Where),
            Token::Returning | Token::Ascii59 => Some(Word::End),
            _ => None,
        };
        before = kind;
        if let Some(word) = word {
            words.push((word, from, to));
            if word == Word::End {
                return Some(words);
            }
        }
    }
    words.push((Word::End, text.len(), text.len()));
    Some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::count_of;

    fn asks(text: &str) -> String {
        count_of(text).unwrap_or_else(|| panic!("no question for {text}"))
    }

    #[test]
    fn the_question_has_the_same_condition() {
        assert_eq!(
            asks("delete from orders where id = 7"),
            "SELECT pg_catalog.count(*) FROM orders WHERE id = 7"
        );
        assert_eq!(asks("DELETE FROM orders;"), "SELECT pg_catalog.count(*) FROM orders");
        assert_eq!(
            asks(
                "update only shop.\"Orders\" o set total = total * 2 where o.id in (select id from late) returning *"
            ),
            "SELECT pg_catalog.count(*) FROM only shop.\"Orders\" o WHERE o.id in (select id from late)"
        );
        assert_eq!(
            asks(
                "/* reason: x */ delete from orders o using customers c where c.id = o.customer and c.name = 'x;y'"
            ),
            "SELECT pg_catalog.count(DISTINCT ROW(\"o\".tableoid, \"o\".ctid)) FROM orders o, customers c WHERE \
             c.id = o.customer and c.name = 'x;y'"
        );
        assert_eq!(
            asks(
                "update a set x = (y is distinct from z), w = v is distinct from u from b where a.id = b.id -- all"
            ),
            "SELECT pg_catalog.count(DISTINCT ROW(\"a\".tableoid, \"a\".ctid)) FROM a, b WHERE a.id = b.id -- all"
        );
        assert_eq!(
            asks("update a set (x, y) = (select 1, 2 from b where true)"),
            "SELECT pg_catalog.count(*) FROM a"
        );
    }

    #[test]
    fn parameters_keep_their_numbers() {
        assert_eq!(
            asks("update a set x = $1 where id = $2"),
            "SELECT pg_catalog.count(*) FROM a WHERE id = $2"
        );
    }

    #[test]
    fn there_is_none_where_it_would_be_another() {
        for text in [
            "select 1",
            "delete from a; delete from b",
            "with x as (delete from a returning *) delete from b using x",
            "delete from a where current of c",
            "insert into a values (1)",
            "explain delete from a",
            "delete from",
            "",
        ] {
            assert_eq!(count_of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_it(text in "(delete |update |from |where |using |set |\\$1|[a-c] |=|'|\"|,|;|--|\\(|\\)|is distinct |returning ){0,30}") {
            if let Some(question) = count_of(&text) {
                prop_assert!(question.starts_with("SELECT pg_catalog.count("));
            }
        }
    }
}
