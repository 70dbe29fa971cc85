//! PL/pgSQL: from the body of a function to the steps that it may take.
//!
//! Enters: the text behind AS. Leaves: its variables and every piece of SQL in it, each with what becomes of its value.
//! Which branch is taken when is not kept: whoever judges the steps has to take each for possible, in any order. Must
//! hold: every token of the body belongs to a step or to a word of the language that does nothing by itself; what fits
//! nowhere is an error, and so is whatever makes its SQL while it runs (EXECUTE).
//!
//! Read by PostgreSQL's own scanner, and cut where its PL/pgSQL compiler cuts: at a word outside of brackets. (libpg_query
//! has that compiler, too. It puts a pipe in the place of the process's standard error while it works, and with several
//! threads at once that does not go well.)

use pg_query::protobuf::Token;

/// The longest body that is read, in bytes.
const MAX_BODY: usize = 100_000;

/// One thing that a body may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A statement; its rows go into these variables.
    Sql { text: String, into: Vec<String> },
    /// `target := value`.
    Let { target: String, value: String },
    /// The value of an expression decides what happens.
    Decide(String),
    /// The value of an expression is told to the client (RAISE).
    Tell(String),
    /// The value of an expression, or the rows of a query, are the result.
    Return(String),
    /// RETURN QUERY.
    ReturnQuery(String),
    /// What a cursor or another variable holds goes into these.
    Fetch { from: String, into: Vec<String> },
    /// What an error said goes into this variable.
    Caught(String),
    /// A variable has this type.
    Typed(String),
}

/// What a body was read as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) variables: Vec<String>,
    pub(super) steps: Vec<Step>,
}

/// Reads the text behind AS.
///
/// # Errors
/// What in it can't be judged, in words.
pub(super) fn read(text: &str) -> Result<Body, String> {
    if text.len() > MAX_BODY {
        return Err("its body is too long".to_owned());
    }
    let scanned = pg_query::scan(text).map_err(|_| "its body does not scan".to_owned())?;
    let mut tokens = Vec::with_capacity(scanned.tokens.len());
    for token in &scanned.tokens {
        let kind = Token::try_from(token.token).unwrap_or(Token::Nul);
        if matches!(kind, Token::SqlComment | Token::CComment) {
            continue;
        }
        let start = usize::try_from(token.start).unwrap_or(usize::MAX);
        let end = usize::try_from(token.end).unwrap_or(usize::MAX);
        let Some(raw) = text.get(start..end) else { return Err("its body does not scan".to_owned()) };
        tokens.push(Piece::new(start, end, raw, kind));
    }
    let mut reader = Reader { text, tokens, at: 0, open: Vec::new(), out: Body::default(), ended: false };
    while reader.statement()? {}
    Ok(reader.out)
}

/// A token.
struct Piece {
    start: usize,
    end: usize,
    /// An unquoted word in lower case, or the sign itself; empty for strings and quoted names.
    word: String,
    /// The name, where it may be one.
    name: Option<String>,
    string: bool,
}

impl Piece {
    fn new(start: usize, end: usize, raw: &str, kind: Token) -> Piece {
        let first = raw.bytes().next().unwrap_or(b' ');
        let wordy = first.is_ascii_alphabetic() || first == b'_' || !first.is_ascii();
        let quoted = first == b'"';
        let string = matches!(kind, Token::Sconst | Token::Usconst | Token::Bconst | Token::Xconst);
        let name = match (quoted, wordy && !string) {
            (true, _) => raw.get(1..raw.len().saturating_sub(1)).map(|inner| inner.replace("\"\"", "\"")),
            // as the server folds: ASCII alone
            (false, true) => Some(raw.to_ascii_lowercase()),
            (false, false) => None,
        };
        let word = if quoted || string { String::new() } else { raw.to_ascii_lowercase() };
        Piece { start, end, word, name: name.map(super::path::truncate_identifier), string }
    }
}

/// What is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Block,
    Handlers,
    If,
    Case,
    Loop,
}

/// Words that are never a variable's name.
const RESERVED: [&str; 24] = [
    "all", "begin", "by", "case", "declare", "else", "end", "execute", "for", "foreach", "from", "if", "in",
    "into", "loop", "not", "null", "or", "strict", "then", "to", "using", "when", "while",
];

struct Reader<'t> {
    text: &'t str,
    tokens: Vec<Piece>,
    at: usize,
    open: Vec<Open>,
    out: Body,
    /// The outermost block is over.
    ended: bool,
}

impl Reader<'_> {
    fn word_at(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |t| t.word.as_str())
    }

    fn word(&self) -> &str {
        self.word_at(self.at)
    }

    fn is(&self, word: &str) -> bool {
        self.word() == word
    }

    /// Takes the word if it is next.
    fn take(&mut self, word: &str) -> bool {
        let found = self.is(word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.take(word) { Ok(()) } else { Err(format!("its body has no {word} where one belongs")) }
    }

    fn name(&mut self) -> Result<String, String> {
        let name = self.tokens.get(self.at).and_then(|t| t.name.clone());
        self.at += 1;
        name.ok_or_else(|| "its body has no name where one belongs".to_owned())
    }

    fn slice(&self, from: usize, to: usize) -> Result<String, String> {
        let range = self.tokens.get(from).zip(self.tokens.get(to.wrapping_sub(1)));
        match range {
            Some((first, last)) if from < to => {
                Ok(self.text.get(first.start..last.end).unwrap_or("").to_owned())
            }
            _ => Err("its body has nothing where an expression belongs".to_owned()),
        }
    }

    /// Where the first of these words stands outside of brackets, from here on.
    fn find(&self, words: &[&str]) -> Result<usize, String> {
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate().skip(self.at) {
            match token.word.as_str() {
                word if depth == 0 && words.contains(&word) => return Ok(at),
                ";" if depth == 0 => return Err("a statement ends too early".to_owned()),
                "(" | "[" => depth += 1,
                ")" | "]" => {
                    depth = depth.checked_sub(1).ok_or_else(|| "brackets do not match".to_owned())?;
                }
                _ => {}
            }
        }
        Err("its body ends in the middle of a statement".to_owned())
    }

    /// The text up to one of these words, which is next then.
    fn until(&mut self, words: &[&str]) -> Result<String, String> {
        let end = self.find(words)?;
        let text = self.slice(self.at, end)?;
        self.at = end;
        Ok(text)
    }

    /// The text up to this word, which is taken.
    fn past(&mut self, word: &str) -> Result<String, String> {
        let text = self.until(&[word])?;
        self.at += 1;
        Ok(text)
    }

    fn decide(&mut self, word: &str) -> Result<(), String> {
        let text = self.past(word)?;
        self.out.steps.push(Step::Decide(text));
        Ok(())
    }

    /// One statement, or the beginning or end of one that holds others. `false`: that was all.
    fn statement(&mut self) -> Result<bool, String> {
        if self.at >= self.tokens.len() {
            return if self.ended { Ok(false) } else { Err("its body ends in the middle".to_owned()) };
        }
        if self.ended {
            return if self.take(";") { Ok(true) } else { Err("something follows its body".to_owned()) };
        }
        let first = self.word().to_owned();
        let named = self.tokens.get(self.at).is_some_and(|t| t.name.is_some());
        let inside = !self.open.is_empty();
        if inside
            && named
            && !RESERVED.contains(&first.as_str())
            && matches!(self.word_at(self.at + 1), ":=" | "=" | "[" | ".")
        {
            return self.assignment().map(|()| true);
        }
        match (first.as_str(), inside) {
            ("<<", _) => {
                self.at += 1;
                self.name()?;
                self.expect(">>")?;
            }
            ("declare", _) => self.declarations()?,
            ("begin", _) => {
                self.at += 1;
                self.open.push(Open::Block);
            }
            (_, false) => return Err("its body does not begin with a block".to_owned()),
            _ => return self.inner(&first).map(|()| true),
        }
        Ok(true)
    }

    fn inner(&mut self, first: &str) -> Result<(), String> {
        self.at += 1;
        match (first, self.open.last().copied()) {
            ("exception", Some(Open::Block)) => {
                self.open.pop();
                self.open.push(Open::Handlers);
                Ok(())
            }
            // names of conditions
            ("when", Some(Open::Handlers)) => {
                while !self.take("then") {
                    let token = self.tokens.get(self.at).ok_or("its body ends in a WHEN")?;
                    if token.name.is_none() && !token.string {
                        return Err("a WHEN of an exception".to_owned());
                    }
                    self.at += 1;
                }
                Ok(())
            }
            ("when", Some(Open::Case)) => self.decide("then"),
            ("if", _) => {
                self.open.push(Open::If);
                self.decide("then")
            }
            ("elsif" | "elseif", Some(Open::If)) => self.decide("then"),
            ("else", Some(Open::If | Open::Case)) => Ok(()),
            ("case", _) => {
                self.open.push(Open::Case);
                if !self.is("when") {
                    let text = self.until(&["when"])?;
                    self.out.steps.push(Step::Decide(text));
                }
                Ok(())
            }
            ("loop", _) => {
                self.open.push(Open::Loop);
                Ok(())
            }
            ("while", _) => {
                self.open.push(Open::Loop);
                self.decide("loop")
            }
            ("for", _) => self.for_loop(),
            ("foreach", _) => self.foreach(),
            ("end", Some(_)) => self.end(),
            _ => self.simple(first),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some(Open::If) => self.expect("if")?,
            Some(Open::Case) => self.expect("case")?,
            Some(Open::Loop) => self.expect("loop")?,
            _ => {}
        }
        if self.tokens.get(self.at).is_some_and(|t| t.name.is_some()) {
            self.at += 1;
        }
        self.ended = self.open.is_empty();
        if self.ended && self.at >= self.tokens.len() { Ok(()) } else { self.expect(";") }
    }

    /// Statements that hold no others; `first` is taken already.
    fn simple(&mut self, first: &str) -> Result<(), String> {
        match first {
            "null" => self.expect(";"),
            "exit" | "continue" => {
                if !self.is("when") && !self.is(";") {
                    self.name()?;
                }
                if self.take("when") { self.decide(";") } else { self.expect(";") }
            }
            "return" => self.result(),
            "raise" => self.raise(),
            "assert" => {
                let condition = self.until(&[",", ";"])?;
                self.out.steps.push(Step::Decide(condition));
                if self.take(",") {
                    let message = self.until(&[";"])?;
                    self.out.steps.push(Step::Tell(message));
                }
                self.expect(";")
            }
            "perform" => {
                let text = format!("SELECT {}", self.past(";")?);
                self.out.steps.push(Step::Sql { text, into: Vec::new() });
                Ok(())
            }
            "call" => {
                // its INOUT arguments may be any of the variables
                let text = format!("CALL {}", self.past(";")?);
                self.out.steps.push(Step::Sql { text, into: self.out.variables.clone() });
                Ok(())
            }
            "get" => self.diagnostics(),
            "open" => self.open_cursor(),
            "fetch" | "move" => self.fetch(),
            "close" => {
                self.name()?;
                self.expect(";")
            }
            "execute" => Err("it runs SQL that it makes while it runs (EXECUTE)".to_owned()),
            "commit" | "rollback" => Err("it ends transactions".to_owned()),
            _ => {
                self.at -= 1;
                self.sql()
            }
        }
    }

    fn assignment(&mut self) -> Result<(), String> {
        let target = self.until(&[":=", "="])?;
        self.at += 1;
        let value = self.past(";")?;
        self.out.steps.push(Step::Let { target, value });
        Ok(())
    }

    fn result(&mut self) -> Result<(), String> {
        let rows = self.is("query") && !self.ends_or_operates(self.at + 1);
        if rows {
            self.at += 1;
            if self.is("execute") {
                return Err("it runs SQL that it makes while it runs (EXECUTE)".to_owned());
            }
            let text = self.past(";")?;
            self.out.steps.push(Step::ReturnQuery(text));
            return Ok(());
        }
        if self.is("next") && !matches!(self.word_at(self.at + 1), "." | "[" | "+" | "-") {
            self.at += 1;
        }
        if self.take(";") {
            return Ok(());
        }
        let text = self.past(";")?;
        self.out.steps.push(Step::Return(text));
        Ok(())
    }

    /// Whether the word before is a variable and no keyword: `RETURN query;`
    fn ends_or_operates(&self, at: usize) -> bool {
        matches!(self.word_at(at), ";" | "." | "[" | "||" | "+" | "-" | "::")
    }

    fn raise(&mut self) -> Result<(), String> {
        if matches!(self.word(), "debug" | "log" | "info" | "notice" | "warning" | "exception") {
            self.at += 1;
        }
        if self.tokens.get(self.at).is_some_and(|t| t.string) || self.take("sqlstate") {
            self.at += 1;
        } else if !self.is("using") && !self.is(";") {
            self.name()?;
        }
        loop {
            if self.take(";") {
                return Ok(());
            }
            if self.take("using") || self.using_goes_on() {
                self.name()?;
                if !self.take("=") {
                    self.expect(":=")?;
                }
            } else {
                self.expect(",")?;
            }
            let text = self.until(&[",", "using", ";"])?;
            self.out.steps.push(Step::Tell(text));
        }
    }

    /// `, option = …` of RAISE USING.
    fn using_goes_on(&mut self) -> bool {
        const OPTIONS: [&str; 9] =
            ["message", "detail", "hint", "errcode", "column", "constraint", "datatype", "table", "schema"];
        let found = self.is(",")
            && OPTIONS.contains(&self.word_at(self.at + 1))
            && matches!(self.word_at(self.at + 2), "=" | ":=");
        self.at += usize::from(found);
        found
    }

    fn diagnostics(&mut self) -> Result<(), String> {
        let stacked = self.take("stacked");
        if !stacked {
            self.take("current");
        }
        self.expect("diagnostics")?;
        loop {
            let target = self.until(&["=", ":="])?;
            self.at += 1;
            self.name()?;
            if stacked {
                self.out.steps.push(Step::Caught(target));
            }
            if self.take(";") {
                return Ok(());
            }
            self.expect(",")?;
        }
    }

    fn open_cursor(&mut self) -> Result<(), String> {
        let cursor = self.name()?;
        if self.is("(") {
            let value = self.past(";")?;
            self.out.steps.push(Step::Let { target: cursor, value });
            return Ok(());
        }
        self.take("no");
        self.take("scroll");
        if self.take("for") {
            if self.is("execute") {
                return Err("it runs SQL that it makes while it runs (EXECUTE)".to_owned());
            }
            let text = self.until(&[";"])?;
            self.out.steps.push(Step::Sql { text, into: vec![cursor] });
        }
        self.expect(";")
    }

    fn fetch(&mut self) -> Result<(), String> {
        let end = self.find(&["into", ";"])?;
        let from = self.tokens.get(end.wrapping_sub(1)).and_then(|t| t.name.clone());
        let from = from.ok_or_else(|| "a FETCH without a cursor".to_owned())?;
        if (self.at..end).any(|at| matches!(self.word_at(at), "(" | "[")) {
            return Err("a FETCH of a computed number of rows".to_owned());
        }
        self.at = end;
        let into = if self.take("into") { self.targets()? } else { Vec::new() };
        self.out.steps.push(Step::Fetch { from, into });
        self.expect(";")
    }

    /// `a, b.c, …`: the variables, without fields.
    fn targets(&mut self) -> Result<Vec<String>, String> {
        let mut targets = Vec::new();
        loop {
            targets.push(self.name()?);
            while self.take(".") {
                // a block's label or a record before a field: both hold it
                targets.push(self.name()?);
            }
            if self.is("[") {
                return Err("an INTO of an element".to_owned());
            }
            if !self.take(",") {
                return Ok(targets);
            }
        }
    }

    fn for_loop(&mut self) -> Result<(), String> {
        self.open.push(Open::Loop);
        let targets = self.targets()?;
        self.expect("in")?;
        self.out.variables.extend(targets.iter().cloned());
        self.take("reverse");
        if self.is("execute") {
            return Err("it runs SQL that it makes while it runs (EXECUTE)".to_owned());
        }
        let end = self.find(&["loop", ".."])?;
        if self.word_at(end) == ".." {
            let lower = self.past("..")?;
            let upper = self.until(&["by", "loop"])?;
            let mut bounds = vec![lower, upper];
            if self.take("by") {
                bounds.push(self.until(&["loop"])?);
            }
            for bound in bounds {
                self.out.steps.push(Step::Decide(bound.clone()));
                for target in &targets {
                    self.out.steps.push(Step::Let { target: target.clone(), value: bound.clone() });
                }
            }
            return self.expect("loop");
        }
        let known = self.tokens.get(self.at).and_then(|t| t.name.clone());
        let cursor =
            known.filter(|name| self.out.variables.contains(name) && !RESERVED.contains(&name.as_str()));
        match cursor {
            Some(from) if self.at + 1 == end || self.word_at(self.at + 1) == "(" => {
                self.at += 1;
                if self.at < end {
                    let value = self.until(&["loop"])?;
                    self.out.steps.push(Step::Let { target: from.clone(), value });
                }
                self.out.steps.push(Step::Fetch { from, into: targets });
            }
            _ => {
                let text = self.until(&["loop"])?;
                self.out.steps.push(Step::Sql { text, into: targets });
            }
        }
        self.expect("loop")
    }

    fn foreach(&mut self) -> Result<(), String> {
        self.open.push(Open::Loop);
        let targets = self.targets()?;
        if self.take("slice") {
            self.at += 1;
        }
        self.expect("in")?;
        self.expect("array")?;
        let value = self.past("loop")?;
        for target in targets {
            self.out.steps.push(Step::Let { target, value: value.clone() });
        }
        Ok(())
    }

    fn declarations(&mut self) -> Result<(), String> {
        self.at += 1;
        while !self.is("begin") {
            if self.take("declare") {
                continue;
            }
            if self.take("<<") {
                self.name()?;
                self.expect(">>")?;
                continue;
            }
            self.declaration()?;
        }
        Ok(())
    }

    fn declaration(&mut self) -> Result<(), String> {
        let name = self.name()?;
        self.out.variables.push(name.clone());
        let after = (self.word().to_owned(), self.word_at(self.at + 1).to_owned());
        if after.0 == "alias" && after.1 == "for" {
            self.at += 2;
            let value = self.past(";")?;
            self.out.steps.push(Step::Let { target: name, value });
            return Ok(());
        }
        if after.0 == "cursor"
            || matches!((after.0.as_str(), after.1.as_str()), ("scroll", "cursor") | ("no", "scroll"))
        {
            return self.cursor(name);
        }
        self.take("constant");
        let end = self.find(&[":=", "=", "default", "not", "collate", ";"])?;
        let kind = self.slice(self.at, end)?;
        self.out.steps.push(Step::Typed(kind));
        self.at = self.find(&[":=", "=", "default", ";"])?;
        if !self.is(";") {
            self.at += 1;
            let value = self.until(&[";"])?;
            self.out.steps.push(Step::Let { target: name, value });
        }
        self.expect(";")
    }

    /// `name CURSOR (a type, …) FOR query;`
    fn cursor(&mut self, name: String) -> Result<(), String> {
        self.take("no");
        self.take("scroll");
        self.expect("cursor")?;
        if self.take("(") {
            loop {
                let argument = self.name()?;
                // what is handed over when it is opened is kept under the cursor's own name
                self.out.steps.push(Step::Fetch { from: name.clone(), into: vec![argument.clone()] });
                self.out.variables.push(argument);
                let mut depth = 0_usize;
                loop {
                    match (self.word(), depth) {
                        ("", _) if self.at >= self.tokens.len() => {
                            return Err("a cursor's arguments".to_owned());
                        }
                        ("," | ")", 0) => break,
                        ("(", _) => depth += 1,
                        (")", _) => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                }
                if !self.take(",") {
                    break;
                }
            }
            self.expect(")")?;
        }
        if !self.take("for") {
            self.expect("is")?;
        }
        let text = self.past(";")?;
        self.out.steps.push(Step::Sql { text, into: vec![name] });
        Ok(())
    }

    /// A statement of SQL, its INTO taken out.
    fn sql(&mut self) -> Result<(), String> {
        let (mut text, mut into) = (String::new(), Vec::new());
        let (mut from, mut depth, mut found) = (self.at, 0_usize, false);
        loop {
            let Some(token) = self.tokens.get(self.at) else {
                return Err("its body ends in the middle of a statement".to_owned());
            };
            match token.word.as_str() {
                ";" if depth == 0 => break,
                "(" => depth += 1,
                ")" => depth = depth.checked_sub(1).ok_or_else(|| "brackets do not match".to_owned())?,
                "into" if !matches!(self.word_at(self.at.wrapping_sub(1)), "insert" | "merge") => {
                    if found {
                        return Err("a second INTO".to_owned());
                    }
                    found = true;
                    text.push_str(&self.slice(from, self.at)?);
                    text.push(' ');
                    self.at += 1;
                    self.take("strict");
                    into = self.targets()?;
                    from = self.at;
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
        if from < self.at {
            text.push_str(&self.slice(from, self.at)?);
        }
        self.at += 1;
        self.out.steps.push(Step::Sql { text, into });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
