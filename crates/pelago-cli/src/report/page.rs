//! The finished report: a page a section, the librarian's summary, and the whole.

use serde::{Deserialize, Serialize};

use super::files::{Listing, Outcome, Skipped};
use super::outline::Outline;
use super::reading::{Reading, Size, TermCount};
use super::scores::{Micro, Scored, keep_best, score, share};

/// Terms shown of a file.
pub(crate) const FILE_TERMS_SHOWN: usize = 8;
/// Terms shown of all files together.
pub(crate) const TOP_TERMS_SHOWN: usize = 20;

/// The whole report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) title: String,
    pub(crate) summary: Summary,
    pub(crate) folders_passed_over: Vec<String>,
    /// All skipped files, those that were found so by the listing and those by the readers, by path.
    pub(crate) skipped: Vec<Skipped>,
    /// By section.
    pub(crate) pages: Vec<Page>,
}

impl Report {
    /// Puts the report together from its pages, in whatever order they came.
    pub(crate) fn assemble(listing: &Listing, summary: Summary, mut pages: Vec<Page>) -> Self {
        pages.sort_by_key(|page| page.section);
        let mut skipped = listing.skipped.clone();
        skipped.extend(pages.iter().flat_map(|page| page.skipped.iter().cloned()));
        skipped.sort_unstable();
        let folders_passed_over = listing.folders_passed_over.clone();
        Self { title: listing.title.clone(), summary, folders_passed_over, skipped, pages }
    }
}

/// What the report says of all files together: the librarian's page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) totals: Totals,
    pub(crate) sections: u64,
    /// Different terms that files kept.
    pub(crate) terms: u64,
    pub(crate) top_terms: Vec<Scored>,
}

/// One section of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) section: u32,
    /// By path.
    pub(crate) entries: Vec<Entry>,
    pub(crate) skipped: Vec<Skipped>,
    /// Files whose outcome never came.
    pub(crate) missing: Vec<String>,
    /// Files whose outcome came more than once.
    pub(crate) repeated: Vec<String>,
}

/// What the report says of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) size: Size,
    pub(crate) terms_distinct: u64,
    pub(crate) outline: Outline,
    pub(crate) top_terms: Vec<Scored>,
    pub(crate) key_sentences: Vec<String>,
}

impl Entry {
    /// Makes the entry of a reading, given the rarity of each of its terms, which may be unknown.
    pub(crate) fn of<E>(reading: &Reading, rarity: impl Fn(&str) -> Result<Micro, E>) -> Result<Self, E> {
        let mut top_terms = Vec::with_capacity(reading.terms.len());
        for TermCount { term, count } in &reading.terms {
            let score = score(share(*count, reading.terms_total), rarity(term)?);
            top_terms.push(Scored { term: term.clone(), score, count: *count });
        }
        keep_best(&mut top_terms, FILE_TERMS_SHOWN);
        Ok(Self {
            path: reading.path.clone(),
            size: reading.size,
            terms_distinct: reading.terms_distinct,
            outline: reading.outline.clone(),
            top_terms,
            key_sentences: reading.key_sentences.clone(),
        })
    }
}

/// How much a report is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Files that were read.
    pub(crate) files: u64,
    /// Files that turned out to be no text, or gone, when they were to be read.
    pub(crate) files_skipped: u64,
    pub(crate) size: Size,
}

impl Totals {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Read(reading) => Self { files: 1, files_skipped: 0, size: reading.size },
            Outcome::Skipped(_) => Self { files: 0, files_skipped: 1, size: Size::default() },
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.files_skipped += other.files_skipped;
        self.size.add(other.size);
    }
}
