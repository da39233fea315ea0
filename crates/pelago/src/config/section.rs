//! Reads typed values out of the tree and reports everything that cannot be read.
//!
//! A section is consumed key by key; what nobody asked for at its end is unknown. A value that is wrong is reported
//! and its default stands in, so that reading goes on to the next problem.

use std::collections::{BTreeMap, BTreeSet};

use pelago_core::id::Name;

use pelago_core::nearest::nearest;

use super::{
    later,
    problem::{Code, Origin, Problem, Problems},
    tree::{Node, Table, Value, join},
    value::{self, Refusal},
};

/// Collects problems, and the keys that exist.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    known: BTreeSet<String>,
}

/// One table while it is read.
pub(super) struct Section<'r> {
    path: String,
    /// Where the table was written; none when it was not.
    at: Option<Origin>,
    /// What was not read yet.
    left: Table,
    /// Where the keys read so far were written.
    read: BTreeMap<&'static str, Origin>,
    report: &'r mut Report,
}

impl Report {
    pub(super) fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
    }

    pub(super) fn into_result(self) -> Result<(), Problems> {
        Problems::of(self.problems).map_or(Ok(()), Err)
    }

    /// Reads the whole configuration.
    pub(super) fn root<T>(&mut self, table: Table, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        self.read_section(String::new(), None, table, read)
    }

    /// Reads `node` as a table of fixed keys.
    pub(super) fn section<T>(&mut self, node: Node, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let (path, at) = (node.path.clone(), node.at.clone());
        let table = self.table(node);
        self.read_section(path, Some(at), table, read)
    }

    /// Reads `node` by `parse`; none if it was refused.
    pub(super) fn value<T>(&mut self, node: &Node, parse: impl Fn(&Value) -> Result<T, Refusal>) -> Option<T> {
        match parse(&node.value) {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.refuse(node, refusal);
                None
            }
        }
    }

    fn refuse(&mut self, node: &Node, refusal: Refusal) {
        self.problems.push(Problem {
            code: refusal.code,
            message: format!("{} {}", node.path, refusal.message),
            at: node.at.clone(),
            hint: refusal.hint,
        });
    }

    /// The keys of `node`; none if it is no table.
    fn table(&mut self, node: Node) -> Table {
        if let Value::Table(table) = node.value {
            return table;
        }
        let hint = format!("its keys are set one by one, like {}", node.at.spell(&format!("{}.NAME", node.path)));
        self.refuse(&node, Refusal::expected("a table", &node.value).hint(hint));
        Table::new()
    }

    fn read_section<T>(
        &mut self,
        path: String,
        at: Option<Origin>,
        left: Table,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let mut section = Section { path, at, left, read: BTreeMap::new(), report: self };
        let value = read(&mut section);
        let Section { path, left, .. } = section;
        for (key, node) in left {
            self.unknown(&path, &key, node);
        }
        value
    }

    fn unknown(&mut self, section: &str, key: &str, node: Node) {
        let path = node.path.clone();
        match later::hint(&path) {
            Some(hint) => self.each_unread(node, &|node| Problem {
                code: Code::NotSupported,
                message: format!("{} is not supported yet", node.path),
                at: node.key.clone(),
                hint: Some(hint.to_owned()),
            }),
            None => {
                let meant = self.nearest_key(section, key);
                self.each_unread(node, &|node| Problem {
                    code: Code::UnknownKey,
                    message: format!("unknown key {}", node.path),
                    at: node.key.clone(),
                    hint: meant.as_ref().map(|meant| {
                        let meant = node.path.replacen(&path, meant, 1);
                        format!("did you mean {}?", node.key.spell(&meant))
                    }),
                });
            }
        }
    }

    /// Reports `node` where the user wrote it: the header of a file's table, but each variable below an unknown
    /// section.
    fn each_unread(&mut self, node: Node, problem: &dyn Fn(&Node) -> Problem) {
        match (&node.key, node.value) {
            (Origin::Environment { .. } | Origin::Flag { .. }, Value::Table(table)) => {
                for inner in table.into_values() {
                    self.each_unread(inner, problem);
                }
            }
            (_, value) => self.problems.push(problem(&Node { value, ..node })),
        }
    }

    fn nearest_key(&self, section: &str, key: &str) -> Option<String> {
        let siblings = self.known.iter().filter_map(|known| match known.rsplit_once('.') {
            Some((parent, last)) => (parent == section).then_some(last),
            None => section.is_empty().then_some(known.as_str()),
        });
        nearest(key, siblings).map(|meant| join(section, meant))
    }

    /// Every key that was asked for, as `section.key`.
    #[cfg(test)]
    pub(super) fn known(&self) -> &BTreeSet<String> {
        &self.known
    }
}

impl Section<'_> {
    /// The value of `key`, or its default.
    pub(super) fn get<T>(&mut self, key: &'static str, parse: impl Fn(&Value) -> Result<T, Refusal>, default: T) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// The value of `key`, if it was given and is right.
    pub(super) fn optional<T>(&mut self, key: &'static str, parse: impl Fn(&Value) -> Result<T, Refusal>) -> Option<T> {
        let node = self.take(key)?;
        self.report.value(&node, parse)
    }

    /// The value of a key that has no default.
    pub(super) fn required<T>(&mut self, key: &'static str, parse: impl Fn(&Value) -> Result<T, Refusal>) -> Option<T> {
        match self.take(key) {
            Some(node) => self.report.value(&node, parse),
            None => {
                let at = self.at.clone().expect("only a table that was written has required keys");
                let message = format!("{} is missing", join(&self.path, key));
                self.report.extend([Problem { code: Code::Missing, message, at, hint: None }]);
                None
            }
        }
    }

    /// The items of a list that are right.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Report, Node) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let items = self.items(node);
        items.into_iter().filter_map(|item| read(self.report, item)).collect()
    }

    /// A table of fixed keys; read with nothing in it when it was not given.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        match self.take(key) {
            Some(node) => self.report.section(node, read),
            None => self.report.read_section(join(&self.path, key), None, Table::new(), read),
        }
    }

    /// The entries of a table whose keys are the user's own names.
    pub(super) fn entries<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Report, &Name, Node) -> Option<T>,
    ) -> BTreeMap<Name, T> {
        let Some(node) = self.take(key) else {
            return BTreeMap::new();
        };
        let mut entries = BTreeMap::new();
        for (key, node) in self.report.table(node) {
            match value::key(&key) {
                Ok(name) => entries.extend(read(self.report, &name, node).map(|value| (name, value))),
                Err(refusal) => self.report.refuse(&Node { at: node.key.clone(), ..node }, refusal),
            }
        }
        entries
    }

    /// Reports that the values of `keys` cannot both stand, at the first of them that was given.
    pub(super) fn contradiction(&mut self, keys: [&'static str; 2], message: &str) {
        let at = keys.iter().find_map(|key| self.read.get(key)).expect("defaults do not contradict each other");
        let problem = Problem {
            code: Code::Contradiction,
            message: format!("{} {message}", join(&self.path, keys[0])),
            at: at.clone(),
            hint: None,
        };
        self.report.extend([problem]);
    }

    fn take(&mut self, key: &'static str) -> Option<Node> {
        self.report.known.insert(join(&self.path, key));
        let node = self.left.remove(key)?;
        self.read.insert(key, node.at.clone());
        Some(node)
    }

    fn items(&mut self, node: Node) -> Vec<Node> {
        match node.value {
            Value::List(items) => items,
            Value::Written(ref text) if text.is_empty() => Vec::new(),
            Value::Written(ref text) => text.split(',').enumerate().map(|(i, item)| node.item(i, item)).collect(),
            Value::Text(_) | Value::Boolean(_) | Value::Integer(_) | Value::Table(_) | Value::Other(_) => {
                let hint = "in the file write [\"a\", \"b\"]; in a variable or flag a,b";
                self.report.refuse(&node, Refusal::expected("a list", &node.value).hint(hint));
                Vec::new()
            }
        }
    }
}

impl Node {
    /// One item of a list that was written with commas.
    fn item(&self, index: usize, text: &str) -> Self {
        Self {
            path: format!("{}[{index}]", self.path),
            key: self.key.clone(),
            at: self.at.clone(),
            value: Value::Written(text.trim().to_owned()),
        }
    }
}
