//! One word of a command line: what it is literally, or why that can't be said.

/// `$(…)` within `"…"` within `$(…)`: so deep is looked.
const MAX_NESTING: usize = 8;

/// A word as it reaches a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// This text, in every shell.
    Literal(String),
    /// A pattern that the shell replaces by the names that match, or by more words.
    Pattern(String),
    /// Something that is known when it runs.
    Computed(&'static str),
}

impl Word {
    /// The text, where it is known.
    pub(super) fn literal(&self) -> Option<&str> {
        match self {
            Word::Literal(text) => Some(text),
            _ => None,
        }
    }

    /// Why it is not known.
    pub(super) fn why(&self) -> Option<&'static str> {
        match self {
            Word::Literal(_) => None,
            Word::Pattern(_) => Some("a pattern, which becomes whatever matches it"),
            Word::Computed(why) => Some(why),
        }
    }
}

/// A word, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// As it reaches a program.
    pub(super) word: Word,
    /// `NAME=`, where it begins so, with nothing quoted.
    pub(super) assignment: Option<String>,
    /// The texts of its command substitutions.
    pub(super) commands: Vec<String>,
}

impl Scanned {
    /// A word that stands for itself.
    pub(super) fn literal(text: &str) -> Self {
        Scanned { word: Word::Literal(text.to_owned()), assignment: None, commands: Vec::new() }
    }
}

/// Reads the word at the beginning of `text`, and its length.
///
/// # Errors
/// Why shells would not agree on it.
pub(super) fn scan(text: &str) -> Result<(Scanned, usize), &'static str> {
    let mut reader = Reader { text, ..Reader::default() };
    while let Some(c) = reader.peek() {
        match c {
            ' ' | '\t' | '\n' | '&' | '|' | ';' | '<' | '>' | '(' | ')' => break,
            _ => reader.unquoted(c)?,
        }
    }
    let length = reader.at;
    Ok((reader.finish(), length))
}

/// What has been read of a word.
#[derive(Default)]
struct Reader<'a> {
    text: &'a str,
    at: usize,
    literal: String,
    quoted: bool,
    pattern: bool,
    computed: Option<&'static str>,
    assignment: Option<String>,
    commands: Vec<String>,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn finish(self) -> Scanned {
        let bare = self.text.get(..self.at).unwrap_or_default();
        // alone they are a test's or a group's own
        let pattern = self.pattern && !["[", "]", "{", "}"].contains(&bare);
        let word = match self.computed {
            Some(why) => Word::Computed(why),
            None if pattern => Word::Pattern(self.literal),
            None => Word::Literal(self.literal),
        };
        Scanned { word, assignment: self.assignment, commands: self.commands }
    }

    fn unquoted(&mut self, c: char) -> Result<(), &'static str> {
        let first = self.at == 0;
        self.next();
        match c {
            '\\' => {
                self.quoted = true;
                match self.next() {
                    None => return Err("a backslash at its end"),
                    Some(c) if c.is_alphanumeric() || c.is_control() => {
                        return Err("a backslash before a letter, which shells read differently");
                    }
                    Some(c) => self.literal.push(c),
                }
            }
            '\'' => {
                let inner = quoted(self.rest())?.to_owned();
                self.quoted = true;
                self.at += inner.len() + 1;
                self.literal.push_str(&inner);
            }
            '"' => self.double()?,
            '$' => self.dollar()?,
            '`' => self.backquoted()?,
            // find's and xargs' own: no shell makes anything of it
            '{' if self.rest().starts_with('}') => {
                self.next();
                self.literal.push_str("{}");
            }
            '*' | '?' | '[' | ']' | '{' | '}' => {
                self.pattern = true;
                self.literal.push(c);
            }
            '~' if first => {
                self.literal.push(c);
                if !self.rest().is_empty()
                    && !self.rest().starts_with(['/', ' ', '\t', '\n', ';', '&', '|', ')'])
                {
                    self.computed = Some("somebody's own directory");
                }
            }
            '=' if first => {
                self.literal.push(c);
                if self.rest().starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '/') {
                    self.computed = Some("a program's path, in some shells");
                }
            }
            '=' => self.equals(),
            c if c.is_control() => return Err("a control character"),
            c => self.literal.push(c),
        }
        Ok(())
    }

    /// The first `=`: what stands before it may be a variable's name.
    fn equals(&mut self) {
        if self.assignment.is_none() && !self.quoted && !self.pattern && self.computed.is_none() {
            let name = self.literal.strip_suffix('+').unwrap_or(&self.literal);
            if is_name(name) {
                self.assignment = Some(name.to_owned());
            }
        }
        self.literal.push('=');
    }

    /// Behind `"`, up to the one that closes it.
    fn double(&mut self) -> Result<(), &'static str> {
        self.quoted = true;
        loop {
            match self.next() {
                None => return Err("a quote that is not closed"),
                Some('"') => return Ok(()),
                Some('\\') => match self.next() {
                    None => return Err("a quote that is not closed"),
                    Some('\n') => {}
                    Some(c @ ('$' | '`' | '"' | '\\')) => self.literal.push(c),
                    Some(c) => {
                        self.literal.push('\\');
                        self.literal.push(c);
                    }
                },
                Some('$') => self.dollar()?,
                Some('`') => self.backquoted()?,
                Some(c) => self.literal.push(c),
            }
        }
    }

    /// Behind `$`.
    fn dollar(&mut self) -> Result<(), &'static str> {
        match self.peek() {
            Some('\'' | '"') => return Err("`$'…'` or `$\"…\"`, which only some shells have"),
            Some('[') => return Err("`$[`, which only some shells have"),
            Some('(') if self.rest().starts_with("((") => {
                let end = self.rest().find("))").ok_or("arithmetic that is not closed")?;
                let inner = self.rest().get(2..end).unwrap_or_default();
                // a name there is a variable, whose value may be a command
                if !inner.chars().all(|c| c.is_ascii_digit() || " +-*/%".contains(c)) {
                    return Err("arithmetic on variables");
                }
                self.at += end + 2;
                self.computed = Some("a number that is worked out");
            }
            Some('(') => {
                let rest = self.rest().get(1..).unwrap_or_default();
                let length = substitution(rest, 0)?;
                self.commands.push(rest.get(..length).unwrap_or_default().to_owned());
                self.at += length + 2;
                self.computed = Some("the output of a command");
            }
            Some('{') => {
                let end = self.rest().find('}').ok_or("a variable that is not closed")?;
                if !is_parameter(self.rest().get(1..end).unwrap_or_default()) {
                    return Err("a variable with a form that is not known here");
                }
                self.at += end + 1;
                self.computed = Some("the value of a variable");
            }
            Some(c) if c.is_ascii_alphanumeric() || c == '_' => {
                let digit = c.is_ascii_digit();
                let name = self.rest().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').count();
                self.at += if digit { 1 } else { name };
                self.computed = Some("the value of a variable");
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                self.next();
                self.computed = Some("the value of a variable");
            }
            _ => self.literal.push('$'),
        }
        Ok(())
    }

    /// Behind a backquote, up to the one that closes it.
    fn backquoted(&mut self) -> Result<(), &'static str> {
        let end = self.rest().find('`').ok_or("a backquote that is not closed")?;
        let inner = self.rest().get(..end).unwrap_or_default().to_owned();
        if inner.contains('\\') {
            return Err("a backslash within backquotes");
        }
        self.at += end + 1;
        self.commands.push(inner);
        self.computed = Some("the output of a command");
        Ok(())
    }
}

/// A variable's name.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What may stand between `${` and `}`: a name, alone or with a plain word for when it is not set, or a plain pattern
/// to cut off. Everything else evaluates what is in the variable, or does so in some shell.
fn is_parameter(inner: &str) -> bool {
    let inner = inner.strip_prefix('#').unwrap_or(inner);
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    let plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || "_-./ ,+*".contains(c));
    let forms = [":-", ":=", ":?", ":+", "-", "=", "?", "+", "%%", "%", "##", "#"];
    (is_name(name) || (name.len() == 1 && name.starts_with(|c: char| c.is_ascii_digit())))
        && (rest.is_empty() || forms.iter().any(|form| rest.strip_prefix(form).is_some_and(plain)))
}

/// What stands behind `'`, up to the one that closes it.
fn quoted(rest: &str) -> Result<&str, &'static str> {
    let inner = rest.get(..rest.find('\'').ok_or("a quote that is not closed")?).unwrap_or_default();
    let backslashes = inner.bytes().rev().take_while(|byte| *byte == b'\\').count();
    if backslashes % 2 == 1 {
        return Err("a backslash before a closing quote, which some shells read as a quote");
    }
    Ok(inner)
}

/// The length of a command behind `$(`, up to the parenthesis that closes it.
fn substitution(text: &str, depth: usize) -> Result<usize, &'static str> {
    if depth > MAX_NESTING {
        return Err("it is nested too deep");
    }
    let open = "a command substitution that is not closed";
    let (mut at, mut parentheses, mut fresh) = (0, 1usize, true);
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let c = rest.chars().next().ok_or(open)?;
        at += c.len_utf8();
        let rest = text.get(at..).unwrap_or_default();
        match c {
            '\\' => at += rest.chars().next().ok_or(open)?.len_utf8(),
            '\'' => at += quoted(rest)?.len() + 1,
            '"' => at += double_quoted(rest, depth)?,
            '`' => at += rest.find('`').ok_or(open)? + 1,
            '#' if fresh => return Err("a comment: shells differ on where one begins"),
            '(' => parentheses += 1,
            ')' => parentheses -= 1,
            _ => {}
        }
        if parentheses == 0 {
            return Ok(at - 1);
        }
        fresh = c.is_whitespace() || ";&|()".contains(c);
    }
}

/// The length of a text behind `"`, the closing quote included.
fn double_quoted(text: &str, depth: usize) -> Result<usize, &'static str> {
    let open = "a quote that is not closed";
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let c = rest.chars().next().ok_or(open)?;
        at += c.len_utf8();
        let rest = text.get(at..).unwrap_or_default();
        match c {
            '"' => return Ok(at),
            '\\' => at += rest.chars().next().ok_or(open)?.len_utf8(),
            '`' => at += rest.find('`').ok_or(open)? + 1,
            '$' if rest.starts_with('(') => {
                at += substitution(rest.get(1..).unwrap_or_default(), depth + 1)? + 2;
            }
            _ => {}
        }
    }
}
