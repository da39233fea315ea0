//! The plain pass: one process, one loop over the files, one map. It shares the text functions with the crew and
//! nothing else, no section and no vocabulary, so that what the crew loses or doubles shows in the comparison.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::files::{Listing, Outcome, Skipped, study};
use super::page::{Entry, Page, Report, Summary, TOP_TERMS_SHOWN, Totals};
use super::reading::Reading;
use super::scores::{Micro, Scored, dampened, keep_best, rarity, score};
use super::summary::SECTION_FILES_MAX;

/// Makes the report of a listing in this process alone.
pub(crate) fn report_of_listing(listing: &Listing) -> Report {
    let outcomes: Vec<Outcome> = listing.files.iter().map(|path| study(&listing.root, path)).collect();
    let readings: Vec<&Reading> = outcomes.iter().filter_map(as_reading).collect();
    let terms = Terms::of(&readings);
    let mut totals = Totals::default();
    outcomes.iter().for_each(|outcome| totals.add(Totals::of(outcome)));
    let pages = (1..).zip(outcomes.chunks(SECTION_FILES_MAX));
    let pages: Vec<Page> = pages.map(|(section, outcomes)| page(section, outcomes, &terms)).collect();
    let summary =
        Summary { totals, sections: pages.len() as u64, terms: terms.counts.len() as u64, top_terms: terms.top() };
    Report::assemble(listing, summary, pages)
}

fn page(section: u32, outcomes: &[Outcome], terms: &Terms<'_>) -> Page {
    let rarity = |term: &str| Ok::<_, Infallible>(terms.rarity(term));
    let entry = |reading| Entry::of(reading, rarity).unwrap_or_else(|never| match never {});
    Page {
        section,
        entries: outcomes.iter().filter_map(as_reading).map(entry).collect(),
        skipped: outcomes.iter().filter_map(as_skipped).cloned().collect(),
        missing: Vec::new(),
        repeated: Vec::new(),
    }
}

fn as_reading(outcome: &Outcome) -> Option<&Reading> {
    match outcome {
        Outcome::Read(reading) => Some(reading),
        Outcome::Skipped(_) => None,
    }
}

fn as_skipped(outcome: &Outcome) -> Option<&Skipped> {
    match outcome {
        Outcome::Read(_) => None,
        Outcome::Skipped(skipped) => Some(skipped),
    }
}

/// How often each term occurs in each file that kept it.
struct Terms<'a> {
    files: u64,
    counts: BTreeMap<&'a str, Vec<u64>>,
}

impl<'a> Terms<'a> {
    fn of(readings: &[&'a Reading]) -> Self {
        let mut counts: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for entry in readings.iter().flat_map(|reading| &reading.terms) {
            counts.entry(&entry.term).or_default().push(entry.count);
        }
        Self { files: readings.len() as u64, counts }
    }

    fn rarity(&self, term: &str) -> Micro {
        rarity(self.files, self.counts[term].len() as u64)
    }

    fn top(&self) -> Vec<Scored> {
        let scored = |(term, counts): (&&str, &Vec<u64>)| {
            let frequency = Micro(counts.iter().map(|count| dampened(*count).0).sum());
            let count = counts.iter().sum();
            Scored { term: (*term).to_owned(), score: score(frequency, self.rarity(term)), count }
        };
        let mut top = self.counts.iter().map(scored).collect();
        keep_best(&mut top, TOP_TERMS_SHOWN);
        top
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::compare::compare;
    use super::super::files::{Error, list};
    use super::super::render::render;
    use super::super::summary::{Section, Vocabulary, split};
    use super::*;

    /// Makes the report of `path`, as [`list`] understands it.
    pub(crate) fn report_of(path: Option<&Path>, here: &Path) -> Result<Report, Error> {
        Ok(report_of_listing(&list(path, here)?))
    }

    /// The crew's way without the crew: sections, vocabulary, pages.
    fn merged(listing: &Listing) -> Report {
        let mut sections: Vec<Section> = split(listing).into_iter().map(Section::new).collect();
        for path in listing.files.iter().rev() {
            for section in &mut sections {
                section.collect(study(&listing.root, path));
            }
        }
        let mut vocabulary = Vocabulary::default();
        sections.iter().rev().for_each(|section| assert!(vocabulary.add(&section.terms())));
        let page = |section: &Section| section.page(&vocabulary.weights_for(&section.terms())).expect("fresh weights");
        Report::assemble(listing, vocabulary.summary(), sections.iter().rev().map(page).collect())
    }

    #[test]
    fn the_plain_pass_and_the_merged_one_write_the_same_report_of_this_crate() {
        let sources = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate lies");
        let sources = Path::new(&sources);
        let listing = list(Some(sources), sources).expect("the crate's folder can be listed");
        let plain = report_of(Some(sources), sources).expect("the crate's folder can be listed");
        let merged = merged(&listing);
        assert_eq!(compare(&plain, &merged), []);
        assert_eq!(render(&plain), render(&merged));
        assert!(plain.summary.totals.files > 8, "the crate has more files than that");
    }

    #[test]
    fn a_file_that_became_binary_after_the_listing_is_skipped_by_both() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["a", "b"] {
            fs::write(folder.path().join(name), "wolf").expect("a file");
        }
        let listing = list(Some(folder.path()), folder.path()).expect("a folder can be listed");
        fs::write(folder.path().join("b"), "\0").expect("a file");
        let plain = report_of_listing(&listing);
        assert_eq!(compare(&plain, &merged(&listing)), []);
        assert_eq!((plain.summary.totals.files, plain.summary.totals.files_skipped), (1, 1));
        assert_eq!(plain.skipped.len(), 1);
    }

    #[test]
    fn an_empty_folder_has_an_empty_report() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listing = list(Some(folder.path()), folder.path()).expect("a folder can be listed");
        let plain = report_of_listing(&listing);
        assert_eq!(plain, merged(&listing));
        assert_eq!((plain.summary.totals.files, plain.pages.len()), (0, 0));
    }
}
