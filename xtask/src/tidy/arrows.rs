//! Crates depend only downwards, and a library that stands for a subject is known to one crate only.

use super::Finding;
use crate::cargo::{Dependency, Package};
use crate::repository::Repository;

/// The house from the ground up: a crate may depend on those of the floors below.
/// A new crate needs a place here, and a reason in ARCHITECTURE.md.
const FLOORS: &[&[&str]] = &[
    &["pelago-core"],
    &["pelago-wire"],
    &["pelago-net", "pelago-store"],
    &["pelago-node"],
    &["pelago-api"],
    &["pelago"],
    &["pelago-cli"],
];

/// Crates beside the house, with all they may depend on.
const BESIDE: &[(&str, &[&str])] = &[("pelago-sim", &["pelago-core", "pelago-wire", "pelago-node"]), ("xtask", &[])];

/// What the tests of a crate may use besides: the simulator's rows pass the suite that every store passes.
const IN_TESTS: &[(&str, &str)] = &[("pelago-store", "pelago-sim")];

/// Libraries, with those named after them, and the one crate that may use each.
const HOMES: &[(&str, &str)] = &[
    ("axum", "pelago-api"),
    ("hyper", "pelago-api"),
    ("reqwest", "pelago-api"),
    ("rusqlite", "pelago-store"),
    ("openraft", "pelago-node"),
    ("foca", "pelago-core"),
];

/// Core decides from (state, time, input): nothing in it may wait or throw dice.
const NEVER_IN_CORE: &[&str] = &["tokio", "futures", "rand", "getrandom"];

/// The trait by which dice are passed in, which has none itself.
const DICE_OF_OTHERS: &str = "rand_core";

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &repository.metadata.packages {
        let path = repository.relative(&package.manifest_path);
        findings.extend(check_package(package).into_iter().map(|message| Finding::new(&path, 1, message)));
    }
    findings
}

/// What is wrong with the dependencies of one package.
fn check_package(package: &Package) -> Vec<String> {
    if !is_ours(&package.name) {
        return vec![format!("{} has no place in the house of xtask's arrows check", package.name)];
    }
    let dependencies = package.dependencies.iter();
    dependencies.filter_map(|dependency| check_dependency(package, dependency)).collect()
}

fn check_dependency(package: &Package, dependency: &Dependency) -> Option<String> {
    let name = dependency.name.as_str();
    let in_tests = dependency.kind.as_deref() == Some("dev") && IN_TESTS.contains(&(&package.name, name));
    let reason = if is_ours(name) && !in_tests && !may_depend(&package.name, name) {
        "it stands above or beside".to_owned()
    } else if let Some(home) = foreign_home(package, dependency) {
        format!("only {home} does")
    } else if package.name == "pelago-core"
        && name != DICE_OF_OTHERS
        && NEVER_IN_CORE.iter().any(|family| belongs(name, family))
    {
        "core only decides".to_owned()
    } else {
        return None;
    };
    Some(format!("{} must not depend on {name}: {reason}", package.name))
}

fn is_ours(name: &str) -> bool {
    floor(name).is_some() || beside(name).is_some()
}

fn may_depend(upper: &str, lower: &str) -> bool {
    match beside(upper) {
        Some(allowed) => allowed.contains(&lower),
        None => floor(lower).is_some() && floor(lower) < floor(upper),
    }
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|crates| crates.contains(&name))
}

fn beside(name: &str) -> Option<&'static [&'static str]> {
    BESIDE.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, allowed)| *allowed)
}

/// The only crate that may use this dependency, if that is another one. Tests may use what they like.
fn foreign_home(package: &Package, dependency: &Dependency) -> Option<&'static str> {
    if dependency.kind.as_deref() == Some("dev") {
        return None;
    }
    let (_, home) = HOMES.iter().find(|(family, _)| belongs(&dependency.name, family))?;
    (*home != package.name).then_some(*home)
}

fn belongs(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(package: &str, dependency: &str, kind: Option<&str>) -> usize {
        let dependency = Dependency { name: dependency.to_owned(), kind: kind.map(str::to_owned) };
        let package = Package { name: package.to_owned(), dependencies: vec![dependency], ..Package::default() };
        check_package(&package).len()
    }

    #[test]
    fn the_store_uses_the_simulator_in_tests_only() {
        assert_eq!(findings("pelago-store", "pelago-sim", Some("dev")), 0);
        assert_eq!(findings("pelago-store", "pelago-sim", None), 1);
        assert_eq!(findings("pelago-core", "pelago-sim", Some("dev")), 1);
    }

    #[test]
    fn a_crate_may_look_down_and_not_up_or_aside() {
        assert_eq!(findings("pelago-node", "pelago-store", None), 0);
        assert_eq!(findings("pelago-store", "pelago-node", None), 1);
        assert_eq!(findings("pelago-store", "pelago-net", None), 1);
        assert_eq!(findings("pelago-core", "pelago-sim", Some("dev")), 1);
        assert_eq!(findings("pelago-node", "pelago-sim", Some("dev")), 1);
        assert_eq!(findings("pelago-new", "serde", None), 1);
    }

    #[test]
    fn the_simulator_sees_the_cores_and_whole_nodes_only() {
        assert_eq!(findings("pelago-sim", "pelago-core", None), 0);
        assert_eq!(findings("pelago-sim", "pelago-node", None), 0);
        assert_eq!(findings("pelago-sim", "pelago-store", None), 1);
    }

    #[test]
    fn a_library_with_a_home_is_used_only_there() {
        assert_eq!(findings("pelago-api", "hyper-util", None), 0);
        assert_eq!(findings("pelago-cli", "reqwest", None), 1);
        assert_eq!(findings("pelago-cli", "reqwest", Some("dev")), 0);
        assert_eq!(findings("pelago-node", "rusqlite", None), 1);
        assert_eq!(findings("pelago-store", "openraft", None), 1);
    }

    #[test]
    fn core_has_no_runtime_and_no_dice() {
        assert_eq!(findings("pelago-core", "blake3", None), 0);
        assert_eq!(findings("pelago-core", "tokio-util", None), 1);
        assert_eq!(findings("pelago-core", "rand_chacha", None), 1);
        assert_eq!(findings("pelago-core", "getrandom", Some("dev")), 1);
    }
}
