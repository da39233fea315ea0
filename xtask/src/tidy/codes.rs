//! Every code of a problem stands in the reference, and none that no program says.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use crate::repository::{File, Repository};

const REFERENCE: &str = "docs/http.md";
/// Spelt in two parts, so that this file does not find itself.
const PREFIX: &str = concat!("PLG", "-");
const DIGITS: usize = 4;

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut said = BTreeMap::new();
    for file in repository.files.iter().filter(|file| is_production(&file.path)) {
        for (line, number) in file.text.lines().zip(1..) {
            for code in codes(line).chain(numbered(file, line)) {
                said.entry(code.to_owned()).or_insert((file.path.as_str(), number));
            }
        }
    }
    let Some(reference) = repository.files.iter().find(|file| file.path == REFERENCE) else {
        return vec![Finding::new(REFERENCE, 1, "the reference of all codes is missing")];
    };
    let rows = reference.text.lines().zip(1..);
    let rows: BTreeMap<&str, usize> = rows.filter_map(|(line, number)| Some((row(line)?, number))).collect();
    let known: BTreeSet<&str> = rows.keys().copied().collect();
    let missing = said
        .iter()
        .filter(|(code, _)| !known.contains(code.as_str()))
        .map(|(code, (path, line))| Finding::new(path, *line, format!("{PREFIX}{code} has no row in {REFERENCE}")));
    let stale = rows.iter().filter(|(code, _)| !said.contains_key(**code));
    missing
        .chain(stale.map(|(code, line)| Finding::new(REFERENCE, *line, format!("nothing says {PREFIX}{code}"))))
        .collect()
}

fn is_production(path: &str) -> bool {
    path.starts_with("crates/") && path.contains("/src/") && path.ends_with(".rs")
}

/// Codes that are written out.
fn codes(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices(PREFIX).filter_map(|(at, _)| digits(&line[at + PREFIX.len()..]))
}

/// Codes in the tables of them, where only their numbers stand: `Name = 2001, …`.
fn numbered<'l>(file: &File, line: &'l str) -> Option<&'l str> {
    let is_table = file.path.contains("/problem");
    let (_name, rest) = line.split_once(" = ").filter(|_| is_table)?;
    digits(rest).filter(|_| rest[DIGITS..].starts_with(','))
}

/// The code of a row of the reference.
fn row(line: &str) -> Option<&str> {
    digits(line.strip_prefix("| ")?.strip_prefix(PREFIX)?)
}

fn digits(text: &str) -> Option<&str> {
    text.get(..DIGITS).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(source: &str, reference: &str) -> Vec<String> {
        let repository = Repository::of(&[
            ("crates/a/src/problem.rs", source),
            ("crates/a/tests/a.rs", &format!("\"{PREFIX}9999\"")),
            (REFERENCE, reference),
        ]);
        check(&repository).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_code_without_a_row_and_a_row_without_a_code_are_found() {
        let source = format!("    Unknown = 1001,\nproblem(\"{PREFIX}3001\", 400)\nconst MAX: u64 = 5000;\n");
        let both = format!("| {PREFIX}1001 | a |\n| {PREFIX}3001 | b |\n");
        assert_eq!(findings(&source, &both), [""; 0]);
        let one = format!("see {PREFIX}1001\n| {PREFIX}3001 | b |\n| {PREFIX}3002 | c |\n");
        let expected = [
            format!("crates/a/src/problem.rs:1: {PREFIX}1001 has no row in {REFERENCE}"),
            format!("{REFERENCE}:3: nothing says {PREFIX}3002"),
        ];
        assert_eq!(findings(&source, &one), expected);
    }
}
