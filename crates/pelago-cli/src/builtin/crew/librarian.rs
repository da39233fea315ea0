//! `librarian:demo` hands out the work, and weighs the terms of all sections once they are complete.
//!
//! The terms of all files together can outgrow a state, so they are its memory only: after the loss of its node it asks
//! the sections for them again. What it sends is cut into turns for the same reason.

use std::collections::BTreeSet;

use pelago::{Agent, Fault, Kind, TaskRequest, Turn};
use serde::{Deserialize, Serialize};

use super::{
    file_reader::{self, FILE_READER},
    section,
};
use crate::report::{
    RECORD_BYTES_MAX,
    page::Summary,
    summary::{Assignment, SectionTerms, Vocabulary},
};

/// Where it is reached.
pub(crate) const ADDRESS: &str = "librarian:demo";

/// About how many bytes of weights one turn sends: several sections' worth, and less than one commit may hold.
const BYTES_PER_TURN: usize = RECORD_BYTES_MAX / 2;
/// What a weight takes besides its term: quotes, colon, comma, up to eight digits.
const WEIGHT_BYTES: usize = 12;

/// What has come in of the work.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Librarian {
    /// How many sections there are; 0 before the first assignment.
    sections: u32,
    complete: BTreeSet<u32>,
    is_weighing: bool,
    summary: Option<Summary>,
    #[serde(skip)]
    catalogue: Option<Catalogue>,
}

pub(super) fn kind() -> Kind {
    pelago::keyed::<Librarian>("librarian")
}

/// What the librarian is told and asked.
#[derive(Serialize, Deserialize)]
pub(crate) enum Order {
    /// Have one of so many sections done.
    Assign { assignment: Assignment, sections: u32 },
    /// A section has collected all its files.
    Complete { section: u32 },
    /// Send weights to this section and those after it.
    Weigh { from: u32 },
    /// Do not wait for what is missing: nobody will bring it.
    Close,
    /// What is there to say of all files together, if that is known?
    Summarize,
}

impl Agent for Librarian {
    type Input = Order;
    type Output = Option<Summary>;

    async fn handle(&mut self, order: Order, turn: &mut Turn) -> Result<Option<Summary>, Fault> {
        match order {
            Order::Assign { assignment, sections } => self.hand_out(assignment, sections, turn)?,
            Order::Complete { section } => {
                self.complete.insert(section);
                if self.complete.len() == self.sections as usize {
                    self.begin_to_weigh(turn)?;
                }
            }
            Order::Close => self.begin_to_weigh(turn)?,
            Order::Weigh { from } => self.weigh(from, turn).await?,
            Order::Summarize => return Ok(self.summary.clone()),
        }
        Ok(None)
    }
}

impl Librarian {
    fn hand_out(&mut self, assignment: Assignment, sections: u32, turn: &mut Turn) -> Result<(), Fault> {
        self.sections = sections;
        let section = assignment.section;
        for path in &assignment.files {
            let request = file_reader::Request { path: path.clone(), section };
            let idempotency_key = Some(file_reader::idempotency_key(path));
            turn.enqueue(FILE_READER, &request, TaskRequest { idempotency_key, ..TaskRequest::default() })?;
        }
        turn.send(&section::address(section), &section::Order::Take(assignment))
    }

    fn begin_to_weigh(&mut self, turn: &mut Turn) -> Result<(), Fault> {
        if !self.is_weighing {
            self.is_weighing = true;
            turn.send(ADDRESS, &Order::Weigh { from: 1 })?;
        }
        Ok(())
    }

    async fn weigh(&mut self, from: u32, turn: &mut Turn) -> Result<(), Fault> {
        let catalogue = match &mut self.catalogue {
            Some(catalogue) => catalogue,
            none => none.insert(Catalogue::ask_for(self.sections, turn).await?),
        };
        let next = catalogue.after_one_turn(from);
        for terms in catalogue.sections(from..next) {
            let weights = catalogue.vocabulary.weights_for(terms);
            turn.send(&section::address(terms.section), &section::Order::Weights(weights))?;
        }
        if next <= self.sections {
            turn.send(ADDRESS, &Order::Weigh { from: next })
        } else {
            self.summary = Some(catalogue.vocabulary.summary());
            self.catalogue = None;
            Ok(())
        }
    }
}

/// The terms of each section and of all together.
#[derive(Debug, Default)]
struct Catalogue {
    /// In the order of their numbers, from 1.
    sections: Vec<SectionTerms>,
    vocabulary: Vocabulary,
}

impl Catalogue {
    async fn ask_for(sections: u32, turn: &mut Turn) -> Result<Self, Fault> {
        let mut catalogue = Self::default();
        for section in 1..=sections {
            match turn.ask(&section::address(section), &section::Order::Terms).await? {
                section::Reply::Terms(terms) => catalogue.add(terms),
                reply @ (section::Reply::Taken | section::Reply::Page(_)) => {
                    return Err(Fault::hopeless(format!(
                        "section {section} was asked for terms and replied {reply:?}"
                    )));
                }
            }
        }
        Ok(catalogue)
    }

    fn add(&mut self, terms: SectionTerms) {
        self.vocabulary.add(&terms);
        self.sections.push(terms);
    }

    fn sections(&self, numbers: std::ops::Range<u32>) -> &[SectionTerms] {
        &self.sections[numbers.start as usize - 1..numbers.end as usize - 1]
    }

    /// The first section after `from` whose weights are not for the same turn.
    fn after_one_turn(&self, from: u32) -> u32 {
        let mut bytes = 0;
        let fits = |terms: &&SectionTerms| {
            bytes += terms.terms.keys().map(|term| term.len() + WEIGHT_BYTES).sum::<usize>();
            bytes <= BYTES_PER_TURN
        };
        let after = self.sections.len() as u32 + 1;
        let fitting = self.sections(from..after).iter().take_while(fits).count() as u32;
        // One at least: a section alone always fits a commit.
        from + fitting.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        files::Outcome,
        reading::Reading,
        summary::{Section, Use},
    };

    /// A catalogue of sections with one file each, of 60 terms.
    fn catalogue(sections: u32) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for number in 1..=sections {
            let letters = |number: u32| (0..4).map(move |at| char::from(b'a' + (number >> (4 * at) & 15) as u8));
            let words = (0..60).map(|word| "word".chars().chain(letters(word)).chain(letters(number)).chain([' ']));
            let text: String = words.flatten().collect();
            let mut section = Section::new(Assignment { section: number, files: vec!["a".to_owned()] });
            section.collect(Outcome::Read(Reading::of("a", text.as_bytes())));
            catalogue.add(section.terms());
        }
        catalogue
    }

    #[test]
    fn weights_go_to_each_section_once_in_turns_of_bounded_size() {
        let catalogue = catalogue(1_000);
        let (mut from, mut seen) = (1, Vec::new());
        while from <= 1_000 {
            let next = catalogue.after_one_turn(from);
            let sections = catalogue.sections(from..next);
            let bytes: usize = sections
                .iter()
                .map(|terms| serde_json::to_vec(&catalogue.vocabulary.weights_for(terms)).expect("plain data").len())
                .sum();
            assert!(bytes <= BYTES_PER_TURN, "{bytes} bytes from section {from}");
            seen.extend(sections.iter().map(|terms| terms.section));
            from = next;
        }
        assert!(seen.into_iter().eq(1..=1_000));
    }

    #[test]
    fn a_section_that_fills_a_turn_has_one_to_itself() {
        let mut catalogue = catalogue(2);
        assert_eq!(catalogue.after_one_turn(1), 3);
        catalogue.sections[0].terms.insert("a".repeat(BYTES_PER_TURN), Use::default());
        assert_eq!((catalogue.after_one_turn(1), catalogue.after_one_turn(2)), (2, 3));
    }

    #[test]
    fn the_catalogue_is_memory_and_not_state() {
        let librarian = Librarian { catalogue: Some(catalogue(3)), ..Librarian::default() };
        let state = serde_json::to_value(&librarian).expect("plain data");
        let expected = serde_json::json!({ "sections": 0, "complete": [], "is_weighing": false, "summary": null });
        assert_eq!(state, expected);
    }
}
