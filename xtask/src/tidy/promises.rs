//! docs/promises.md has every promise once, and each kept one names a test that exists.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use crate::repository::Repository;
use crate::rust_text::identifiers;

const TABLE: &str = "docs/promises.md";

/// The designs and how many promises each makes: S0-01 to S0-69, and so on. They never change.
const DESIGNS: &[(&str, usize)] = &[("S0", 69), ("S1", 60), ("S2", 71), ("S3", 80), ("S4", 42)];

struct Row<'a> {
    line: usize,
    id: &'a str,
    state: &'a str,
    shown_by: &'a str,
}

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let Some(table) = repository.file(TABLE) else {
        return vec![Finding::new(TABLE, 1, "is missing")];
    };
    let rows: Vec<Row<'_>> = table.text.lines().zip(1..).filter_map(|(text, line)| row(text, line)).collect();
    let functions = functions_of(repository);
    let mut findings = check_ids(&rows);
    findings.extend(rows.iter().flat_map(|row| check_row(row, &functions)));
    findings
}

/// `| S0-01 | promise | state | shown by |`; None for any other line. Counted from both ends, because a promise may
/// hold an escaped bar.
fn row(text: &str, line: usize) -> Option<Row<'_>> {
    let cells: Vec<&str> = text.split('|').map(str::trim).collect();
    match cells.as_slice() {
        ["", id, _, .., state, shown_by, ""] if id.starts_with('S') => Some(Row { line, id, state, shown_by }),
        _ => None,
    }
}

fn check_ids(rows: &[Row<'_>]) -> Vec<Finding> {
    let mut times: BTreeMap<String, usize> = all_ids().map(|id| (id, 0)).collect();
    let mut findings = Vec::new();
    for row in rows {
        match times.get_mut(row.id) {
            None => findings.push(Finding::new(TABLE, row.line, format!("{} is no promise", row.id))),
            Some(0) => drop(times.insert(row.id.to_owned(), 1)),
            Some(_) => findings.push(Finding::new(TABLE, row.line, format!("{} stands here twice", row.id))),
        }
    }
    let missing = times.into_iter().filter(|(_, times)| *times == 0);
    findings.extend(missing.map(|(id, _)| Finding::new(TABLE, 1, format!("{id} is missing"))));
    findings
}

fn all_ids() -> impl Iterator<Item = String> {
    DESIGNS.iter().flat_map(|(design, count)| (1..=*count).map(move |number| format!("{design}-{number:02}")))
}

fn check_row(row: &Row<'_>, functions: &BTreeSet<&str>) -> Vec<Finding> {
    let named: Vec<&str> = row.shown_by.split('`').skip(1).step_by(2).filter(|name| is_test_name(name)).collect();
    let mut findings = Vec::new();
    if !matches!(row.state, "kept" | "partly" | "not yet") {
        let message = format!("{}: the state is `kept`, `partly` or `not yet`, not `{}`", row.id, row.state);
        findings.push(Finding::new(TABLE, row.line, message));
    }
    if row.state == "kept" && named.is_empty() {
        findings.push(Finding::new(TABLE, row.line, format!("{} is kept, but no test shows it", row.id)));
    }
    for name in named.into_iter().filter(|name| !functions.contains(last_part(name))) {
        findings.push(Finding::new(TABLE, row.line, format!("{}: there is no test `{name}`", row.id)));
    }
    findings
}

/// What stands between backticks is a test unless it is a path or a command.
fn is_test_name(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
}

fn last_part(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

/// The names of all functions. Those of a conformance suite are no tests by themselves, but they are what shows.
fn functions_of(repository: &Repository) -> BTreeSet<&str> {
    let files = repository.rust_files_under("crates/").chain(repository.rust_files_under("xtask/"));
    let mut names = BTreeSet::new();
    for file in files {
        let mut previous = "";
        for (_, word) in identifiers(&file.rust.code) {
            if previous == "fn" {
                names.insert(word);
            }
            previous = word;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings for a table whose first row is `first` and whose others are all there.
    fn messages(first: &str) -> Vec<String> {
        let others = all_ids().skip(1).map(|id| format!("| {id} | a \\| b | not yet | |\n"));
        let table = format!("# Promises\n{first}\n{}", others.collect::<String>());
        let code = ("crates/pelago-core/src/lib.rs", "#[test]\nfn a_thing_holds() {}");
        let findings = check(&Repository::of(&[(TABLE, &table), code]));
        findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_whole_table_with_its_tests_is_fine() {
        assert_eq!(messages("| S0-01 | a | not yet | |"), Vec::<String>::new());
        assert_eq!(messages("| S0-01 | a | kept | `core::a_thing_holds`, `docs/a.md` |"), Vec::<String>::new());
    }

    #[test]
    fn a_kept_promise_names_a_test_that_exists() {
        assert_eq!(messages("| S0-01 | a | kept | |"), ["S0-01 is kept, but no test shows it"]);
        assert_eq!(messages("| S0-01 | a | kept | `a_thing_held` |"), ["S0-01: there is no test `a_thing_held`"]);
        assert_eq!(messages("| S0-01 | a | partly | `gone` |"), ["S0-01: there is no test `gone`"]);
    }

    #[test]
    fn a_state_is_one_of_three() {
        assert_eq!(
            messages("| S0-01 | a | done | |"),
            ["S0-01: the state is `kept`, `partly` or `not yet`, not `done`"]
        );
    }

    #[test]
    fn every_id_stands_there_once() {
        assert_eq!(messages(""), ["S0-01 is missing"]);
        assert_eq!(messages("| S0-02 | a | not yet | |"), ["S0-02 stands here twice", "S0-01 is missing"]);
        assert_eq!(messages("| S9-01 | a | not yet | |"), ["S9-01 is no promise", "S0-01 is missing"]);
    }
}
