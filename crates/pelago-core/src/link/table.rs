//! The links of one node: one a node and role, whoever dialled.
//!
//! Two nodes may dial each other at the same moment. Each end judges each connection when it knows the other's hello,
//! and both judge by the same facts, so that the same connection stays in whatever order the hellos arrive: the one
//! dialled by the node whose name is less.

use std::collections::BTreeMap;

use super::hello::{Hello, Refusal, Role, Terms};
use crate::id::{BootId, Incarnation, Name};

/// How many places are kept for other nodes, two each, as far as that leaves clients half of all: a crowd of clients must
/// not part a node from its mesh.
pub const PLACES_OF_NODES: u32 = 256;

/// Names a connection within its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// The links of a node.
#[derive(Debug)]
pub struct Table {
    links_max: u32,
    stopping: bool,
    /// Clients that have a place here and no link.
    guests: u32,
    links: BTreeMap<(Name, Role), Entry>,
}

#[derive(Debug)]
struct Entry {
    id: LinkId,
    boot: BootId,
    incarnation: Incarnation,
    dialled: bool,
}

impl Table {
    /// No links, and the most there may be.
    #[must_use]
    pub fn new(links_max: u32) -> Self {
        Self { links_max, stopping: false, guests: 0, links: BTreeMap::new() }
    }

    /// Enters a connection whose ends agreed. Returns the one it takes the place of, which is to be closed.
    ///
    /// # Errors
    /// Why the connection is not wanted. The table is as before.
    pub fn enter(&mut self, me: &Hello, terms: &Terms, id: LinkId) -> Result<Option<LinkId>, Refusal> {
        if self.stopping {
            return Err(Refusal::Stopping);
        }
        let other = &terms.other;
        let key = (other.node_name.clone(), other.role);
        let new = Entry { id, boot: other.boot, incarnation: other.incarnation, dialled: terms.dialled };
        match self.links.get(&key) {
            Some(old) => new.prevails(old, me, other)?,
            None => self.has_place(other.role)?,
        }
        Ok(self.links.insert(key, new).map(|old| old.id))
    }

    /// How many places are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.guests as usize + self.links.len()
    }

    /// Gives a place to a client that has no link but speaks otherwise.
    ///
    /// # Errors
    /// Why there is none.
    pub fn seat_guest(&mut self) -> Result<(), Refusal> {
        if self.stopping {
            return Err(Refusal::Stopping);
        }
        self.has_place(Role::Client)?;
        self.guests += 1;
        Ok(())
    }

    /// Takes back what [`Self::seat_guest`] gave.
    pub fn unseat_guest(&mut self) {
        self.guests -= 1;
    }

    fn has_place(&self, role: Role) -> Result<(), Refusal> {
        let guests = self.guests as usize;
        let clients = guests + self.links.keys().filter(|(_, role)| *role == Role::Client).count();
        let clients_max = self.links_max - PLACES_OF_NODES.min(self.links_max / 2);
        let links_max = self.links_max;
        if self.taken() >= links_max as usize {
            return Err(Refusal::TooManyLinks { links_max });
        }
        if role == Role::Client && clients >= clients_max as usize {
            return Err(Refusal::TooManyLinks { links_max: clients_max });
        }
        Ok(())
    }

    /// Takes a connection out that has ended. One that was replaced is out already.
    pub fn leave(&mut self, id: LinkId) {
        self.links.retain(|_, entry| entry.id != id);
    }

    /// The link with a node.
    #[must_use]
    pub fn find(&self, node: &Name, role: Role) -> Option<LinkId> {
        self.links.get(&(node.clone(), role)).map(|entry| entry.id)
    }

    /// All links, by name of the node and role.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Role, LinkId)> {
        self.links.iter().map(|((name, role), entry)| (name, *role, entry.id))
    }

    /// From here on, every connection is refused.
    pub fn stop(&mut self) {
        self.stopping = true;
    }
}

impl Entry {
    /// Whether this connection takes the place of `old`, with the same node.
    fn prevails(&self, old: &Self, me: &Hello, other: &Hello) -> Result<(), Refusal> {
        if self.boot != old.boot {
            return match self.incarnation {
                // It has not registered. Its node's run before is over, and its links have ended or fall silent soon;
                // if not, there are two processes, on copies of one directory. The log of a copy must not stand for the
                // other's.
                Incarnation(0) => Err(Refusal::Running),
                incarnation if incarnation < old.incarnation => Err(Refusal::OldRun { at: String::new() }),
                _ => Ok(()),
            };
        }
        // An end that dials again has given up its earlier connection.
        if self.dialled == old.dialled || self.dialled == (me.node_name < other.node_name) {
            return Ok(());
        }
        Err(Refusal::Duplicate { here: me.node_name.clone(), there: other.node_name.clone() })
    }
}
