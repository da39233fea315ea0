//! What an agent tells others, on its way out.

use std::vec;

use super::Content;
use crate::id::Destination;

/// The most messages that go to one destination together: each lot takes one place in a mailbox.
const TOGETHER_MAX: usize = 512;
/// The most bytes of payload that go to one destination together, but for a single message.
const TOGETHER_BYTES_MAX: usize = 64 << 10;

/// Messages to be told, in order. What goes to one destination in a row, and is as urgent, is kept together: who tells
/// much tells few, and pays for the destination once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToTell {
    lots: Vec<(Destination, Vec<Content>)>,
    /// How many messages there are.
    messages: usize,
    /// The bytes of payload in the last lot.
    last_bytes: usize,
}

impl ToTell {
    /// Adds a message.
    pub fn push(&mut self, to: &Destination, message: Content) {
        self.messages += 1;
        let bytes = message.payload.len();
        if let Some(messages) = self.last_for(to, &message, (1, bytes)) {
            messages.push(message);
            self.last_bytes += bytes;
        } else {
            self.lots.push((to.clone(), vec![message]));
            self.last_bytes = bytes;
        }
    }

    /// Adds what is to be told after that.
    pub fn append(&mut self, later: Self) {
        self.messages += later.messages;
        let last_bytes = later.last_bytes;
        let mut lots = later.lots.into_iter();
        let Some((to, messages)) = lots.next() else { return };
        let bytes = bytes(&messages);
        let is_last = lots.as_slice().is_empty();
        if let Some(last) = self.last_for(&to, &messages[0], (messages.len(), bytes)) {
            last.extend(messages);
            self.last_bytes += bytes;
        } else {
            self.lots.push((to, messages));
            self.last_bytes = bytes;
        }
        if !is_last {
            self.lots.extend(lots);
            self.last_bytes = last_bytes;
        }
    }

    /// Takes back what was added after there were so many messages.
    pub fn truncate(&mut self, messages: usize) {
        while self.messages > messages {
            let Some((_, last)) = self.lots.last_mut() else { return };
            let kept = last.len().saturating_sub(self.messages - messages);
            self.messages -= last.len() - kept;
            last.truncate(kept);
            if kept == 0 {
                self.lots.pop();
            }
        }
        self.last_bytes = self.lots.last().map_or(0, |(_, last)| bytes(last));
    }

    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The last lot, if so many more messages and bytes that begin with `first` may go with it.
    fn last_for(
        &mut self,
        to: &Destination,
        first: &Content,
        (messages, bytes): (usize, usize),
    ) -> Option<&mut Vec<Content>> {
        let has_room = self.last_bytes + bytes <= TOGETHER_BYTES_MAX;
        let (last, lot) = self.lots.last_mut()?;
        let fits = has_room && lot.len() + messages <= TOGETHER_MAX;
        (fits && lot[0].priority() == first.priority() && last == to).then_some(lot)
    }
}

fn bytes(messages: &[Content]) -> usize {
    messages.iter().map(|message| message.payload.len()).sum()
}

impl IntoIterator for ToTell {
    type Item = (Destination, Vec<Content>);
    type IntoIter = vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.lots.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        id::Name,
        message::{Headers, Priority},
    };

    fn to(name: &str) -> Destination {
        Destination::parse(&Name::default_namespace(), name).expect("a destination")
    }

    fn message(n: usize, bytes: usize) -> Content {
        Content::from(Bytes::from([n.to_le_bytes().to_vec(), vec![0; bytes - 8]].concat()))
    }

    fn of(tells: impl IntoIterator<Item = (Destination, Content)>) -> ToTell {
        let mut all = ToTell::default();
        tells.into_iter().for_each(|(to, message)| all.push(&to, message));
        all
    }

    fn lots(all: ToTell) -> Vec<(String, usize)> {
        all.into_iter().map(|(to, messages)| (to.to_string(), messages.len())).collect()
    }

    fn in_order(all: ToTell) -> Vec<Content> {
        all.into_iter().flat_map(|(_, messages)| messages).collect()
    }

    #[test]
    fn messages_to_one_in_a_row_go_together_in_order_and_not_too_many() {
        let tell = |name: &str, n, bytes| (to(name), message(n, bytes));
        let several = [tell("a", 0, 8), tell("a", 1, 8), tell("#a", 2, 8), tell("a", 3, 8)];
        assert_eq!(lots(of(several)), [("a".into(), 2), ("#a".into(), 1), ("a".into(), 1)]);

        let many: Vec<_> = (0..=TOGETHER_MAX).map(|n| tell("a", n, 8)).collect();
        let told: Vec<Content> = many.iter().map(|(_, message)| message.clone()).collect();
        assert_eq!(in_order(of(many.clone())), told);
        assert_eq!(lots(of(many)), [("a".into(), TOGETHER_MAX), ("a".into(), 1)]);

        let urgent = Headers { priority: Priority::new(9).expect("a priority"), ..Headers::default() };
        let urgent = (to("a"), urgent.of(message(1, 8).payload));
        let mixed = [tell("a", 0, 8), urgent, tell("a", 2, 8)];
        assert_eq!(lots(of(mixed)), [("a".into(), 1), ("a".into(), 1), ("a".into(), 1)]);

        let large = (0..3).map(|n| tell("a", n, TOGETHER_BYTES_MAX / 2));
        assert_eq!(lots(of(large)), [("a".into(), 2), ("a".into(), 1)]);
        let larger = [tell("a", 0, 2 * TOGETHER_BYTES_MAX), tell("a", 1, 8)];
        assert_eq!(lots(of(larger)), [("a".into(), 1), ("a".into(), 1)]);
    }

    #[test]
    fn what_is_appended_is_as_if_each_message_had_been_added() {
        let all: Vec<_> =
            (0..2 * TOGETHER_MAX).map(|n| (to(if n.is_multiple_of(300) { "b" } else { "a" }), message(n, 8))).collect();
        for split in (0..all.len()).step_by(97) {
            let (mut first, later) = (of(all[..split].to_vec()), of(all[split..].to_vec()));
            let later_bytes = later.last_bytes;
            first.append(later);
            assert_eq!(first.len(), all.len());
            assert!(first.last_bytes >= later_bytes);
            let told: Vec<_> = all.iter().map(|(_, message)| message.clone()).collect();
            assert_eq!(in_order(first.clone()), told, "split at {split}");
            assert!(lots(first).iter().all(|(_, messages)| *messages <= TOGETHER_MAX));
        }
    }

    #[test]
    fn what_is_taken_back_was_added_last() {
        let all: Vec<_> = (0..20).map(|n| (to(if n < 9 { "a" } else { "b" }), message(n, 8))).collect();
        for kept in 0..=all.len() {
            let mut cut = of(all.clone());
            cut.truncate(kept);
            assert_eq!(cut, of(all[..kept].to_vec()), "{kept} are kept");
        }
    }
}
