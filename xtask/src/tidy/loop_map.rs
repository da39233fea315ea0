//! The loop map of ARCHITECTURE.md is fresh: it names every file that starts a loop, and no other.

use std::collections::BTreeSet;

use super::{Finding, absences};
use crate::repository::Repository;
use crate::rust_text::line_of;

const MAP: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- loops -->";
const END: &str = "<!-- /loops -->";

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let Some(map) = repository.file(MAP) else {
        return vec![Finding::new(MAP, 1, "is missing, and with it the loop map")];
    };
    let Some((line, table)) = between_marks(&map.text) else {
        return vec![Finding::new(MAP, 1, format!("has no loop map between `{BEGIN}` and `{END}`"))];
    };
    let named = files_named(table);
    let starting = files_that_start_loops(repository);
    let missing = starting.difference(&named).map(|path| format!("the loop map does not name {path}"));
    let stale = named.difference(&starting).map(|path| format!("the loop map names {path}, which starts no loop"));
    missing.chain(stale).map(|message| Finding::new(MAP, line, message)).collect()
}

fn between_marks(text: &str) -> Option<(usize, &str)> {
    let begin = text.find(BEGIN)?;
    let length = text[begin..].find(END)?;
    Some((line_of(text, begin), &text[begin..begin + length]))
}

/// The paths of Rust files between backticks.
fn files_named(table: &str) -> BTreeSet<&str> {
    table.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs")).collect()
}

fn files_that_start_loops(repository: &Repository) -> BTreeSet<&str> {
    let files = repository.rust_files_under("crates/");
    files.filter(|file| !absences::spawn_lines(file).is_empty()).map(|file| file.path.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPS: (&str, &str) = ("crates/pelago-node/src/loops.rs", "fn a() { set.spawn(b()); }");

    fn messages(map: &str) -> Vec<String> {
        check(&Repository::of(&[(MAP, map), LOOPS])).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_fresh_map_names_every_file_that_starts_a_loop() {
        let map = "# A\n<!-- loops -->\n| loop | starts in |\n\
                   | turn | `crates/pelago-node/src/loops.rs` |\n<!-- /loops -->\n";
        assert_eq!(messages(map), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_is_not_named_and_one_that_starts_nothing_are_found() {
        let map = "<!-- loops -->\n`crates/pelago-node/src/gone.rs`\n<!-- /loops -->";
        assert_eq!(
            messages(map),
            [
                "the loop map does not name crates/pelago-node/src/loops.rs",
                "the loop map names crates/pelago-node/src/gone.rs, which starts no loop"
            ]
        );
    }

    #[test]
    fn a_missing_map_is_found() {
        assert_eq!(messages("# A\n").len(), 1);
        assert_eq!(check(&Repository::of(&[LOOPS])).len(), 1);
    }
}
