//! The reading of one file: everything the report says about it that its own text decides.

use serde::{Deserialize, Serialize};

use super::form::Form;
use super::outline::Outline;
use super::sentences::key_sentences;
use super::words::{Counts, words_of};

/// Most terms of a file that are kept, the most frequent ones.
pub(crate) const TERMS_MAX: usize = 64;

/// A term and how often it occurs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TermCount {
    pub(crate) term: String,
    pub(crate) count: u64,
}

/// How large something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    pub(crate) words: u64,
}

/// What one file says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// Path below the root, with `/`.
    pub(crate) path: String,
    pub(crate) size: Size,
    pub(crate) outline: Outline,
    /// The most frequent terms, at most [`TERMS_MAX`], by falling count, then by the alphabet.
    pub(crate) terms: Vec<TermCount>,
    /// Number of different terms, those not kept included.
    pub(crate) terms_distinct: u64,
    /// Number of all terms, repeated ones included.
    pub(crate) terms_total: u64,
    pub(crate) key_sentences: Vec<String>,
}

impl Reading {
    /// Reads `bytes`, the content of the file at `path`. Invalid UTF-8 is replaced.
    pub(crate) fn of(path: &str, bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let form = Form::of(path);
        let words = words_of(text);
        let counts = Counts::of(&words, form.words_left_out());
        let terms: Vec<TermCount> =
            counts.top(TERMS_MAX).into_iter().map(|(term, count)| TermCount { term: term.to_owned(), count }).collect();
        Self {
            path: path.to_owned(),
            size: Size::of(text, bytes.len()),
            outline: Outline::of(text, form),
            key_sentences: key_sentences(text, form, &terms),
            terms,
            terms_distinct: counts.distinct(),
            terms_total: counts.total(),
        }
    }
}

impl Size {
    fn of(text: &str, bytes: usize) -> Self {
        Self { bytes: bytes as u64, lines: text.lines().count() as u64, words: text.split_whitespace().count() as u64 }
    }

    /// Adds `other`, as a sum over files does.
    pub(crate) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.words += other.words;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::sentences::{KEY_SENTENCES_MAX, SENTENCE_LETTERS_MAX};
    use super::*;

    /// Most bytes of one reading as JSON, whatever the file: what `SECTION_FILES_MAX` is chosen by.
    const READING_BYTES_MAX: usize = 24 * 1024;

    #[test]
    fn a_file_is_read_whole() {
        let reading = Reading::of("a.md", b"# Wolves\nThe wolf runs over the hill. Wolf and raven meet again there.\n");
        let json = serde_json::to_value(&reading).expect("a reading is plain data");
        let expected = serde_json::json!({
            "path": "a.md",
            "size": { "bytes": 71, "lines": 2, "words": 14 },
            "outline": { "lines": ["# Wolves"], "more": 0 },
            "terms": [
                { "term": "wolf", "count": 2 }, { "term": "hill", "count": 1 }, { "term": "meet", "count": 1 },
                { "term": "raven", "count": 1 }, { "term": "runs", "count": 1 }, { "term": "wolves", "count": 1 },
            ],
            "terms_distinct": 6,
            "terms_total": 7,
            "key_sentences": ["The wolf runs over the hill.", "Wolf and raven meet again there.", "# Wolves"],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn line_ends_of_either_kind_give_the_same_reading() {
        let unix = "# A\n\nThe wolf runs over the hill.\nThe raven flies after it.\n";
        let mut windows = Reading::of("a.md", unix.replace('\n', "\r\n").as_bytes());
        windows.size.bytes -= 4;
        assert_eq!(windows, Reading::of("a.md", unix.as_bytes()));
    }

    #[test]
    fn an_empty_file_has_an_empty_reading() {
        let reading = Reading::of("empty", b"");
        assert_eq!(reading.size, Size::default());
        assert!(reading.terms.is_empty() && reading.key_sentences.is_empty() && reading.outline.lines.is_empty());
    }

    #[test]
    fn invalid_utf8_is_replaced_and_a_byte_order_mark_is_no_text() {
        let reading = Reading::of("a.md", b"\xef\xbb\xbf# Wolf\xff runs\n");
        assert_eq!(reading.outline.lines, ["# Wolf\u{fffd} runs"]);
        assert_eq!(reading.terms.iter().map(|entry| entry.term.as_str()).collect::<Vec<_>>(), ["runs", "wolf"]);
    }

    /// Texts that press against each bound at once: names, headings and sentences of the widest letters.
    pub(crate) fn adversarial_texts() -> Vec<String> {
        let mut words = String::new();
        for number in 0..40_000_u32 {
            let letters = (0..4).map(|shift| char::from(b'a' + ((number >> (shift * 4)) & 15) as u8));
            words.extend(letters.chain(std::iter::repeat_n('q', 28)));
            words.push(if number % 9 == 0 { '.' } else { ' ' });
            words.push(' ');
        }
        vec![
            format!("# {}\n{}. {}", "𐐨".repeat(200), "𐐨".repeat(7), words),
            "# \"\\\"\\\"\\\"\\\"\\ wolf\n".repeat(50_000),
            format!("{} \\wolf\\ \\\"{}", "𝕏 ".repeat(300), "\u{1}\u{2}".repeat(100_000)),
            "wolf".repeat(200_000),
            "Wolf".repeat(200_000),
            "wolf ".repeat(200_000),
            "wolf. ".repeat(100_000),
            ".\n".repeat(100_000),
            format!("{}\n", "\u{fffd}wolf 𐐨𐐨𐐨𐐨𐐨𐐨𐐨 a".repeat(20)).repeat(3_000),
        ]
    }

    #[test]
    fn a_reading_is_bounded_whatever_the_file_holds() {
        for (number, text) in adversarial_texts().iter().enumerate() {
            for path in ["a.md", "a.rs", "a.txt", "a.json"] {
                let reading = Reading::of(path, text.as_bytes());
                assert!(reading.terms.len() <= TERMS_MAX, "text {number}");
                assert!(reading.key_sentences.len() <= KEY_SENTENCES_MAX, "text {number}");
                let longest = reading.key_sentences.iter().map(|sentence| sentence.chars().count()).max();
                assert!(longest <= Some(SENTENCE_LETTERS_MAX), "text {number}");
                let bytes = serde_json::to_vec(&reading).expect("a reading is plain data").len();
                assert!(bytes <= READING_BYTES_MAX, "text {number} as {path}: {bytes} bytes");
            }
        }
    }

    #[test]
    fn distinct_terms_are_counted_beyond_those_kept() {
        let reading = Reading::of("a.txt", adversarial_texts()[0].as_bytes());
        assert_eq!(reading.terms.len(), TERMS_MAX);
        // The numbered words, and the one word of the first sentence that is short enough.
        assert_eq!(reading.terms_distinct, 40_000 + 1);
        assert!(reading.terms.is_sorted_by(|a, b| (b.count, &a.term) <= (a.count, &b.term)));
    }
}
