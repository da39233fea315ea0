//! `section:N` collects what the readers found in its files, and writes its page of the report.
//!
//! ```text
//!   Empty ──Take──► Collecting ──Weights──► Written
//!                     │    ▲ Outcome           the readings are gone: the terms and the page are what is left of them
//!                     └────┘
//! ```

use pelago::{Agent, Fault, Kind, Turn};
use serde::{Deserialize, Serialize};

use super::librarian;
use crate::report::{
    files::Outcome,
    page::Page,
    summary::{Assignment, Collected, Section, SectionTerms, Weights},
};

/// A section's state.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Desk {
    /// Before its assignment.
    #[default]
    Empty,
    Collecting(Section),
    Written {
        /// Kept with the page, since the librarian may have to ask once more.
        terms: SectionTerms,
        page: Page,
    },
}

pub(crate) const NAME: &str = "section";

pub(super) fn kind() -> Kind {
    pelago::keyed::<Desk>(NAME)
}

/// Where section `number` is reached.
pub(crate) fn address(number: u32) -> String {
    format!("{NAME}:{number}")
}

/// What a section is told and asked.
#[derive(Serialize, Deserialize)]
pub(crate) enum Order {
    /// Collect these files.
    Take(Assignment),
    /// What a reader found in one of them.
    Outcome(Outcome),
    /// Write the page, with these weights.
    Weights(Weights),
    /// Which terms do the files have?
    Terms,
    /// What is the page, if it is written?
    Page,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Taken,
    Terms(SectionTerms),
    Page(Option<Page>),
}

impl Agent for Desk {
    type Input = Order;
    type Output = Reply;

    async fn handle(&mut self, order: Order, turn: &mut Turn) -> Result<Reply, Fault> {
        match order {
            Order::Take(assignment) => self.take(assignment)?,
            Order::Outcome(outcome) => {
                if let Some(section) = self.collect(outcome)? {
                    turn.send(librarian::ADDRESS, &librarian::Order::Complete { section })?;
                }
            }
            Order::Weights(weights) => self.write(&weights)?,
            Order::Terms => return self.terms().map(Reply::Terms),
            Order::Page => return Ok(Reply::Page(self.page().cloned())),
        }
        Ok(Reply::Taken)
    }
}

impl Desk {
    fn take(&mut self, assignment: Assignment) -> Result<(), Fault> {
        match self {
            Self::Empty => *self = Self::Collecting(Section::new(assignment)),
            Self::Collecting(_) | Self::Written { .. } => return Err(Fault::hopeless("the section has its files")),
        }
        Ok(())
    }

    /// Takes an outcome in; returns the section's number if it was the last one awaited.
    fn collect(&mut self, outcome: Outcome) -> Result<Option<u32>, Fault> {
        match self {
            // The assignment waits in the inbox, too: it was sent by the turn that made the reader's task.
            Self::Empty => Err(Fault::new("the section has no files yet")),
            Self::Collecting(section) => match section.collect(outcome) {
                Collected::New => Ok(section.is_complete().then(|| section.number())),
                Collected::Repeated => Ok(None),
                Collected::NotMine => Err(Fault::hopeless("the file is none of the section's")),
            },
            Self::Written { page, .. } => {
                // The page says that it is missing, and stays true to what was counted.
                if page.missing.iter().any(|path| path == outcome.path()) {
                    return Err(Fault::hopeless("the page was written without it"));
                }
                if !page.repeated.iter().any(|path| path == outcome.path()) {
                    page.repeated.push(outcome.path().to_owned());
                }
                Ok(None)
            }
        }
    }

    fn terms(&self) -> Result<SectionTerms, Fault> {
        match self {
            Self::Empty => Err(Fault::new("the section has no files yet")),
            Self::Collecting(section) => Ok(section.terms()),
            Self::Written { terms, .. } => Ok(terms.clone()),
        }
    }

    fn write(&mut self, weights: &Weights) -> Result<(), Fault> {
        match self {
            Self::Empty => Err(Fault::new("the section has no files yet")),
            Self::Collecting(section) => {
                let page = section.page(weights)?;
                *self = Self::Written { terms: section.terms(), page };
                Ok(())
            }
            Self::Written { .. } => Err(Fault::hopeless("the page is written")),
        }
    }

    pub(crate) fn page(&self) -> Option<&Page> {
        match self {
            Self::Empty | Self::Collecting(_) => None,
            Self::Written { page, .. } => Some(page),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{reading::Reading, summary::Vocabulary};

    fn outcome(path: &str) -> Outcome {
        Outcome::Read(Reading::of(path, format!("wolf {path}").as_bytes()))
    }

    fn desk(files: &[&str]) -> Desk {
        let mut desk = Desk::default();
        let files = files.iter().map(|path| (*path).to_owned()).collect();
        desk.take(Assignment { section: 7, files }).expect("it is empty");
        desk
    }

    fn write(desk: &mut Desk) {
        let terms = desk.terms().expect("it has files");
        let mut vocabulary = Vocabulary::default();
        vocabulary.add(&terms);
        desk.write(&vocabulary.weights_for(&terms)).expect("it collects");
    }

    fn page(desk: &Desk) -> &Page {
        desk.page().expect("it is written")
    }

    #[test]
    fn the_last_outcome_awaited_completes_a_section_and_no_other() {
        let mut desk = desk(&["a", "b"]);
        assert_eq!(desk.collect(outcome("a")), Ok(None));
        assert_eq!(desk.collect(outcome("a")), Ok(None));
        assert_eq!(desk.collect(outcome("b")), Ok(Some(7)));
        assert_eq!(desk.collect(outcome("b")), Ok(None), "complete once");
        assert!(desk.collect(outcome("c")).is_err(), "it awaits no c");
    }

    #[test]
    fn a_section_without_its_assignment_waits_for_it() {
        let fault = Desk::default().collect(outcome("a")).expect_err("it has no files");
        assert_eq!(fault, Fault::new("the section has no files yet"), "worth another try");
    }

    #[test]
    fn a_written_section_answers_the_terms_it_had_and_the_page() {
        let mut desk = desk(&["a", "b"]);
        for path in ["b", "a"] {
            desk.collect(outcome(path)).expect("it is awaited");
        }
        let terms = desk.terms();
        write(&mut desk);
        assert_eq!(desk.terms(), terms);
        let paths: Vec<_> = page(&desk).entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["a", "b"]);
    }

    #[test]
    fn what_comes_after_the_page_shows_on_it() {
        let mut desk = desk(&["a", "b"]);
        desk.collect(outcome("a")).expect("it is awaited");
        write(&mut desk);
        assert_eq!(page(&desk).missing, ["b"]);
        desk.collect(outcome("a")).expect("once more");
        assert_eq!(page(&desk).repeated, ["a"]);
        desk.collect(outcome("b")).expect_err("too late");
        assert_eq!(page(&desk).missing, ["b"]);
    }
}
