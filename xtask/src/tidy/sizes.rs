//! Long files, for a reader to look at. A number is no verdict, so this is a report and not a check.

use super::Finding;
use crate::repository::Repository;

/// Most files that say one thing are shorter.
const LINES_MAX: usize = 500;

pub(super) fn long_files(repository: &Repository) -> Vec<Finding> {
    let files = repository.rust_files_under("crates/").chain(repository.rust_files_under("xtask/"));
    files
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| Finding::new(&file.path, lines, format!("{lines} lines: does it say one thing?")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_reported() {
        let long = "\n".repeat(LINES_MAX + 1);
        let short = "\n".repeat(LINES_MAX);
        let repository = Repository::of(&[("crates/a/src/long.rs", &long), ("crates/a/src/short.rs", &short)]);
        let notes = long_files(&repository);
        assert_eq!(notes.len(), 1);
        assert_eq!(notes[0].path, "crates/a/src/long.rs");
    }
}
