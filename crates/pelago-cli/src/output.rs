//! What a command shows: data on stdout, everything else on stderr.
//!
//! With `-o json` every byte on stdout parses: one document, which says its `kind` (a stream is one document a line). A
//! problem is then a document too, on stderr.

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use clap::{ColorChoice, ValueEnum};
use comfy_table::{Table, presets};
use pelago_api::{
    client,
    model::{Document, Tagged},
    problem::Problem,
};

/// What documents look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For people, with all columns.
    Wide,
    /// For programs.
    Json,
}

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Error {
    /// The request came to nothing.
    Problem(Box<Problem>),
    /// stdout is closed or full.
    Stdout(io::Error),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<pelago::mesh::Error> for Error {
    fn from(error: pelago::mesh::Error) -> Self {
        Problem::from(error).into()
    }
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        error.into_problem().into()
    }
}

/// Where a command shows what it has to show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    colored: bool,
}

impl Output {
    pub(crate) fn new(format: Format, color: ColorChoice) -> Self {
        Self { format, colored: is_colored(color) }
    }

    /// Whether people want all columns, however wide.
    pub(crate) fn is_wide(self) -> bool {
        self.format == Format::Wide
    }

    /// Shows a document: as JSON to programs, as `text` to people.
    pub(crate) fn document<D: Document>(self, document: &D, text: impl FnOnce(&D) -> String) -> Result<(), Error> {
        let mut shown = match self.format {
            Format::Text | Format::Wide => text(document),
            Format::Json => json(document),
        };
        if !shown.is_empty() && !shown.ends_with('\n') {
            shown.push('\n');
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(shown.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Stdout)
    }

    /// Tells people something that is not data, such as what to do next.
    pub(crate) fn note(self, text: &str) {
        if self.format != Format::Json {
            write_line_to_stderr(&self.painted(DIM, text));
        }
    }

    /// Tells why the command did not end well.
    pub(crate) fn problem(self, problem: &Problem) {
        self.problem_as(problem, problem);
    }

    /// The same where people are told more than programs.
    pub(crate) fn problem_as(self, problem: &Problem, text: &impl Display) {
        let shown = match self.format {
            Format::Text | Format::Wide => self.highlighted(text.to_string()),
            Format::Json => json(problem),
        };
        write_line_to_stderr(&shown);
    }

    /// Paints `error[CODE]`.
    fn highlighted(self, problem: String) -> String {
        match problem.split_once(": ") {
            Some((label, rest)) => format!("{}: {rest}", self.painted(RED, label)),
            None => problem,
        }
    }

    fn painted(self, style: &str, text: &str) -> String {
        if self.colored { format!("{style}{text}{PLAIN}") } else { text.to_owned() }
    }
}

const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[1;31m";
const PLAIN: &str = "\x1b[0m";

/// Columns under `headings`, without borders; empty when there are no rows, since a heading alone says nothing. A cell
/// without text shows a dash, so that a program that splits at blanks still counts right.
pub(crate) fn columns<const N: usize>(
    headings: [&'static str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    for row in rows {
        table.add_row(row.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if table.is_empty() { String::new() } else { table.trim_fmt() }
}

/// As much of a text as a row bears: a reason may be a whole page.
pub(crate) fn one_line(text: &str) -> String {
    const LETTERS_MAX: usize = 60;
    let line = text.lines().next().unwrap_or(text);
    match line.char_indices().nth(LETTERS_MAX) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

/// A line a fact: its name, then its value.
pub(crate) fn facts(facts: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let facts: Vec<_> = facts.into_iter().collect();
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = facts.iter().map(|(name, value)| format!("{name:width$}  {value}\n"));
    lines.collect()
}

fn json<D: Document>(document: &D) -> String {
    serde_json::to_string(&Tagged::new(document)).expect("a document is JSON")
}

fn write_line_to_stderr(text: &str) {
    // Nobody can be told that stderr is closed.
    let _unheard = writeln!(io::stderr().lock(), "{text}");
}

fn is_colored(color: ColorChoice) -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if is_set("NO_COLOR") => false,
        ColorChoice::Auto if env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        ColorChoice::Auto => io::stderr().is_terminal() && env::var_os("TERM").is_some_and(|term| term != "dumb"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_end_without_spaces() {
        let rows = [["a", "longer"], ["wider", "b"], ["c", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(["ID", "NAME"], rows), "ID     NAME\na      longer\nwider  b\nc      -");
        assert_eq!(columns(["ID", "NAME"], []), "");
    }

    #[test]
    fn a_long_text_is_cut_to_one_line() {
        assert_eq!(one_line("no\nsuch file"), "no");
        assert_eq!(one_line(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
        assert_eq!(one_line(""), "");
    }

    #[test]
    fn facts_are_aligned() {
        let shown = facts([("id", "7".to_owned()), ("state", "done".to_owned())]);
        assert_eq!(shown, "id     7\nstate  done\n");
    }
}
