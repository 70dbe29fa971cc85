//! What programs run other programs, or code, by their arguments.
//!
//! A program that is named here is looked through: what it runs is listed too. One that runs what can't be seen makes
//! itself unknown where that is code of its own kind, and the whole line where it may be any program.
use super::lexer::is_reserved;
use super::options;
use super::tables::{EVALUATING, LATER, UNSEEN, WRAPPERS, Wrapper, runs};
use super::walk::Walk;
use super::word::Word;
use super::{Access, Program, removal, shells};

impl Walk<'_> {
    /// A program with its arguments.
    pub(super) fn invoke(&mut self, words: &[Word]) {
        let Some((Word::Literal(name), arguments)) = words.split_first() else {
            return self.unknown("a program whose name is not known before it runs");
        };
        if name.is_empty() || is_reserved(name) {
            return self.unknown("a program without a name of its own");
        }
        let known = arguments.iter().map_while(|word| word.literal().map(str::to_owned)).collect();
        let why = arguments.iter().find_map(Word::why).map(str::to_owned);
        let program = Program { name: name.clone(), arguments: known, unknown: why, elevated: self.elevated };
        let base = program.basename().to_owned();
        self.found.removes_root |= removal::of_root(&base, arguments, self.at_root);
        self.found.programs.push(program);
        let own = self.found.programs.len() - 1;
        if let Some(why) = self.inside(&base, arguments)
            && let Some(program) = self.found.programs.get_mut(own)
        {
            program.unknown.get_or_insert(why);
        }
    }

    /// What it runs; why that can't be said, where it is code of the program's own kind.
    fn inside(&mut self, base: &str, arguments: &[Word]) -> Option<String> {
        self.found.background |= LATER.contains(&base);
        if UNSEEN.contains(&base) || base.starts_with("ld-") || base.starts_with("ld.so") {
            self.unknown(format!("{base} runs what is not seen here"));
        } else if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.names.contains(&base)) {
            self.wrapped(base, wrapper, arguments);
        } else if shells::is_shell(base) {
            return shells::shell(self, base, arguments);
        } else if shells::is_interpreter(base) {
            return shells::interpreter(base, arguments);
        } else {
            return self.special(base, arguments);
        }
        None
    }

    fn special(&mut self, base: &str, arguments: &[Word]) -> Option<String> {
        match base {
            "su" | "runuser" => shells::su(self, base, arguments),
            "ssh" => shells::ssh(self, arguments),
            "eval" => self.joined(arguments),
            "find" => self.find(arguments),
            "cd" | "chdir" | "pushd" | "popd" => self.changes_directory(arguments),
            "set" => {
                const KNOWN: &[&str] = &[
                    "-e", "-u", "-x", "-eu", "-ex", "-eux", "-ux", "-euo", "-o", "pipefail", "errexit",
                    "nounset",
                ];
                if !arguments.iter().all(|word| word.literal().is_some_and(|text| KNOWN.contains(&text))) {
                    self.unknown("an option of the shell that is not known here");
                }
            }
            "export" | "readonly" => self.exports(arguments),
            "ip" if arguments.iter().any(|word| word.literal().is_none_or(|text| text == "exec")) => {
                self.unknown("ip runs what is not seen here");
            }
            "crontab" if arguments != [Word::Literal("-l".to_owned())] => {
                return Some("what cron is to run later is not seen here".to_owned());
            }
            "awk" | "gawk" | "mawk" | "nawk" | "sed" | "gsed" => return shells::script(base, arguments),
            _ if EVALUATING.contains(&base) => self.evaluates(base, arguments),
            // which of a server's options are known is said where servers are
            "rsync" if arguments.first().and_then(Word::literal) == Some("--server") => {}
            _ => return runs(base, arguments),
        }
        None
    }

    fn wrapped(&mut self, base: &str, wrapper: &Wrapper, arguments: &[Word]) {
        let asks_only = ["-v", "-V"].map(|flag| Word::Literal(flag.to_owned()));
        if base == "command" && arguments.first().is_some_and(|first| asks_only.contains(first)) {
            return;
        }
        let from = match options::skip(arguments, &wrapper.options) {
            Ok(from) => from + wrapper.operands,
            Err(why) => return self.unknown(format!("{base}: {why}")),
        };
        let mut inner = arguments.get(from..).unwrap_or_default();
        while wrapper.assignments
            && let Some((Word::Literal(first), rest)) = inner.split_first()
            && let Some((name, _)) = first.split_once('=')
        {
            self.assignment(Some(name), true);
            inner = rest;
        }
        self.found.background |= wrapper.outlives;
        if inner.is_empty() {
            if wrapper.open_alone {
                self.unknown(format!("{base} without a program"));
            }
            return;
        }
        if inner.first().and_then(Word::literal).is_some_and(|first| first.starts_with('-')) {
            return self.unknown(format!("{base}: an option where a program is due"));
        }
        let mut inner = inner.to_vec();
        if base == "xargs" {
            inner.push(Word::Computed("more arguments from its standard input"));
        }
        let before = self.elevated;
        self.elevated |= wrapper.elevates;
        self.invoke(&inner);
        self.elevated = before;
    }

    /// Words that a shell puts together again.
    pub(super) fn joined(&mut self, words: &[Word]) {
        let literal: Option<Vec<&str>> = words.iter().map(Word::literal).collect();
        match literal {
            Some(words) => self.text(&words.join(" ")),
            None => self.unknown("code that is not known before it runs"),
        }
    }

    /// `-exec … ;`, `-delete`, and files that find itself writes.
    fn find(&mut self, arguments: &[Word]) {
        if arguments.iter().any(|word| matches!(word, Word::Computed(_))) {
            return self.unknown("find: an argument that is not known before it runs may be `-exec`");
        }
        let mut rest = arguments;
        while let Some((first, more)) = rest.split_first() {
            rest = more;
            match first.literal() {
                Some("-exec" | "-execdir" | "-ok" | "-okdir") => {
                    let ends = |word: &Word| word.literal().is_some_and(|text| text == ";" || text == "+");
                    let end = more.iter().position(ends).unwrap_or(more.len());
                    let (inner, behind) = more.split_at(end);
                    let inner: Vec<Word> = inner
                        .iter()
                        .map(|word| match word.literal() {
                            Some(text) if text.contains("{}") => Word::Computed("what find has found"),
                            _ => word.clone(),
                        })
                        .collect();
                    self.invoke(&inner);
                    rest = behind;
                }
                Some("-fprint" | "-fprint0" | "-fls" | "-fprintf") => match more.first() {
                    Some(Word::Literal(path)) => self.opened(Access::Write, path.clone()),
                    _ => self.unknown("find: a file to write that is not known"),
                },
                _ => {}
            }
        }
    }

    fn changes_directory(&mut self, arguments: &[Word]) {
        self.moved = true;
        self.at_root |= arguments.iter().any(|word| word.literal().is_some_and(removal::leads_to_root));
    }

    fn exports(&mut self, arguments: &[Word]) {
        for word in arguments {
            match word.literal() {
                Some(text) if text.starts_with('-') => {}
                Some(text) => self.assignment(text.split('=').next(), true),
                None => {
                    self.unknown("a variable that is not known before it runs");
                }
            }
        }
    }

    fn evaluates(&mut self, base: &str, arguments: &[Word]) {
        let risky = |word: &Word| match word {
            Word::Literal(text) | Word::Pattern(text) => {
                text.contains('[') && text.len() > 1 && text.contains(['$', '`'])
            }
            Word::Computed(_) => false,
        };
        // a name is evaluated, since it may be an element, whose place may be a command
        let names = !["test", "[", "printf"].contains(&base)
            || arguments.iter().any(|word| word.literal() == Some("-v"));
        if arguments.iter().any(risky) || (names && arguments.iter().any(|word| word.literal().is_none())) {
            self.unknown("a name that the shell evaluates");
        }
    }
}
