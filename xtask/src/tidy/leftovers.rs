//! Nothing is left half done: a marker for later work names its issue, and an ignored test says why.

use super::Finding;
use crate::repository::{File, Repository};
use crate::rust_text::{line_of, places_of};

/// Spelt in two parts, so that this file does not find itself.
const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Code that was meant for a moment.
const MACROS: &[&str] = &["dbg", "todo", "unimplemented"];

/// Other text files with comments. Prose may speak of markers.
const WITH_COMMENTS: &[&str] = &[".toml", ".sh", ".yml", ".yaml", ".sql", ".js", ".ts", ".css", ".html", ".py"];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    repository.files.iter().flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let comments =
        if WITH_COMMENTS.iter().any(|end| file.path.ends_with(end)) { &file.text } else { &file.rust.comments };
    for marker in MARKERS {
        for at in places_of(comments, marker).filter(|at| !names_an_issue(&comments[at + marker.len()..])) {
            findings.push(Finding::new(&file.path, line_of(comments, at), format!("{marker} without an issue number")));
        }
    }
    let code = &file.rust.code;
    for name in MACROS {
        for at in places_of(code, name).filter(|at| code[at + name.len()..].starts_with('!')) {
            findings.push(Finding::new(&file.path, line_of(code, at), format!("`{name}!` is left in the code")));
        }
    }
    for (at, _) in code.match_indices("#[ignore]") {
        findings.push(Finding::new(&file.path, line_of(code, at), "`#[ignore]` without a reason"));
    }
    findings
}

/// The marker is followed by `(#12)` or ` #12`.
fn names_an_issue(after: &str) -> bool {
    let number = after.trim_start_matches(['(', ' ']).strip_prefix('#');
    number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&Repository::of(&[(path, text)])).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_marker_needs_an_issue() {
        let marker = MARKERS[0];
        let text = format!("// {marker}: later\n// {marker}(#12): later\n// {marker} #3\nlet a = \"{marker}\";\n");
        assert_eq!(messages("a.rs", &text), [format!("a.rs:1: {marker} without an issue number")]);
        assert_eq!(messages("a.toml", &format!("# {marker}\n")).len(), 1);
        assert_eq!(messages("a.md", &format!("A {marker} is a promise.\n")).len(), 0);
    }

    #[test]
    fn macros_for_a_moment_are_found() {
        assert_eq!(messages("a.rs", "\nfn a() { dbg!(1); }"), ["a.rs:2: `dbg!` is left in the code"]);
        assert_eq!(messages("a.rs", "// dbg!(1)\nlet todo = 1;").len(), 0);
    }

    #[test]
    fn an_ignored_test_says_why() {
        assert_eq!(messages("a.rs", "#[ignore]\nfn a() {}"), ["a.rs:1: `#[ignore]` without a reason"]);
        assert_eq!(messages("a.rs", "#[ignore = \"needs a database\"]\nfn a() {}").len(), 0);
    }
}
