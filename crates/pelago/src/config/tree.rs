//! The settings of all sources as one tree, in which each value knows where it was written.
//!
//! It knows `PELAGO_SECTION__KEY` and flags, and nothing of what keys mean: that is `section`'s. A value that a later
//! source replaces is forgotten, right or wrong.

use std::{collections::BTreeMap, ffi::OsString};

use super::{
    Flag,
    problem::{Code, Origin, Problem},
    section::Report,
};

/// Variables of the configuration begin with this.
const PREFIX: &str = "PELAGO_";

/// What nests in the name of a variable. Only a variable that has it is a setting: Kubernetes invents
/// `PELAGO_SERVER_PORT=tcp://…` for a service called `pelago-server`.
const NEST: &str = "__";

pub(super) type Table = BTreeMap<String, Node>;

/// One value and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The whole key: `mesh.peers[0].address`.
    pub(super) path: String,
    /// Where the key was written; for an item of a list, its value.
    pub(super) key: Origin,
    /// Where the value was written.
    pub(super) at: Origin,
    pub(super) value: Value,
}

/// A value, as far as configuration has use for it.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Boolean(bool),
    Integer(i128),
    /// A string of the file: text and nothing else.
    Text(String),
    /// What a variable or a flag says: it becomes what its key needs.
    Written(String),
    List(Vec<Node>),
    Table(Table),
    /// A type that no key has, described.
    Other(&'static str),
}

/// All sources laid over each other; later ones win key by key.
#[derive(Debug)]
pub(super) struct Tree {
    table: Table,
}

impl Tree {
    /// Begins with what the file says.
    pub(super) fn new(file: Table) -> Self {
        Self { table: file }
    }

    /// Lays the variables `PELAGO_SECTION__KEY` over it.
    pub(super) fn add_environment(&mut self, env: &[(OsString, OsString)], report: &mut Report) {
        let mut settings: Vec<_> = env.iter().filter_map(|(name, value)| Some((setting(name)?, value))).collect();
        settings.sort();
        for (variable, value) in settings {
            let at = Origin::environment(variable);
            match value.to_str() {
                Some(text) => {
                    let key = variable[PREFIX.len()..].to_lowercase();
                    put(&mut self.table, key.split(NEST), at, text);
                }
                None => report.extend([Problem {
                    code: Code::InvalidValue,
                    message: format!("{variable} is not UTF-8"),
                    at,
                    hint: None,
                }]),
            }
        }
    }

    /// Lays flags over it. A flag given several times makes a list, as one text with commas does.
    pub(super) fn add_flags(&mut self, flags: &[Flag]) {
        let mut joined: Vec<(&Flag, String)> = Vec::new();
        for flag in flags {
            match joined.iter_mut().find(|(first, _)| first.key == flag.key) {
                Some((_, text)) => *text = format!("{text},{}", flag.value),
                None => joined.push((flag, flag.value.clone())),
            }
        }
        for (flag, text) in joined {
            put(&mut self.table, flag.key.split('.'), Origin::flag(&flag.name), &text);
        }
    }

    pub(super) fn into_table(self) -> Table {
        self.table
    }
}

/// The name of a variable, if it is a setting.
fn setting(name: &OsString) -> Option<&str> {
    let name = name.to_str()?;
    let key = name.strip_prefix(PREFIX)?;
    key.contains(NEST).then_some(name)
}

/// Puts `text` at the end of `keys`.
fn put<'k>(mut table: &mut Table, mut keys: impl Iterator<Item = &'k str>, at: Origin, text: &str) {
    let mut path = String::new();
    let mut key = keys.next().expect("a split text has at least one part");
    for next in keys {
        path = join(&path, key);
        table = table_at(table, key, &path, &at);
        key = next;
    }
    let node = Node { path: join(&path, key), key: at.clone(), at, value: Value::Written(text.to_owned()) };
    table.insert(key.to_owned(), node);
}

/// The table at `key`. What is in the way and is no table gives way, so that the reader of the key says what it needs.
fn table_at<'t>(table: &'t mut Table, key: &str, path: &str, at: &Origin) -> &'t mut Table {
    let node = table.entry(key.to_owned()).or_insert_with(|| Node::table(path, at));
    if !matches!(node.value, Value::Table(_)) {
        *node = Node::table(path, at);
    }
    let Value::Table(inner) = &mut node.value else { unreachable!("it was made a table just now") };
    inner
}

impl Node {
    fn table(path: &str, at: &Origin) -> Self {
        Self { path: path.to_owned(), key: at.clone(), at: at.clone(), value: Value::Table(Table::new()) }
    }
}

/// A key below another.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}
