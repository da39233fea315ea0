//! Nothing in the repository points out of it: a stranger has the clone and nothing else.

use super::Finding;
use crate::repository::{File, Repository};

/// Files that name where crates come from, because that is their purpose.
const EXCEPTIONS: &[&str] =
    &["Cargo.lock", "bench/peers/etcd/Cargo.lock", "bench/peers/tonic/Cargo.lock", "deny.toml", "fuzz/Cargo.lock"];

/// Spelt in two parts, so that this file does not find itself.
const REGISTRIES: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("deb", ".debian"),
];

const BESIDE: &str = concat!("..", "/shared");

/// A directory of the machines where Pelago was first built.
const FOREIGN_DIRECTORY: &str = concat!("/wo", "rk");

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let files = repository.files.iter().filter(|file| !EXCEPTIONS.contains(&file.path.as_str()));
    files.flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let lines = file.text.lines().zip(1..);
    lines.filter_map(|(line, number)| Some(Finding::new(&file.path, number, points_outside(line)?))).collect()
}

fn points_outside(line: &str) -> Option<String> {
    if let Some(registry) = REGISTRIES.iter().find(|registry| line.contains(**registry)) {
        return Some(format!("names the registry {registry}"));
    }
    if line.contains(BESIDE) {
        return Some(format!("points to {BESIDE}"));
    }
    names_foreign_directory(line).then(|| format!("names a path under {FOREIGN_DIRECTORY}"))
}

/// The directory as the start of a path, and not as a part of another path or word.
fn names_foreign_directory(line: &str) -> bool {
    line.match_indices(FOREIGN_DIRECTORY).any(|(at, found)| {
        let before = line[..at].chars().next_back();
        let after = line[at + found.len()..].chars().next();
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}');
        !before.is_some_and(goes_on) && !after.is_some_and(|c| c != '/' && (c.is_alphanumeric() || "_-".contains(c)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&Repository::of(&[(path, text)])).len()
    }

    #[test]
    fn registries_are_named_only_where_crates_come_from() {
        let text = format!("see https://{}/crates/a", REGISTRIES[0]);
        assert_eq!(findings("README.md", &text), 1);
        assert_eq!(findings("Cargo.lock", &text), 0);
    }

    #[test]
    fn paths_out_of_the_clone_are_found() {
        assert_eq!(findings("README.md", &format!("see `{BESIDE}/DESIGN.md`")), 1);
        assert_eq!(findings("README.md", &format!("see `{FOREIGN_DIRECTORY}/main`\nand {FOREIGN_DIRECTORY}")), 2);
    }

    #[test]
    fn a_directory_of_that_name_elsewhere_is_fine() {
        for place in ["src", ".", "{root}"] {
            assert_eq!(findings("README.md", &format!("{place}{FOREIGN_DIRECTORY}/main")), 0, "{place}");
        }
        assert_eq!(findings("README.md", &format!("{FOREIGN_DIRECTORY}er/main")), 0);
    }
}
