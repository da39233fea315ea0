//! Finds what somebody meant to write.

/// The candidate nearest to `text`, if one is near enough to be meant. The first of equals wins.
#[must_use]
pub fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let near = candidates.into_iter().filter_map(|candidate| Some((slips(text, candidate)?, candidate)));
    near.min_by_key(|(slips, _)| *slips).map(|(_, candidate)| candidate)
}

/// Up to three candidates near enough to be meant, the nearest first.
#[must_use]
pub fn nearest_few<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Vec<&'c str> {
    let near = candidates.into_iter().filter_map(|candidate| Some((slips(text, candidate)?, candidate)));
    let mut near: Vec<_> = near.collect();
    near.sort();
    near.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

/// How many letters differ, if so few that `candidate` may be meant.
fn slips(text: &str, candidate: &str) -> Option<usize> {
    let slips = distance(text, candidate);
    // A third of the letters wrong is a slip; more is another word.
    (slips <= text.len().max(candidate.len()).div_ceil(3)).then_some(slips)
}

/// How many letters to insert, delete, replace or swap with a neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = cell(&rows, &a, &b, i, j);
        }
    }
    rows[a.len()][b.len()]
}

fn cell(rows: &[Vec<usize>], a: &[char], b: &[char], i: usize, j: usize) -> usize {
    if i == 0 || j == 0 {
        return i + j;
    }
    let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
    let best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
    if swapped { best.min(rows[i - 2][j - 2] + 1) } else { best }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let keys = ["listen_addr", "labels", "peers", "name"];
        assert_eq!(nearest("listen_adr", keys), Some("listen_addr"));
        assert_eq!(nearest("peesr", keys), Some("peers"));
        assert_eq!(nearest("listen_address", keys), Some("listen_addr"));
        assert_eq!(nearest("timeout", keys), None);
        assert_eq!(nearest("x", []), None);
        assert_eq!(nearest_few("counte", ["echo", "counters", "counter"]), ["counter", "counters"]);
    }
}
