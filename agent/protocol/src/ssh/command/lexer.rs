//! Words and operators of a command line, as every shell of the family splits them.
//!
//! In: a text. Out: tokens for the grammar, in which each word is a stand-in (`w7`), and the words themselves, read
//! as far as shells agree. It must hold that a text that two shells would split differently is no text of ours: a
//! here-document, `$'…'`, `&>`, `((`, a comment, a backslash before a closing quote.
use std::sync::Arc;

use brush_parser::{SourcePosition, SourceSpan, Token};

use super::word::{self, Scanned};

/// More tokens than this are not looked at.
const MAX_TOKENS: usize = 4096;
/// So many constructs may open another level. The grammar descends by one for each.
const MAX_OPENED: usize = 24;
/// The grammar reads a `case` within a `case` more than once.
const MAX_CASES: usize = 3;

/// What the grammar gives back as words.
const RESERVED: [&str; 16] = [
    "!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then", "until",
    "while",
];

/// Whether it is a word of the grammar itself.
pub(super) fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// A text, split.
#[derive(Debug, Default)]
pub(super) struct Lexed {
    /// For the grammar.
    pub(super) tokens: Vec<Token>,
    words: Vec<Scanned>,
    opened: usize,
    cases: usize,
}

impl Lexed {
    /// What the grammar's word stands for; `None` for one that the lexer did not make.
    pub(super) fn word(&self, text: &str) -> Option<Scanned> {
        let stand_in = text.strip_prefix("a=").unwrap_or(text).strip_prefix('w');
        match stand_in.and_then(|number| number.parse::<usize>().ok()) {
            Some(number) => self.words.get(number).cloned(),
            None if RESERVED.contains(&text) || is_number(text) => Some(Scanned::literal(text)),
            None => None,
        }
    }

    fn push(&mut self, token: fn(String, SourceSpan) -> Token, text: &str, from: usize, to: usize) {
        let place = |index| Arc::new(SourcePosition { index, line: 1, column: index + 1 });
        self.tokens.push(token(text.to_owned(), SourceSpan { start: place(from), end: place(to) }));
    }

    fn reserved(&mut self, text: &str) {
        self.cases += usize::from(text == "case");
        self.opened += usize::from(["(", "{", "case", "do", "for", "if", "until", "while"].contains(&text));
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits `text`.
///
/// # Errors
/// Why it is not understood.
pub(super) fn lex(text: &str) -> Result<Lexed, &'static str> {
    let mut out = Lexed::default();
    let mut at = 0;
    // where the last word ended: what touches it belongs to it
    let mut touching = None;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..).unwrap_or_default();
        if out.tokens.len() > MAX_TOKENS || out.opened > MAX_OPENED || out.cases > MAX_CASES {
            return Err("it is too long, or nested too deep");
        }
        if c == ' ' || c == '\t' {
            at += 1;
        } else if rest.starts_with("\\\n") {
            at += 2;
        } else if c == '#' {
            return Err("a comment: shells differ on where one begins");
        } else if let Some(operator) = operator(rest)? {
            if operator == "(" && touching == Some(at) {
                return Err("a parenthesis that belongs to a word");
            }
            out.reserved(operator);
            out.push(Token::Operator, operator, at, at + operator.len());
            at += operator.len();
        } else {
            let (scanned, length) = word::scan(rest)?;
            let raw = rest.get(..length).unwrap_or_default();
            let before_redirection = rest.get(length..).is_some_and(|next| next.starts_with(['<', '>']));
            if is_number(raw) && before_redirection {
                if raw.len() > 2 {
                    return Err("a redirection of a descriptor that no shell has");
                }
                out.push(Token::Word, raw, at, at + length);
            } else if RESERVED.contains(&raw) {
                out.reserved(raw);
                out.push(Token::Word, raw, at, at + length);
            } else {
                let prefix = if scanned.assignment.is_some() { "a=" } else { "" };
                let stand_in = format!("{prefix}w{}", out.words.len());
                out.words.push(scanned);
                out.push(Token::Word, &stand_in, at, at + length);
            }
            at += length;
            touching = Some(at);
        }
    }
    Ok(out)
}

/// The operator that `rest` begins with.
fn operator(rest: &str) -> Result<Option<&'static str>, &'static str> {
    const DIFFER: [(&str, &str); 9] = [
        ("<<", "a here-document"),
        ("<(", "a process substitution"),
        (">(", "a process substitution"),
        ("&>", "`&>`, which only some shells have"),
        ("|&", "`|&`, which only some shells have"),
        (";&", "`;&`, which only some shells have"),
        (";;&", "`;;&`, which only some shells have"),
        ("((", "arithmetic"),
        (">>|", "`>>|`, which only some shells have"),
    ];
    const KNOWN: [&str; 16] =
        ["&&", "||", ";;", "<&", "<>", ">>", ">&", ">|", "&", "|", ";", "<", ">", "(", ")", "\n"];
    if let Some((_, why)) = DIFFER.iter().find(|(operator, _)| rest.starts_with(operator)) {
        return Err(why);
    }
    let Some(operator) = KNOWN.into_iter().find(|operator| rest.starts_with(operator)) else {
        return Ok(None);
    };
    if operator.starts_with('>') && rest.get(operator.len()..).is_some_and(|next| next.starts_with('!')) {
        return Err("`>!`, which only some shells have");
    }
    Ok(Some(operator))
}
