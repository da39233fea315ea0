//! TF-IDF in integers: the same scores on every machine, and ties that always break the same way.
//!
//! The frequency of a term times the logarithm of how rare it is among the files. All are in millionths. A file
//! counts for a term if it is among the terms its reading kept, its most frequent ones.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

const MILLION: u64 = 1_000_000;
/// Binary digits after the point of the logarithm.
const LOG_BITS: u32 = 20;

/// A share, a weight or a score, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Micro(pub(crate) u64);

/// A term with its score.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Scored {
    pub(crate) term: String,
    pub(crate) score: Micro,
    pub(crate) count: u64,
}

/// Returns the share of a term that occurs `count` times among `total` terms.
pub(crate) fn share(count: u64, total: u64) -> Micro {
    Micro(count.saturating_mul(MILLION) / total.max(1))
}

/// Returns how much `count` occurrences in one file weigh among all files: their square root. By the count itself one
/// long list would outweigh all prose; by the share in its file, a file of three words would.
pub(crate) fn dampened(count: u64) -> Micro {
    Micro(count.saturating_mul(MILLION * MILLION).isqrt())
}

/// Returns how much it says that a term is in `files_with` of `files` files: log₂((files + 1) / files_with). It is
/// above zero even for a term of every file, so that a single file has an order of terms too.
pub(crate) fn rarity(files: u64, files_with: u64) -> Micro {
    assert!((1..=files).contains(&files_with), "a term is in at least one file and in no more than there are");
    let log = log2(files + 1) - log2(files_with);
    Micro((log * MILLION) >> LOG_BITS)
}

/// Returns the score of a term so frequent and so rare: in one file, its share there; in all files together, the sum
/// of its dampened counts.
pub(crate) fn score(frequency: Micro, rarity: Micro) -> Micro {
    Micro(frequency.0.saturating_mul(rarity.0) / MILLION)
}

/// Keeps the `most` terms of the highest score, best first; among equals the more frequent, then the alphabet.
pub(crate) fn keep_best(terms: &mut Vec<Scored>, most: usize) {
    terms.sort_unstable_by(best_first);
    terms.truncate(most);
}

fn best_first(a: &Scored, b: &Scored) -> Ordering {
    b.score.cmp(&a.score).then(b.count.cmp(&a.count)).then_with(|| a.term.cmp(&b.term))
}

/// The binary logarithm with [`LOG_BITS`] digits after the point, cut. Squaring a number of [1, 2) tells its next
/// digit; floating point would leave the last digits to the machine's library.
fn log2(number: u64) -> u64 {
    let whole = number.ilog2();
    let mut mantissa = (u128::from(number) << 63) >> whole;
    let mut log = u64::from(whole);
    for _ in 0..LOG_BITS {
        mantissa = (mantissa * mantissa) >> 63;
        log <<= 1;
        if mantissa >= 1 << 64 {
            mantissa >>= 1;
            log |= 1;
        }
    }
    log
}

impl fmt::Display for Micro {
    /// Three digits after the point, rounded to the nearest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = self.0.saturating_add(500) / 1_000;
        write!(f, "{}.{:03}", thousandths / 1_000, thousandths % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_true_to_its_last_digit() {
        for number in (1..20_000).chain([u64::MAX / 3, u64::MAX]) {
            let expected = (number as f64).log2();
            let got = log2(number) as f64 / f64::from(1_u32 << LOG_BITS);
            assert!((expected - got).abs() < 2e-6, "log2({number}) is {expected}, got {got}");
        }
    }

    #[test]
    fn rare_terms_weigh_more_and_a_term_of_every_file_still_weighs() {
        assert_eq!(rarity(1, 1), Micro(1_000_000));
        assert_eq!(rarity(7, 2), Micro(2_000_000));
        let weights: Vec<_> = (1..=7).map(|files_with| rarity(7, files_with)).collect();
        assert!(weights.is_sorted_by(|a, b| a > b) && weights[6] > Micro(0));
    }

    #[test]
    fn ties_break_by_count_and_then_by_the_alphabet() {
        let scored = |term: &str, score, count| Scored { term: term.to_owned(), score: Micro(score), count };
        let mut terms =
            vec![scored("c", 5, 1), scored("a", 5, 1), scored("d", 5, 2), scored("b", 9, 1), scored("e", 4, 9)];
        keep_best(&mut terms, 4);
        let order: Vec<_> = terms.iter().map(|scored| scored.term.as_str()).collect();
        assert_eq!(order, ["b", "d", "a", "c"]);
    }

    #[test]
    fn many_occurrences_in_one_file_weigh_less_than_as_many_in_several() {
        assert_eq!([1, 2, 9].map(dampened), [Micro(1_000_000), Micro(1_414_213), Micro(3_000_000)]);
    }

    #[test]
    fn numbers_are_shown_with_three_digits() {
        assert_eq!(
            [0, 499, 500, 1_234_567, 12_999_999].map(|micro| Micro(micro).to_string()),
            ["0.000", "0.000", "0.001", "1.235", "13.000"]
        );
        assert_eq!(score(share(1, 4), rarity(1, 1)), Micro(250_000));
    }
}
