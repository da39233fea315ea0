//! The key sentences of a text: those that speak most of what the whole text speaks of.
//!
//! Prose is taken from paragraphs; of sources, from the comments. Where there is too little prose, lines fill up.
//! A sentence scores the counts of its different terms over its length, in integers; among equals the earlier wins.

use super::form::Form;
use super::outline::is_heading;
use super::reading::TermCount;
use super::words::each_word;

/// Key sentences of a file.
pub(crate) const KEY_SENTENCES_MAX: usize = 3;
/// Most letters of a key sentence; a longer one is cut and ends with `…`.
pub(crate) const SENTENCE_LETTERS_MAX: usize = 240;
/// Fewest words of a sentence; shorter ones are titles and remnants.
const SENTENCE_WORDS_MIN: usize = 4;
/// Added to the length of a sentence when it is scored, so that a few strong words alone do not win.
const LENGTH_HANDICAP: u64 = 20;

/// Returns the key sentences of `text` in the order of the text; lines that filled up come last.
pub(crate) fn key_sentences(text: &str, form: Form, top: &[TermCount]) -> Vec<String> {
    let mut terms: Vec<(&str, u64)> = top.iter().map(|entry| (entry.term.as_str(), entry.count)).collect();
    terms.sort_unstable();
    let mut chosen = Choice::new(&terms, SENTENCE_WORDS_MIN);
    each_sentence(text, form, |sentence| chosen.offer(sentence));
    let mut sentences = chosen.into_sentences();
    if sentences.len() < KEY_SENTENCES_MAX {
        fill_with_lines(text, &terms, &mut sentences);
    }
    sentences
}

fn fill_with_lines(text: &str, terms: &[(&str, u64)], sentences: &mut Vec<String>) {
    let mut chosen = Choice::new(terms, 1);
    for line in text.lines() {
        let line = tidy(line, SENTENCE_LETTERS_MAX);
        // A line of a sentence that was chosen, or the one that holds it, says nothing new.
        if !sentences.iter().any(|sentence| sentence.contains(&line) || line.contains(sentence)) {
            chosen.offer(line);
        }
    }
    let missing = KEY_SENTENCES_MAX - sentences.len();
    sentences.extend(chosen.into_sentences().into_iter().take(missing));
}

/// The best sentences so far, in the order of the text.
struct Choice<'a> {
    terms: &'a [(&'a str, u64)],
    words_min: usize,
    best: Vec<(u64, String)>,
}

impl<'a> Choice<'a> {
    fn new(terms: &'a [(&'a str, u64)], words_min: usize) -> Self {
        Self { terms, words_min, best: Vec::new() }
    }

    /// Takes `sentence` if it is better than the worst so far. The same sentence counts once.
    fn offer(&mut self, sentence: String) {
        let score = self.score(&sentence);
        if score == 0 || self.best.iter().any(|(_, known)| *known == sentence) {
            return;
        }
        self.best.push((score, sentence));
        if self.best.len() > KEY_SENTENCES_MAX {
            let lowest = self.best.iter().map(|(score, _)| *score).min();
            // The last of the lowest goes: among equals the earlier stays.
            if let Some(worst) = self.best.iter().rposition(|(score, _)| Some(*score) == lowest) {
                self.best.remove(worst);
            }
        }
    }

    fn score(&self, sentence: &str) -> u64 {
        let words = sentence.split_whitespace().count();
        if words < self.words_min {
            return 0;
        }
        let mut seen = [false; super::reading::TERMS_MAX];
        let mut sum = 0;
        each_word(sentence, |word| {
            if let Ok(at) = self.terms.binary_search_by(|(known, _)| (*known).cmp(word))
                && !std::mem::replace(&mut seen[at], true)
            {
                sum += self.terms[at].1;
            }
        });
        sum * 1_000 / (words as u64 + LENGTH_HANDICAP)
    }

    fn into_sentences(self) -> Vec<String> {
        self.best.into_iter().map(|(_, sentence)| sentence).collect()
    }
}

/// Calls `found` with each sentence of the prose in `text`, tidied.
fn each_sentence(text: &str, form: Form, mut found: impl FnMut(String)) {
    let mut paragraph = String::new();
    let mut fence = Fence::default();
    for line in text.lines() {
        let prose = prose_of(line, form).filter(|prose| !fence.holds(prose));
        if prose.is_none_or(|prose| !continues(prose)) {
            split_sentences(&paragraph, &mut found);
            paragraph.clear();
        }
        if let Some(prose) = prose.filter(|prose| !is_apart(prose)) {
            paragraph.push_str(without_list_mark(prose));
            paragraph.push(' ');
        }
    }
    split_sentences(&paragraph, &mut found);
}

/// Returns the part of a line that is prose: all of it, or what a comment says.
fn prose_of(line: &str, form: Form) -> Option<&str> {
    match form {
        Form::Markdown | Form::Prose => Some(line.trim_start_matches(['>', ' ', '\t'])),
        Form::Rows => None,
        Form::Source(marks) => {
            let line = line.trim_start();
            let mark = marks.iter().find(|mark| line.starts_with(**mark))?;
            let comment = line[mark.len()..].trim_start_matches(['/', '!', '*', '#', '-']).trim_start();
            // `#!/bin/sh` and `#[derive]` begin with the mark of a comment and are none.
            (!line.starts_with("#!") && !line.starts_with("#[")).then(|| comment.trim_end_matches("*/"))
        }
    }
}

/// Tells whether a line goes on with the paragraph before it.
fn continues(prose: &str) -> bool {
    !is_apart(prose) && without_list_mark(prose).len() == prose.len()
}

/// Tells whether a line is no prose at all: blank, a rule, a heading, a row of a table, a tag.
fn is_apart(prose: &str) -> bool {
    is_heading(prose) || prose.starts_with(['|', '<']) || !prose.contains(char::is_alphanumeric)
}

fn without_list_mark(prose: &str) -> &str {
    let unnumbered = prose.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let marks: &[&str] = if unnumbered.len() < prose.len() { &[". ", ") "] } else { &["- ", "* ", "+ "] };
    marks.iter().find_map(|mark| unnumbered.strip_prefix(mark)).unwrap_or(prose)
}

/// Splits a paragraph where a full stop, `!` or `?` is followed by a space and something that can begin a sentence.
fn split_sentences(paragraph: &str, found: &mut impl FnMut(String)) {
    let mut start = 0;
    for (at, letter) in paragraph.char_indices() {
        let end = at + letter.len_utf8();
        if ends_sentence(letter, &paragraph[end..]) {
            found(tidy(&paragraph[start..end], SENTENCE_LETTERS_MAX));
            start = end;
        }
    }
    if !paragraph[start..].trim().is_empty() {
        found(tidy(&paragraph[start..], SENTENCE_LETTERS_MAX));
    }
}

fn ends_sentence(letter: char, after: &str) -> bool {
    match letter {
        '。' | '！' | '？' => true,
        '.' | '!' | '?' if after.is_empty() => true,
        '.' | '!' | '?' => {
            after.starts_with(char::is_whitespace)
                && after.trim_start().chars().next().is_none_or(|next| !next.is_lowercase())
        }
        _ => false,
    }
}

/// Follows the fences of code blocks: ``` and ~~~.
#[derive(Default)]
pub(crate) struct Fence {
    open: bool,
}

impl Fence {
    /// Tells whether `line` is a fence or stands inside one. To be called with each line in turn.
    pub(crate) fn holds(&mut self, line: &str) -> bool {
        let line = line.trim_start();
        if line.starts_with("```") || line.starts_with("~~~") {
            self.open = !self.open;
            return true;
        }
        self.open
    }
}

/// Returns `text` on one line: spaces and control characters become one space, and beyond `letters_max` it is cut.
pub(crate) fn tidy(text: &str, letters_max: usize) -> String {
    let mut tidied = String::new();
    let mut letters = 0;
    let mut space = false;
    for letter in text.chars() {
        if letter.is_whitespace() || letter.is_control() {
            space = letters > 0;
            continue;
        }
        letters += 1 + usize::from(space);
        if letters > letters_max {
            return cut(tidied, letters_max);
        }
        if std::mem::take(&mut space) {
            tidied.push(' ');
        }
        tidied.push(letter);
    }
    tidied
}

fn cut(mut text: String, letters_max: usize) -> String {
    while text.chars().count() >= letters_max {
        text.pop();
    }
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(path: &str, text: &str) -> Vec<String> {
        let mut sentences = Vec::new();
        each_sentence(text, Form::of(path), |sentence| sentences.push(sentence));
        sentences
    }

    fn key(path: &str, text: &str, terms: &[(&str, u64)]) -> Vec<String> {
        let top: Vec<_> =
            terms.iter().map(|(term, count)| TermCount { term: (*term).to_owned(), count: *count }).collect();
        key_sentences(text, Form::of(path), &top)
    }

    #[test]
    fn prose_is_split_into_sentences_across_lines() {
        let text = "# Title\r\nOne line\r\ngoes on, e.g. here. Next!\r\n\r\n- an entry\r\n1. another\r\n| a | b |\r\n```\r\ncode. Here\r\n```\r\nlast";
        assert_eq!(sentences("a.md", text), ["One line goes on, e.g. here.", "Next!", "an entry", "another", "last"]);
    }

    #[test]
    fn the_prose_of_a_source_is_its_comments() {
        let rust = "//! Says what it is.\n//! And goes\n//! on.\n\nfn a() {} // not here\n    /// Inner words.\n#[derive(Debug)]\n";
        assert_eq!(sentences("a.rs", rust), ["Says what it is.", "And goes on.", "Inner words."]);
        assert_eq!(sentences("a.sh", "#!/bin/sh\n# Begins the thing.\nrun\n"), ["Begins the thing."]);
    }

    #[test]
    fn equal_sentences_are_chosen_by_position_and_repeated_ones_once() {
        let text = "The wolf runs here first. The wolf runs here second. The wolf runs here first. \
                    The wolf runs here third. The wolf runs here fourth.";
        assert_eq!(
            key("a.txt", text, &[("wolf", 5)]),
            ["The wolf runs here first.", "The wolf runs here second.", "The wolf runs here third."]
        );
    }

    #[test]
    fn a_better_sentence_displaces_the_last_of_the_lowest() {
        let text = "The wolf runs here first. The wolf runs here second. The wolf runs here third. The wolf meets a raven here.";
        assert_eq!(
            key("a.txt", text, &[("raven", 9), ("wolf", 5)]),
            ["The wolf runs here first.", "The wolf runs here second.", "The wolf meets a raven here."]
        );
    }

    #[test]
    fn lines_fill_up_where_prose_is_short_and_say_nothing_twice() {
        let rust = "// The log is cut at the tear.\nlet log = 1;\nlet other = 2;\nlog.cut();\n";
        assert_eq!(
            key("a.rs", rust, &[("cut", 2), ("log", 3)]),
            ["The log is cut at the tear.", "let log = 1;", "log.cut();"]
        );
    }

    #[test]
    fn a_long_sentence_is_cut_to_the_bound_and_control_characters_go() {
        let tidied = tidy(&format!(" a\u{1b}[2J\t\n{}", "é ".repeat(10_000)), SENTENCE_LETTERS_MAX);
        assert!(tidied.starts_with("a [2J é é") && tidied.ends_with('…'));
        assert!((SENTENCE_LETTERS_MAX - 1..=SENTENCE_LETTERS_MAX).contains(&tidied.chars().count()));
        assert_eq!(tidy("abcde", 5), "abcde");
        assert_eq!(tidy("abcdef", 5), "abcd…");
    }
}
