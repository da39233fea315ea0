//! Merging: readings into sections, sections into one vocabulary, and the vocabulary's weights back into pages.
//!
//! ```text
//!  Section ──terms()──► Vocabulary::add … all sections … ──weights_for()──► Section::page ──► Page
//!                                                        └─summary()──────────────────────► Summary
//! ```
//!
//! Sums and sorted maps only, so no order of arrival shows in the result. What arrives twice is not counted twice, but
//! it is told: in a mesh that keeps its word a result arrives once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::files::{Listing, Outcome};
use super::page::{Entry, Page, Summary, TOP_TERMS_SHOWN, Totals};
use super::reading::Reading;
use super::scores::{Micro, Scored, dampened, keep_best, rarity, score};

/// Most files of a section. Sixteen readings of the worst kind, with the longest paths, stay below
/// [`RECORD_BYTES_MAX`](super::RECORD_BYTES_MAX) as JSON; a test holds them to it.
pub(crate) const SECTION_FILES_MAX: usize = 16;

/// The files of one section, numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) section: u32,
    pub(crate) files: Vec<String>,
}

/// Splits the text files of a listing into sections, in order.
pub(crate) fn split(listing: &Listing) -> Vec<Assignment> {
    let chunks = (1..).zip(listing.files.chunks(SECTION_FILES_MAX));
    chunks.map(|(section, files)| Assignment { section, files: files.to_vec() }).collect()
}

/// What has come in of a section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Section {
    number: u32,
    awaited: BTreeSet<String>,
    outcomes: BTreeMap<String, Outcome>,
    repeated: BTreeSet<String>,
}

/// What became of an outcome that was handed to a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// It was awaited.
    New,
    /// There was one of this file before.
    Repeated,
    /// The section does not hold this file.
    NotMine,
}

impl Section {
    /// Begins a section that awaits all its files.
    pub(crate) fn new(assignment: Assignment) -> Self {
        Self {
            number: assignment.section,
            awaited: assignment.files.into_iter().collect(),
            outcomes: BTreeMap::new(),
            repeated: BTreeSet::new(),
        }
    }

    /// Takes in the outcome of one file. Of two different ones for a file the lesser stays, whichever came first.
    pub(crate) fn collect(&mut self, outcome: Outcome) -> Collected {
        let path = outcome.path().to_owned();
        if self.awaited.remove(&path) {
            self.outcomes.insert(path, outcome);
            return Collected::New;
        }
        let Some(known) = self.outcomes.get_mut(&path) else {
            return Collected::NotMine;
        };
        if outcome < *known {
            *known = outcome;
        }
        self.repeated.insert(path);
        Collected::Repeated
    }

    /// Returns the section's number.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Tells whether every file has its outcome.
    pub(crate) fn is_complete(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Returns the section's part of the vocabulary.
    pub(crate) fn terms(&self) -> SectionTerms {
        let mut terms = SectionTerms { section: self.number, totals: Totals::default(), terms: BTreeMap::new() };
        for outcome in self.outcomes.values() {
            terms.totals.add(Totals::of(outcome));
            if let Outcome::Read(reading) = outcome {
                terms.add(reading);
            }
        }
        terms
    }

    /// Returns the section's page of the report, scored by the weights of its terms.
    ///
    /// # Errors
    /// [`StaleWeights`] if the section holds a term that it did not hold when the weights were made.
    pub(crate) fn page(&self, weights: &Weights) -> Result<Page, StaleWeights> {
        let mut page = Page {
            section: self.number,
            entries: Vec::new(),
            skipped: Vec::new(),
            missing: self.awaited.iter().cloned().collect(),
            repeated: self.repeated.iter().cloned().collect(),
        };
        for outcome in self.outcomes.values() {
            match outcome {
                Outcome::Read(reading) => page.entries.push(weights.entry(self.number, reading)?),
                Outcome::Skipped(skipped) => page.skipped.push(skipped.clone()),
            }
        }
        Ok(page)
    }
}

/// The weights are of an earlier state of the section; new ones have to be made from its terms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("section {section} has come to hold {term:?} since its weights were made")]
pub(crate) struct StaleWeights {
    section: u32,
    term: String,
}

/// How files use a term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Use {
    /// Files that have it among the terms they kept.
    pub(crate) files: u64,
    /// How often it occurs in them.
    pub(crate) count: u64,
    /// The sum over them of how much its count there weighs.
    pub(crate) frequency: Micro,
}

impl Use {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.count += other.count;
        self.frequency.0 += other.frequency.0;
    }
}

/// A section's part of the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SectionTerms {
    pub(crate) section: u32,
    pub(crate) totals: Totals,
    pub(crate) terms: BTreeMap<String, Use>,
}

impl SectionTerms {
    fn add(&mut self, reading: &Reading) {
        for entry in &reading.terms {
            let usage = Use { files: 1, count: entry.count, frequency: dampened(entry.count) };
            self.terms.entry(entry.term.clone()).or_default().add(usage);
        }
    }
}

/// The terms of all sections. It may outgrow a record, so it is never stored or sent: it is memory, and can be made
/// again from the sections. `FILES_MAX` and `TERMS_MAX` bound it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vocabulary {
    sections: BTreeSet<u32>,
    totals: Totals,
    terms: BTreeMap<String, Use>,
}

impl Vocabulary {
    /// Adds a section. One that was added before is left out, and the answer is `false`.
    pub(crate) fn add(&mut self, section: &SectionTerms) -> bool {
        if !self.sections.insert(section.section) {
            return false;
        }
        self.totals.add(section.totals);
        for (term, usage) in &section.terms {
            match self.terms.get_mut(term) {
                Some(known) => known.add(*usage),
                None => _ = self.terms.insert(term.clone(), *usage),
            }
        }
        true
    }

    /// Returns the weights of a section's terms. To be asked once all sections are in.
    pub(crate) fn weights_for(&self, section: &SectionTerms) -> Weights {
        let weight = |term: &String| Some((term.clone(), self.rarity(self.terms.get(term)?)));
        Weights(section.terms.keys().filter_map(weight).collect())
    }

    /// Returns what the report says of all files together. To be asked once all sections are in.
    pub(crate) fn summary(&self) -> Summary {
        let scored = |(term, usage): (&String, &Use)| Scored {
            term: term.clone(),
            score: score(usage.frequency, self.rarity(usage)),
            count: usage.count,
        };
        let mut top_terms = self.terms.iter().map(scored).collect();
        keep_best(&mut top_terms, TOP_TERMS_SHOWN);
        Summary { totals: self.totals, sections: self.sections.len() as u64, terms: self.terms.len() as u64, top_terms }
    }

    fn rarity(&self, usage: &Use) -> Micro {
        rarity(self.totals.files, usage.files)
    }
}

/// How much the terms of a section weigh among all files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Weights(BTreeMap<String, Micro>);

impl Weights {
    fn entry(&self, section: u32, reading: &Reading) -> Result<Entry, StaleWeights> {
        let weight = |term: &str| {
            let weight = self.0.get(term).copied();
            weight.ok_or_else(|| StaleWeights { section, term: term.to_owned() })
        };
        Entry::of(reading, weight)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::RECORD_BYTES_MAX;
    use super::super::files::{FILES_MAX, PATH_BYTES_MAX, Reason, Skipped};
    use super::super::page::Report;
    use super::super::reading::{TERMS_MAX, tests::adversarial_texts};
    use super::*;

    fn listing(files: &[String]) -> Listing {
        Listing {
            title: "test".to_owned(),
            root: PathBuf::new(),
            files: files.to_vec(),
            skipped: Vec::new(),
            folders_passed_over: Vec::new(),
        }
    }

    fn outcomes(count: usize) -> Vec<Outcome> {
        let text = |number: usize| {
            format!("wolf {} raven {}", "wolf ".repeat(number % 5), ["hill", "lake", "moor"][number % 3])
        };
        let reading = |number| Reading::of(&format!("file {number:04}"), text(number).as_bytes());
        (0..count).map(|number| Outcome::Read(reading(number))).collect()
    }

    /// Runs outcomes through sections, vocabulary and pages, taking each step in the order that `turned` gives.
    fn report(outcomes: &[Outcome], turned: bool) -> Report {
        let files: Vec<String> = outcomes.iter().map(|outcome| outcome.path().to_owned()).collect();
        let listing = listing(&files);
        let mut sections: Vec<Section> = split(&listing).into_iter().map(Section::new).collect();
        let mut arriving = outcomes.to_vec();
        if turned {
            arriving.reverse();
            sections.reverse();
        }
        for outcome in arriving {
            let taken = sections
                .iter_mut()
                .map(|section| section.collect(outcome.clone()))
                .filter(|taken| *taken == Collected::New);
            assert_eq!(taken.count(), 1);
        }
        let mut vocabulary = Vocabulary::default();
        for section in &sections {
            assert!(section.is_complete(), "section {}", section.number());
            assert!(vocabulary.add(&section.terms()));
        }
        assert_eq!(vocabulary.sections.len(), sections.len());
        let page = |section: &Section| section.page(&vocabulary.weights_for(&section.terms())).expect("fresh weights");
        let pages = sections.iter().map(page).collect();
        Report::assemble(&listing, vocabulary.summary(), pages)
    }

    #[test]
    fn no_order_of_arrival_shows_in_the_report() {
        let outcomes = outcomes(3 * SECTION_FILES_MAX + 1);
        let straight = report(&outcomes, false);
        assert_eq!(straight, report(&outcomes, true));
        assert_eq!(straight.pages.len(), 4);
        assert_eq!(straight.summary.totals.files, outcomes.len() as u64);
    }

    #[test]
    fn an_outcome_that_comes_twice_is_told_and_not_counted_twice() {
        let outcome = outcomes(1).remove(0);
        let assignment = Assignment { section: 1, files: vec![outcome.path().to_owned(), "other".to_owned()] };
        let mut section = Section::new(assignment);
        assert_eq!(section.collect(outcome.clone()), Collected::New);
        assert!(!section.is_complete() && section.awaited.iter().eq(["other"]));
        let before = section.terms();
        assert_eq!(section.collect(outcome.clone()), Collected::Repeated);
        assert_eq!(section.terms(), before);
        let strange = Outcome::Skipped(Skipped { path: "strange".to_owned(), reason: Reason::Binary });
        assert_eq!(section.collect(strange), Collected::NotMine);

        let mut vocabulary = Vocabulary::default();
        assert!(vocabulary.add(&before) && !vocabulary.add(&before));
        let page = section.page(&vocabulary.weights_for(&before)).expect("fresh weights");
        assert_eq!((page.missing, page.repeated), (vec!["other".to_owned()], vec![outcome.path().to_owned()]));
    }

    #[test]
    fn of_two_outcomes_of_a_file_the_same_one_stays_in_any_order() {
        let one = Outcome::Read(Reading::of("a", b"wolf"));
        let other = Outcome::Skipped(Skipped { path: "a".to_owned(), reason: Reason::Binary });
        let collected = |outcomes: [&Outcome; 2]| {
            let mut section = Section::new(Assignment { section: 1, files: vec!["a".to_owned()] });
            for outcome in outcomes {
                section.collect(outcome.clone());
            }
            section
        };
        assert_eq!(collected([&one, &other]), collected([&other, &one]));
    }

    #[test]
    fn weights_of_an_earlier_state_are_refused() {
        let files = vec!["a".to_owned(), "b".to_owned()];
        let mut section = Section::new(Assignment { section: 7, files });
        section.collect(Outcome::Read(Reading::of("a", b"wolf")));
        let mut vocabulary = Vocabulary::default();
        vocabulary.add(&section.terms());
        let weights = vocabulary.weights_for(&section.terms());
        section.collect(Outcome::Read(Reading::of("b", b"raven")));
        let error = section.page(&weights).expect_err("the raven has no weight");
        assert_eq!(error.to_string(), "section 7 has come to hold \"raven\" since its weights were made");
    }

    #[test]
    fn a_term_of_few_files_scores_above_an_equally_frequent_one_of_all() {
        let texts = ["wolf raven", "wolf lake", "wolf moor"];
        let read = |(number, text): (usize, &&str)| Outcome::Read(Reading::of(&number.to_string(), text.as_bytes()));
        let report = report(&texts.iter().enumerate().map(read).collect::<Vec<_>>(), false);
        let top: Vec<_> =
            report.pages[0].entries[0].top_terms.iter().map(|term| (term.term.as_str(), term.score.0)).collect();
        // Half of the file's terms each; log2(4/1) and log2(4/3).
        assert_eq!(top, [("raven", 1_000_000), ("wolf", 207_519)]);
        let all: Vec<_> = report.summary.top_terms.iter().map(|term| (term.term.as_str(), term.count)).collect();
        assert_eq!(all, [("lake", 1), ("moor", 1), ("raven", 1), ("wolf", 3)]);
    }

    /// Sixteen files of the worst kind with the longest paths that a listing lets through.
    fn worst_outcomes() -> Vec<Outcome> {
        let text = &adversarial_texts()[0];
        let path = |number: u8| {
            char::from(b'a' + number).to_string().repeat(8) + &"\u{1}".repeat(PATH_BYTES_MAX - 8 - 3) + ".md"
        };
        let words = |number: usize| &text[text.len() / 32 * number..];
        let wide = format!("{}\n", "# ".to_owned() + &"𐐨 ".repeat(200)).repeat(30)
            + &format!("\n\n{}. ", "𐐨 ".repeat(300)).repeat(3);
        (0..SECTION_FILES_MAX)
            .map(|number| {
                // Terms of its own for each file, so that none is counted among those of another.
                let own = char::from(b'e' + number as u8).to_string();
                let text = format!("{wide}{}", words(number).replace('q', &own));
                Outcome::Read(Reading::of(&path(number as u8), text.as_bytes()))
            })
            .collect()
    }

    fn json_bytes(record: &impl Serialize) -> usize {
        serde_json::to_vec(record).expect("a record is plain data").len()
    }

    #[test]
    fn no_record_outgrows_its_bound_whatever_the_files_hold() {
        let outcomes = worst_outcomes();
        let assignment =
            Assignment { section: u32::MAX, files: outcomes.iter().map(|outcome| outcome.path().to_owned()).collect() };
        assert!(assignment.files.iter().all(|path| path.len() == PATH_BYTES_MAX));
        assert!(json_bytes(&assignment) <= RECORD_BYTES_MAX);
        let mut section = Section::new(assignment);
        for outcome in outcomes {
            assert_eq!(section.collect(outcome.clone()), Collected::New);
            section.collect(outcome);
        }
        let mut vocabulary = Vocabulary::default();
        let terms = section.terms();
        vocabulary.add(&terms);
        let weights = vocabulary.weights_for(&terms);
        let page = section.page(&weights).expect("fresh weights");
        let sizes = [json_bytes(&section), json_bytes(&terms), json_bytes(&weights), json_bytes(&page)];
        assert!(sizes.iter().all(|bytes| *bytes <= RECORD_BYTES_MAX), "{sizes:?}");
        // A section keeps its terms beside its page.
        assert!(json_bytes(&terms) + json_bytes(&page) <= RECORD_BYTES_MAX, "{sizes:?}");
        assert!(json_bytes(&vocabulary.summary()) <= RECORD_BYTES_MAX);
        // The texts do press against the bound: a section of twice as many files would break it.
        assert!(sizes[0] > RECORD_BYTES_MAX / 2, "{sizes:?}");
        assert_eq!(terms.terms.len(), SECTION_FILES_MAX * TERMS_MAX, "no two files share a term");
    }

    #[test]
    fn the_largest_listing_is_split_without_loss() {
        let files: Vec<String> = (0..FILES_MAX).map(|number| format!("{number:05}")).collect();
        let assignments = split(&listing(&files));
        assert_eq!(assignments.len(), FILES_MAX / SECTION_FILES_MAX);
        assert_eq!(assignments.into_iter().flat_map(|assignment| assignment.files).collect::<Vec<_>>(), files);
    }
}
