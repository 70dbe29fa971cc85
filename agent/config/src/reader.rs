//! Walks TOML tables: types, spans, unknown keys.
//!
//! Written by hand over toml's spanned tree and not derived with serde: serde stops at the first error and loses the
//! place of values that are checked later; an administrator wants all of them at once, each with its line.
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Diagnostic;
use crate::names::foreign_character;

/// Where in the text, in bytes.
pub(crate) type Span = Range<usize>;

/// Collects what is wrong.
pub(crate) struct Sink<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<Diagnostic>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Sink { file, text, found: Vec::new() }
    }

    pub(crate) fn say(&mut self, span: &Span, message: impl Into<String>) {
        self.found.push(Diagnostic::at(self.file, self.text, span.start, message));
    }

    pub(crate) fn say_hint(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Diagnostic::at(self.file, self.text, span.start, message).hint(hint));
    }

    /// Line of a place, for a message that refers to another one.
    pub(crate) fn line(&self, span: &Span) -> u32 {
        Diagnostic::at(self.file, self.text, span.start, "").line
    }

    /// What was found, in the order of the file.
    pub(crate) fn into_found(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        self.found.dedup();
        self.found
    }
}

/// A value of the file, read as `Self`; `None` after saying what is wrong with it.
pub(crate) trait FromToml: Sized {
    /// `key` is what messages call the value.
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self>;
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T: FromToml> FromToml for At<T> {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        T::from_toml(value, key, sink).map(|read| At { value: read, span: value.span() })
    }
}

impl<T: FromToml> FromToml for Vec<T> {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let DeValue::Array(array) = value.get_ref() else {
            wrong_type(value, key, "a list in [ ]", sink);
            return None;
        };
        // every element is looked at, so that all errors are found
        let read: Vec<Option<T>> = array.iter().map(|element| T::from_toml(element, key, sink)).collect();
        read.into_iter().collect()
    }
}

impl FromToml for String {
    fn from_toml(value: &Spanned<DeValue<'_>>, key: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let text = string(value, key, "a text in quotes", sink)?;
        if text.is_empty() {
            sink.say(&value.span(), format!("`{key}` is empty"));
            return None;
        }
        if let Some(bad) = text.chars().find(|character| character.is_control()) {
            sink.say(
                &value.span(),
                format!("`{key}` contains the control character U+{:04X}", u32::from(bad)),
            );
            return None;
        }
        Some(text.to_owned())
    }
}

/// The string in `value`, or a message that `wanted` was expected.
pub(crate) fn string<'v>(
    value: &'v Spanned<DeValue<'_>>,
    key: &str,
    wanted: &str,
    sink: &mut Sink<'_>,
) -> Option<&'v str> {
    match value.get_ref() {
        DeValue::String(text) => Some(text),
        _ => {
            wrong_type(value, key, wanted, sink);
            None
        }
    }
}

pub(crate) fn wrong_type(value: &Spanned<DeValue<'_>>, key: &str, wanted: &str, sink: &mut Sink<'_>) {
    let is = match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    sink.say(&value.span(), format!("`{key}` must be {wanted}, but this is {is}"));
}

/// One table of the file. Keys that are asked for are the known ones; [`Section::finish`] finds the others.
pub(crate) struct Section<'t, 'i> {
    name: String,
    span: Span,
    table: Cow<'t, DeTable<'i>>,
    asked: BTreeSet<&'static str>,
    /// Keys that something has been said about already.
    told: BTreeSet<&'static str>,
}

impl<'t, 'i> Section<'t, 'i> {
    pub(crate) fn new(name: impl Into<String>, span: Span, table: &'t DeTable<'i>) -> Self {
        Section {
            name: name.into(),
            span,
            table: Cow::Borrowed(table),
            asked: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    /// Where the section begins.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The value under `key`, which thereby is a known one.
    pub(crate) fn raw(&mut self, key: &'static str) -> Option<&Spanned<DeValue<'i>>> {
        self.asked.insert(key);
        self.table.get(key)
    }

    /// The value under `key`; `None` when absent or wrong (then it has been said).
    pub(crate) fn get<T: FromToml>(&mut self, key: &'static str, sink: &mut Sink<'_>) -> Option<T> {
        self.asked.insert(key);
        let value = self.table.get(key)?;
        T::from_toml(value, &format!("{}.{key}", self.name), sink)
    }

    /// The value under `key`, `default` when it is absent.
    pub(crate) fn or<T: FromToml>(&mut self, key: &'static str, default: T, sink: &mut Sink<'_>) -> T {
        self.get(key, sink).unwrap_or(default)
    }

    /// The value under `key`; its absence is an error.
    pub(crate) fn required<T: FromToml>(&mut self, key: &'static str, sink: &mut Sink<'_>) -> Option<T> {
        if self.raw(key).is_none() {
            sink.say(&self.span, format!("`{}.{key}` is missing", self.name));
            return None;
        }
        self.get(key, sink)
    }

    /// The table under `key`; an absent one reads as empty.
    pub(crate) fn section(&mut self, key: &'static str, sink: &mut Sink<'_>) -> Section<'_, 'i> {
        self.asked.insert(key);
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        let empty = |span| Section {
            name: name.clone(),
            span,
            table: Cow::Owned(DeTable::default()),
            asked: BTreeSet::new(),
            told: BTreeSet::new(),
        };
        match self.table.get(key) {
            None => empty(self.span.clone()),
            Some(value) => match value.get_ref() {
                DeValue::Table(table) => Section::new(name, value.span(), table),
                _ => {
                    wrong_type(value, &name, "a table", sink);
                    empty(value.span())
                }
            },
        }
    }

    /// Every entry of a table whose keys are free.
    pub(crate) fn entries<T: FromToml>(&mut self, sink: &mut Sink<'_>) -> Vec<(At<String>, At<T>)> {
        let mut entries = Vec::new();
        for (key, value) in self.table.iter() {
            let name = format!("{}.{}", self.name, key.get_ref());
            if let Some(read) = At::<T>::from_toml(value, &name, sink) {
                entries.push((At { value: key.get_ref().to_string(), span: key.span() }, read));
            }
        }
        entries
    }

    /// Says of each of `keys` that is there that it belongs to something else, described by `whose`.
    pub(crate) fn foreign(&mut self, keys: &[&'static str], whose: &str, sink: &mut Sink<'_>) {
        for (key, _) in self.table.iter() {
            let Some(known) = keys.iter().find(|known| **known == key.get_ref()) else { continue };
            let message = format!("`{}.{known}` belongs to {whose}", self.name);
            sink.say_hint(&key.span(), message, "take it out, or correct `target.protocol`");
            self.told.insert(known);
        }
    }

    /// Says which keys nobody asked for, and what was probably meant.
    pub(crate) fn finish(self, sink: &mut Sink<'_>) {
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if self.asked.contains(name) || self.told.contains(name) {
                continue;
            }
            let place = if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) };
            let shown = name.escape_debug();
            let message = match foreign_character(name) {
                Some(odd) => format!("unknown key `{shown}`{place}: {odd}"),
                None => format!("unknown key `{shown}`{place}"),
            };
            let hint = match nearest(name, self.asked.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "known here: {}",
                    self.asked.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
                ),
            };
            sink.say_hint(&key.span(), message, hint);
        }
    }
}

/// The candidate that `wrong` was probably meant to be: at most a third of it mistyped.
pub(crate) fn nearest<'c>(wrong: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // longer ones are no typing errors, and the distance costs length times length
    if wrong.len() > 64 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(wrong, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, in characters, case not counted.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (row, left) in a.iter().enumerate() {
        let mut diagonal = row;
        let mut last = row + 1;
        let mut current = vec![last];
        for (right, above) in b.iter().zip(previous.iter().skip(1)) {
            last = (diagonal + usize::from(left != right)).min(last + 1).min(above + 1);
            diagonal = *above;
            current.push(last);
        }
        previous = current;
    }
    previous.last().copied().unwrap_or(0)
}
