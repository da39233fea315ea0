//! Every crate root forbids unsafe code.

use super::Finding;
use crate::cargo::{Package, Target};
use crate::repository::Repository;

/// Crate roots that need unsafe code, with the reason beside each. None does.
const EXCEPTIONS: &[&str] = &[];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let targets = repository.metadata.packages.iter().flat_map(roots);
    targets.filter_map(|target| check_root(repository, target)).collect()
}

/// The libraries and binaries of a package.
fn roots(package: &Package) -> impl Iterator<Item = &Target> {
    package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "lib" || kind == "bin"))
}

fn check_root(repository: &Repository, target: &Target) -> Option<Finding> {
    let path = target.src_path.strip_prefix(&repository.root).unwrap_or(&target.src_path);
    let path = path.to_string_lossy().replace('\\', "/");
    let forbids = repository.file(&path).is_some_and(|file| file.rust.code.contains("#![forbid(unsafe_code)]"));
    if forbids || EXCEPTIONS.contains(&path.as_str()) {
        return None;
    }
    Some(Finding::new(&path, 1, "the crate does not say `#![forbid(unsafe_code)]`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        let mut repository = Repository::of(&[("crates/a/src/lib.rs", text)]);
        repository.root = "/checkout".into();
        let root = Target { kind: vec!["lib".to_owned()], src_path: "/checkout/crates/a/src/lib.rs".into() };
        let package = Package { targets: vec![root], ..Package::default() };
        repository.metadata.packages.push(package);
        check(&repository).len()
    }

    #[test]
    fn a_crate_root_forbids_unsafe_code() {
        assert_eq!(findings("//! A.\n#![forbid(unsafe_code)]\n"), 0);
        assert_eq!(findings("//! A.\n"), 1);
        assert_eq!(findings("// #![forbid(unsafe_code)]\n"), 1);
    }
}
