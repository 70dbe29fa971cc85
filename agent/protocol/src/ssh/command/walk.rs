//! From the syntax tree to what is run and what is opened.
//!
//! Every node that this room was not taught about makes the line unknown.
use brush_parser::ast::{
    self, Command, CommandPrefixOrSuffixItem as Item, CompoundCommand, IoFileRedirectKind as Kind,
    IoFileRedirectTarget, IoRedirect, SeparatorOperator,
};
use brush_parser::{ParserOptions, parse_tokens};

use super::lexer::{Lexed, lex};
use super::variables;
use super::word::{Scanned, Word};
use super::{Access, CommandLine, Redirection};

/// `sh -c 'sh -c "…"'`, `$(… $(…))`: so deep is looked.
const MAX_DEPTH: usize = 6;
/// More programs in one line are not looked at.
const MAX_PROGRAMS: usize = 1000;

/// What is found, and where we are.
pub(super) struct Walk<'a> {
    pub(super) found: &'a mut CommandLine,
    /// Texts within texts.
    pub(super) depth: usize,
    /// It runs as somebody else.
    pub(super) elevated: bool,
    /// Something has changed the directory: relative paths lie elsewhere.
    pub(super) moved: bool,
    /// It has changed to the root.
    pub(super) at_root: bool,
}

impl<'a> Walk<'a> {
    /// At the beginning of a line.
    pub(super) fn new(found: &'a mut CommandLine) -> Self {
        Walk { found, depth: 0, elevated: false, moved: false, at_root: false }
    }

    /// The line as a whole is not understood; the first reason counts.
    pub(super) fn unknown(&mut self, why: impl Into<String>) {
        self.found.unknown.get_or_insert_with(|| why.into());
    }

    /// A text that a shell is given.
    pub(super) fn text(&mut self, text: &str) {
        if self.depth >= MAX_DEPTH || self.found.programs.len() > MAX_PROGRAMS {
            return self.unknown("it is too long, or nested too deep");
        }
        let lexed = match lex(text) {
            Ok(lexed) => lexed,
            Err(why) => return self.unknown(why),
        };
        // what other shells add to the grammar is read as plain words, and is no program's name then
        let options = ParserOptions { sh_mode: true, enable_extended_globbing: false, ..Default::default() };
        match parse_tokens(&lexed.tokens, &options) {
            Ok(program) => {
                self.depth += 1;
                program.complete_commands.iter().for_each(|list| self.list(&lexed, list));
                self.depth -= 1;
            }
            Err(error) => self.unknown(format!("a shell's grammar does not allow it: {error}")),
        }
    }

    fn list(&mut self, lexed: &Lexed, list: &ast::CompoundList) {
        for ast::CompoundListItem(pipelines, separator) in &list.0 {
            self.found.background |= matches!(separator, SeparatorOperator::Async);
            for (_, pipeline) in pipelines {
                if pipeline.timed.is_some() {
                    self.unknown("`time` of a whole pipeline");
                }
                pipeline.seq.iter().for_each(|command| self.command(lexed, command));
            }
        }
    }

    fn command(&mut self, lexed: &Lexed, command: &Command) {
        match command {
            Command::Simple(simple) => self.simple(lexed, simple),
            Command::Compound(compound, redirections) => {
                redirections.iter().flat_map(|list| &list.0).for_each(|one| self.redirection(lexed, one));
                self.compound(lexed, compound);
            }
            Command::Function(_) => self.unknown("a function: what its name runs is no longer plain"),
            Command::ExtendedTest(..) => self.unknown("`[[`, which only some shells have"),
        }
    }

    fn compound(&mut self, lexed: &Lexed, compound: &CompoundCommand) {
        match compound {
            CompoundCommand::BraceGroup(group) => self.list(lexed, &group.list),
            CompoundCommand::Subshell(subshell) => self.list(lexed, &subshell.list),
            CompoundCommand::ForClause(clause) => {
                match self.word(lexed, &clause.variable_name) {
                    Word::Literal(name) if variables::may_be_set(&name) => {}
                    _ => self.unknown("a loop over a variable that changes what programs do"),
                }
                for value in clause.values.iter().flatten() {
                    self.word(lexed, &value.value);
                }
                self.list(lexed, &clause.body.list);
            }
            CompoundCommand::CaseClause(clause) => {
                self.word(lexed, &clause.value.value);
                for case in &clause.cases {
                    for pattern in &case.patterns {
                        self.word(lexed, &pattern.value);
                    }
                    case.cmd.iter().for_each(|list| self.list(lexed, list));
                }
            }
            CompoundCommand::IfClause(clause) => {
                self.list(lexed, &clause.condition);
                self.list(lexed, &clause.then);
                for other in clause.elses.iter().flatten() {
                    other.condition.iter().for_each(|list| self.list(lexed, list));
                    self.list(lexed, &other.body);
                }
            }
            CompoundCommand::WhileClause(clause) | CompoundCommand::UntilClause(clause) => {
                self.list(lexed, &clause.0);
                self.list(lexed, &clause.1.list);
            }
            CompoundCommand::Arithmetic(_)
            | CompoundCommand::ArithmeticForClause(_)
            | CompoundCommand::Coprocess(_) => self.unknown("a construct that only some shells have"),
        }
    }

    fn simple(&mut self, lexed: &Lexed, simple: &ast::SimpleCommand) {
        let mut words = Vec::new();
        for item in simple.prefix.iter().flat_map(|prefix| &prefix.0) {
            match item {
                Item::IoRedirect(redirection) => self.redirection(lexed, redirection),
                Item::AssignmentWord(_, word) => {
                    let scanned = self.scanned(lexed, &word.value);
                    let before_a_program = simple.word_or_name.is_some();
                    self.assignment(scanned.assignment.as_deref(), before_a_program);
                }
                _ => self.unknown("a prefix of a command that is not known here"),
            }
        }
        if let Some(name) = &simple.word_or_name {
            words.push(self.word(lexed, &name.value));
        }
        for item in simple.suffix.iter().flat_map(|suffix| &suffix.0) {
            match item {
                Item::IoRedirect(redirection) => self.redirection(lexed, redirection),
                Item::Word(word) | Item::AssignmentWord(_, word) => {
                    words.push(self.word(lexed, &word.value));
                }
                Item::ProcessSubstitution(..) => self.unknown("a process substitution"),
            }
        }
        if !words.is_empty() {
            self.invoke(&words);
        }
    }

    /// A variable that is set: for a program, or in the shell.
    pub(super) fn assignment(&mut self, name: Option<&str>, for_a_program: bool) {
        let harmless = match name {
            Some(name) if for_a_program => variables::may_be_given(name),
            Some(name) => variables::may_be_set(name),
            None => false,
        };
        if !harmless {
            self.unknown(format!(
                "it sets {}, which may change what programs do",
                name.unwrap_or("a variable")
            ));
        }
    }

    fn word(&mut self, lexed: &Lexed, text: &str) -> Word {
        self.scanned(lexed, text).word
    }

    /// A word; the commands in it are run.
    fn scanned(&mut self, lexed: &Lexed, text: &str) -> Scanned {
        let Some(scanned) = lexed.word(text) else {
            self.unknown("a word that the grammar has made up");
            return Scanned { word: Word::Computed("unreadable"), assignment: None, commands: Vec::new() };
        };
        for command in &scanned.commands {
            self.text(command);
        }
        scanned
    }

    fn redirection(&mut self, lexed: &Lexed, redirection: &IoRedirect) {
        let IoRedirect::File(_, kind, target) = redirection else {
            return self.unknown("a redirection that only some shells have");
        };
        let word = match target {
            IoFileRedirectTarget::Filename(word) | IoFileRedirectTarget::Duplicate(word) => &word.value,
            // the grammar makes one of `|&`, which the lexer refuses
            IoFileRedirectTarget::Fd(_) | IoFileRedirectTarget::ProcessSubstitution(..) => {
                return self.unknown("a redirection that only some shells have");
            }
        };
        let word = self.word(lexed, word);
        let access = match kind {
            Kind::Read => Access::Read,
            Kind::Write | Kind::Append | Kind::Clobber => Access::Write,
            Kind::ReadAndWrite => Access::Both,
            Kind::DuplicateInput | Kind::DuplicateOutput => {
                let known = word.literal().is_some_and(|text| {
                    text == "-" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
                });
                if !known {
                    self.unknown("a redirection to what may be a file or a descriptor");
                }
                return;
            }
        };
        match word {
            Word::Literal(path) => self.opened(access, path),
            other => self.unknown(format!("a redirection to {}", other.why().unwrap_or("nowhere"))),
        }
    }

    /// A file that is opened, by the shell or for a program.
    pub(super) fn opened(&mut self, access: Access, path: String) {
        if path.is_empty() {
            return self.unknown("a redirection to no file");
        }
        if self.moved && !path.starts_with('/') {
            return self.unknown("a file whose directory is not known");
        }
        self.found.redirections.push(Redirection { access, path });
    }
}
