//! The outline of a text: headings of Markdown, top-level items of sources, table headers of settings.
//!
//! It reads lines, not grammars: an item is a line that begins in the first column with a word such as `pub fn`,
//! `impl`, `class` or `def`.

use serde::{Deserialize, Serialize};

use super::form::Form;
use super::sentences::{Fence, tidy};

/// Most lines of an outline that are kept; the rest is only counted.
pub(crate) const OUTLINE_LINES_MAX: usize = 24;
/// Most letters of one line of an outline.
pub(crate) const OUTLINE_LETTERS_MAX: usize = 100;

/// The outline of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Outline {
    /// The first lines, at most [`OUTLINE_LINES_MAX`].
    pub(crate) lines: Vec<String>,
    /// How many more there are.
    pub(crate) more: u64,
}

/// Words that may stand before the word that names an item.
const MODIFIERS: &[&str] = &[
    "pub",
    "async",
    "unsafe",
    "const",
    "static",
    "extern",
    "export",
    "default",
    "public",
    "private",
    "protected",
    "internal",
    "abstract",
    "final",
    "sealed",
    "open",
    "data",
    "override",
    "partial",
    "inline",
    "declare",
];

/// Words that name an item.
const ITEMS: &[&str] = &[
    "fn",
    "struct",
    "enum",
    "trait",
    "impl",
    "mod",
    "type",
    "union",
    "macro_rules!",
    "class",
    "def",
    "function",
    "func",
    "interface",
    "object",
    "namespace",
    "module",
    "service",
    "message",
    "record",
    "protocol",
    "extension",
    "template",
];

impl Outline {
    /// Draws the outline of `text`.
    pub(crate) fn of(text: &str, form: Form) -> Self {
        let mut outline = Self::default();
        match form {
            Form::Markdown => outline.add_headings(text),
            Form::Source(_) => text.lines().filter_map(item).for_each(|line| outline.add(line)),
            Form::Prose | Form::Rows => {}
        }
        outline
    }

    fn add_headings(&mut self, text: &str) {
        let mut fence = Fence::default();
        for line in text.lines() {
            if !fence.holds(line) && is_heading(line) {
                self.add(line.trim_end().trim_end_matches('#'));
            }
        }
    }

    fn add(&mut self, line: &str) {
        if self.lines.len() < OUTLINE_LINES_MAX {
            self.lines.push(tidy(line, OUTLINE_LETTERS_MAX));
        } else {
            self.more += 1;
        }
    }
}

/// Tells whether a line of Markdown is a heading: one to six `#`, then a space and words.
pub(crate) fn is_heading(line: &str) -> bool {
    let words = line.trim_start_matches('#');
    let depth = line.len() - words.len();
    (1..=6).contains(&depth) && words.starts_with([' ', '\t']) && !words.trim().is_empty()
}

/// Returns what an item's line says of it: all before its body.
fn item(line: &str) -> Option<&str> {
    if is_table_header(line) {
        return Some(line.trim_end());
    }
    let mut rest = line;
    loop {
        let (word, after) = first_word(rest)?;
        if ITEMS.contains(&word) && after.starts_with(|next: char| next.is_whitespace() || "<(*".contains(next)) {
            return Some(before_body(line));
        }
        if !MODIFIERS.contains(&word) {
            return shell_function(line);
        }
        rest = after_restriction(after).trim_start();
    }
}

/// Splits off a leading word of letters, digits, `_` and `!`. A line that begins otherwise begins no item.
fn first_word(line: &str) -> Option<(&str, &str)> {
    let end =
        line.find(|letter: char| !(letter.is_ascii_alphanumeric() || "_!".contains(letter))).unwrap_or(line.len());
    (end > 0).then(|| line.split_at(end))
}

/// Skips what may follow a modifier: `(crate)` and the `"C"` of `extern "C"`.
fn after_restriction(line: &str) -> &str {
    let skipped = |open: char, close: char| {
        let inner = line.trim_start().strip_prefix(open)?;
        inner.split_once(close).map(|(_, after)| after)
    };
    skipped('(', ')').or_else(|| skipped('"', '"')).unwrap_or(line)
}

fn before_body(line: &str) -> &str {
    let head = line.split(['{', ';']).next().unwrap_or(line);
    head.trim_end().trim_end_matches([':', '=']).trim_end()
}

fn shell_function(line: &str) -> Option<&str> {
    let name = line.trim_end().strip_suffix('{')?.trim_end();
    (name.ends_with("()") && !name.contains(char::is_whitespace)).then_some(name)
}

fn is_table_header(line: &str) -> bool {
    let line = line.trim_end();
    line.starts_with('[')
        && line.ends_with(']')
        && line.chars().all(|letter| letter.is_alphanumeric() || "[]._-\"'".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<String> {
        Outline::of(text, Form::of(path)).lines
    }

    #[test]
    fn headings_inside_a_fence_are_no_headings() {
        let text = "# One\r\ntext\r\n```sh\r\n# no\r\n```\r\n## Two ##\r\n#no\r\n####### no\r\n#\r\n";
        assert_eq!(lines("a.md", text), ["# One", "## Two"]);
    }

    #[test]
    fn items_of_sources_are_found_in_the_first_column_only() {
        let rust = "//! fn no\npub(crate) async fn run(self) -> u8 {\n    fn inner() {}\nimpl<T> A for B<T> {\npub const X: u8 = 1;\nextern \"C\" fn c();\nfn_name();\nmod tests;\n";
        assert_eq!(
            lines("a.rs", rust),
            ["pub(crate) async fn run(self) -> u8", "impl<T> A for B<T>", "extern \"C\" fn c()", "mod tests"]
        );
        assert_eq!(lines("a.py", "class A(B):\n  def no(self):\ndef f(x):\ndefault = 1\n"), ["class A(B)", "def f(x)"]);
        assert_eq!(lines("a.sh", "start() {\n[ -f x ]\n"), ["start()"]);
        assert_eq!(lines("a.toml", "[package]\n[[bin]]\nkeys = [\n]\n"), ["[package]", "[[bin]]"]);
    }

    #[test]
    fn an_outline_is_bounded_in_lines_and_letters() {
        let text = format!("# {}\n", "ü".repeat(9_000)).repeat(1_000);
        let outline = Outline::of(&text, Form::Markdown);
        assert_eq!(outline.lines.len(), OUTLINE_LINES_MAX);
        assert_eq!(outline.more, 1_000 - OUTLINE_LINES_MAX as u64);
        assert!(outline.lines.iter().all(|line| line.chars().count() == OUTLINE_LETTERS_MAX));
    }
}
