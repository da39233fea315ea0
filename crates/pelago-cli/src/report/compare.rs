//! Tells two reports of the same files apart: what one lost, doubled or changed.

use std::collections::BTreeMap;

use super::files::Skipped;
use super::page::{Entry, Report};

/// One difference between the report that is expected and another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Difference {
    #[error("{path} is missing")]
    Missing { path: String },
    #[error("{path} stands there {times} times")]
    Doubled { path: String, times: u64 },
    #[error("{path} is not expected")]
    Unexpected { path: String },
    #[error("{path} differs in {what}")]
    Changed { path: String, what: &'static str },
    #[error("the summary differs in {what}")]
    Summary { what: &'static str },
}

/// Returns the differences of `found` from `expected`, by path, those of the summary last.
pub(crate) fn compare(expected: &Report, found: &Report) -> Vec<Difference> {
    let mut differences = Vec::new();
    let expected_said = Said::by_path(expected);
    let mut found_said = Said::by_path(found);
    for (path, said) in &expected_said {
        match found_said.remove(path) {
            Some(other) => differences.extend(said.differences(path, &other)),
            None => differences.push(Difference::Missing { path: (*path).to_owned() }),
        }
    }
    differences.extend(found_said.into_keys().map(|path| Difference::Unexpected { path: path.to_owned() }));
    differences.extend(differences_of_summary(expected, found));
    differences
}

/// All that a report says of one path.
#[derive(Default)]
struct Said<'a> {
    entries: Vec<&'a Entry>,
    skipped: Vec<&'a Skipped>,
    /// How often a section was told the outcome once more.
    repeated: u64,
}

impl<'a> Said<'a> {
    fn by_path(report: &'a Report) -> BTreeMap<&'a str, Self> {
        let mut said: BTreeMap<&str, Self> = BTreeMap::new();
        for entry in report.pages.iter().flat_map(|page| &page.entries) {
            said.entry(&entry.path).or_default().entries.push(entry);
        }
        for skipped in &report.skipped {
            said.entry(&skipped.path).or_default().skipped.push(skipped);
        }
        for path in report.pages.iter().flat_map(|page| &page.repeated) {
            said.entry(path).or_default().repeated += 1;
        }
        said
    }

    fn times(&self) -> u64 {
        (self.entries.len() + self.skipped.len()) as u64 + self.repeated
    }

    fn differences(&self, path: &str, found: &Self) -> Vec<Difference> {
        let path = path.to_owned();
        // A folder in which one entry cannot be read may be skipped more than once, so the expected number counts.
        if found.times() > self.times() {
            return vec![Difference::Doubled { path, times: found.times() }];
        }
        if found.times() < self.times() {
            return vec![Difference::Missing { path }];
        }
        self.changes(found).into_iter().map(|what| Difference::Changed { path: path.clone(), what }).collect()
    }

    fn changes(&self, found: &Self) -> Vec<&'static str> {
        if self.skipped != found.skipped || self.entries.len() != found.entries.len() {
            return vec!["whether and why it is skipped"];
        }
        self.entries
            .iter()
            .zip(&found.entries)
            .flat_map(|(expected, found)| changes_of_entry(expected, found))
            .collect()
    }
}

fn changes_of_entry(expected: &Entry, found: &Entry) -> Vec<&'static str> {
    let Entry { path: _, size, terms_distinct, outline, top_terms, key_sentences } = expected;
    let changed = [
        ("its size", *size != found.size),
        ("its number of terms", *terms_distinct != found.terms_distinct),
        ("its outline", *outline != found.outline),
        ("its top terms", *top_terms != found.top_terms),
        ("its key sentences", *key_sentences != found.key_sentences),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(what, _)| what).collect()
}

fn differences_of_summary(expected: &Report, found: &Report) -> Vec<Difference> {
    let changed = [
        ("its totals", expected.summary.totals != found.summary.totals),
        ("its number of sections", expected.summary.sections != found.summary.sections),
        ("its number of terms", expected.summary.terms != found.summary.terms),
        ("its top terms", expected.summary.top_terms != found.summary.top_terms),
        ("the folders passed over", expected.folders_passed_over != found.folders_passed_over),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(what, _)| Difference::Summary { what }).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::files::Reason;
    use super::super::single::tests::report_of;
    use super::*;

    fn report() -> Report {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in [("a.md", "# Wolf\n"), ("b.md", "# Raven\n"), ("c.md", "# Lake\n"), ("d.bin", "\0")] {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        report_of(Some(folder.path()), Path::new("/")).expect("a folder can be listed")
    }

    fn differences(change: impl FnOnce(&mut Report)) -> Vec<Difference> {
        let expected = report();
        let mut found = expected.clone();
        change(&mut found);
        compare(&expected, &found)
    }

    fn path(path: &str) -> String {
        path.to_owned()
    }

    #[test]
    fn equal_reports_have_no_difference() {
        assert_eq!(differences(|_| ()), []);
    }

    #[test]
    fn a_dropped_file_is_found() {
        let found = differences(|report| _ = report.pages[0].entries.remove(1));
        assert_eq!(found, [Difference::Missing { path: path("b.md") }]);
        let found = differences(|report| report.skipped.clear());
        assert_eq!(found, [Difference::Missing { path: path("d.bin") }]);
    }

    #[test]
    fn a_doubled_file_is_found_in_its_page_in_another_and_in_what_its_section_tells() {
        let doubled = [Difference::Doubled { path: path("a.md"), times: 2 }];
        let in_its_page = |report: &mut Report| {
            let entry = report.pages[0].entries[0].clone();
            report.pages[0].entries.push(entry);
        };
        assert_eq!(differences(in_its_page), doubled);
        let in_another = |report: &mut Report| {
            let mut page = report.pages[0].clone();
            page.entries.truncate(1);
            report.pages.push(page);
        };
        assert_eq!(differences(in_another), doubled);
        assert_eq!(differences(|report| report.pages[0].repeated.push(path("a.md"))), doubled);
    }

    #[test]
    fn a_changed_file_is_found_with_what_changed() {
        let found = differences(|report| {
            let entry = &mut report.pages[0].entries[2];
            entry.size.words += 1;
            entry.key_sentences.clear();
        });
        let changed = |what| Difference::Changed { path: path("c.md"), what };
        assert_eq!(found, [changed("its size"), changed("its key sentences")]);
    }

    #[test]
    fn a_file_that_was_skipped_where_it_should_be_read_is_changed() {
        let found = differences(|report| {
            let entry = report.pages[0].entries.remove(0);
            report.skipped.push(Skipped { path: entry.path, reason: Reason::Binary });
        });
        assert_eq!(found, [Difference::Changed { path: path("a.md"), what: "whether and why it is skipped" }]);
    }

    #[test]
    fn an_unexpected_file_and_a_wrong_sum_are_found() {
        let found = differences(|report| {
            report.pages[0].entries[0].path = path("x.md");
            report.summary.totals.size.bytes += 1;
        });
        let expected = [
            Difference::Missing { path: path("a.md") },
            Difference::Unexpected { path: path("x.md") },
            Difference::Summary { what: "its totals" },
        ];
        assert_eq!(found, expected);
    }
}
