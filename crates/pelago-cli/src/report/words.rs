//! Terms of a text: lower-cased words, identifiers taken apart, English stop words left out.
//!
//! `readIndex`, `read_index` and `HTTPReadIndex2` all speak of `read` and `index`. Digits and `_` separate; a term is
//! made of letters of any script. What is too long to be a word, or is a run of hexadecimal digits, is no term.

use std::collections::BTreeMap;

/// Fewest letters of a term.
pub(crate) const TERM_LETTERS_MIN: usize = 3;
/// Most bytes of a term. Longer runs of letters are keys, encodings or text without spaces, not words.
pub(crate) const TERM_BYTES_MAX: usize = 32;
/// From this length on a run of nothing but hexadecimal digits, one a decimal digit, is a hash.
const HASH_LETTERS_MIN: usize = 16;

/// English words of three letters and more that say nothing about a text. The pieces that an apostrophe leaves behind
/// (`don't`) are among them.
const STOP_WORDS: &str = "\
    about above after again against all also although always among and another any are aren because been before \
    being below between both but can cannot could couldn did didn does doesn doing don done down during each \
    either else etc even ever every few for from further get gets had hadn has hasn have haven having her here \
    hers herself him himself his how however into isn its itself just least less like made make makes many may \
    might more most much must myself neither never nor not now off often once one only onto other others our \
    ours ourselves out over own per rather same shall she should shouldn since some still such than that the \
    their theirs them themselves then there therefore these they this those through thus too two under until \
    upon use used uses using very via was wasn were weren what when where whether which while who whole whom \
    whose why will with within without won would wouldn yet you your yours yourself";

/// Words of programming languages that say nothing about a source.
pub(crate) const KEYWORDS: &str = "\
    assert async await bool boolean break byte case catch char class const continue crate def default derive \
    elif enum err except export extends extern false final finally float func function goto impl implements \
    import include int interface isize lambda len let match mod mut namespace new nil none null private \
    protected pub public raise ref require return self signed sizeof static str string struct super switch throw \
    throws trait true try type typedef typename typeof uint undefined unsafe unsigned usize var vec virtual void \
    yield";

/// Calls `found` with each word of `text` that can be a term, in order, repeated ones included.
pub(crate) fn each_word(text: &str, mut found: impl FnMut(&str)) {
    let mut word = String::new();
    for run in text.split(|letter: char| !letter.is_alphanumeric()) {
        if run.len() >= TERM_LETTERS_MIN && !is_hash(run) {
            each_piece(run, |piece| {
                lower_into(piece, &mut word);
                if has_the_length_of_a_term(&word) {
                    found(&word);
                }
            });
        }
    }
}

/// All words of `text` that can be terms, a line each: what [`Counts`] counts.
pub(crate) fn words_of(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    each_word(text, |word| {
        words.push_str(word);
        words.push('\n');
    });
    words
}

/// How often each term occurs in a text. The terms are slices of one buffer: a file of nothing but different words
/// costs a few times its size, not an allocation a word.
pub(crate) struct Counts<'a>(BTreeMap<&'a str, u64>);

impl<'a> Counts<'a> {
    /// Counts the lines of `words`, which [`words_of`] made, but those of `left_out` and the stop words.
    pub(crate) fn of(words: &'a str, left_out: &str) -> Self {
        let mut counts = BTreeMap::new();
        for word in words.lines() {
            *counts.entry(word).or_insert(0) += 1;
        }
        // They are taken out of the sum: that is a few hundred searches a file, not some for each word of it.
        for word in STOP_WORDS.split_whitespace().chain(left_out.split_whitespace()) {
            counts.remove(word);
        }
        Self(counts)
    }

    /// Returns the number of different terms.
    pub(crate) fn distinct(&self) -> u64 {
        self.0.len() as u64
    }

    /// Returns the number of all terms, repeated ones included.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the `most` terms that occur most often; among equals the first of the alphabet.
    pub(crate) fn top(&self, most: usize) -> Vec<(&'a str, u64)> {
        let mut top: Vec<(&str, u64)> = self.0.iter().map(|(term, count)| (*term, *count)).collect();
        let order = |a: &(&str, u64), b: &(&str, u64)| b.1.cmp(&a.1).then(a.0.cmp(b.0));
        if top.len() > most {
            top.select_nth_unstable_by(most, order);
            top.truncate(most);
        }
        top.sort_unstable_by(order);
        top
    }
}

/// Cuts a run of letters and digits at digits and where camel case begins a new word.
fn each_piece(run: &str, mut found: impl FnMut(&str)) {
    let mut start = 0;
    let mut before = Case::Digit;
    let mut letters = run.char_indices();
    while let Some((at, letter)) = letters.next() {
        let case = Case::of(letter);
        if case == Case::Digit {
            found(&run[start..at]);
            start = at + letter.len_utf8();
        } else if case == Case::Upper && begins_a_word(before, letters.as_str()) {
            found(&run[start..at]);
            start = at;
        }
        before = case;
    }
    found(&run[start..]);
}

/// Tells whether a capital begins a word: `readIndex` does at `I`, `HTTPRead` at `R`, the last capital of a row.
fn begins_a_word(before: Case, after: &str) -> bool {
    match before {
        Case::Lower => true,
        Case::Upper => after.chars().next().is_some_and(|next| Case::of(next) == Case::Lower),
        Case::Digit => false,
    }
}

/// What a letter tells about where words begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
    Digit,
}

impl Case {
    fn of(letter: char) -> Self {
        match letter {
            'a'..='z' => Self::Lower,
            'A'..='Z' => Self::Upper,
            '0'..='9' => Self::Digit,
            _ if letter.is_uppercase() => Self::Upper,
            _ if letter.is_alphabetic() => Self::Lower,
            _ => Self::Digit,
        }
    }
}

/// Lower-cases `piece` into `word`; what is too long for a term may be left incomplete, too long still.
fn lower_into(piece: &str, word: &mut String) {
    word.clear();
    if piece.is_ascii() {
        word.push_str(&piece[..piece.len().min(TERM_BYTES_MAX + 1)]);
        word.make_ascii_lowercase();
        return;
    }
    for letter in piece.chars().take(TERM_BYTES_MAX + 1) {
        word.extend(letter.to_lowercase());
    }
}

fn has_the_length_of_a_term(word: &str) -> bool {
    (TERM_LETTERS_MIN..=TERM_BYTES_MAX).contains(&word.len()) && word.chars().nth(TERM_LETTERS_MIN - 1).is_some()
}

fn is_hash(run: &str) -> bool {
    run.len() >= HASH_LETTERS_MIN
        && run.bytes().all(|byte| byte.is_ascii_hexdigit())
        && run.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        words_of(text).lines().map(str::to_owned).collect()
    }

    #[test]
    fn identifiers_are_taken_apart() {
        assert_eq!(
            words("readIndex read_index HTTPReadIndex2Go"),
            ["read", "index", "read", "index", "http", "read", "index"]
        );
        assert_eq!(words("NODE_ID_MAX utf8Text x86asm"), ["node", "max", "utf", "text", "asm"]);
    }

    #[test]
    fn stop_words_short_words_and_hashes_are_no_terms() {
        let words = words_of("The log of an entry, don't; let it be: 9f86d081884c7d659a2feaa0c55ad015 é ab");
        let all = Counts::of(&words, "").top(9);
        assert_eq!(all, [("entry", 1), ("let", 1), ("log", 1)]);
        assert_eq!(Counts::of(&words, KEYWORDS).total(), 2);
    }

    #[test]
    fn words_of_any_script_are_terms() {
        assert_eq!(words("GRÖSSE Größe ДАННЫЕ λόγος"), ["grösse", "größe", "данные", "λόγος"]);
    }

    #[test]
    fn a_word_longer_than_the_bound_is_no_term() {
        let fits = "a".repeat(TERM_BYTES_MAX);
        assert_eq!(words(&format!("{fits} {fits}a ẞ{fits}")), [fits]);
    }

    #[test]
    fn the_top_is_ordered_by_count_and_then_by_the_alphabet() {
        let words = words_of("pear fig apple fig pear quince");
        let counts = Counts::of(&words, "");
        assert_eq!(counts.top(3), [("fig", 2), ("pear", 2), ("apple", 1)]);
        assert_eq!((counts.distinct(), counts.total()), (4, 6));
    }
}
