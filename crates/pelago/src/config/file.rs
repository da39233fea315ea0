//! A TOML file as a table in which each value knows its line and column.

use std::path::Path;

use toml::de::{DeInteger, DeTable, DeValue};

use super::{
    problem::{Code, Origin, Problem, Problems},
    section::Report,
    tree::{Node, Table, Value, join},
};

/// Parses `text`. A key written twice goes to the report, and the first stands.
///
/// # Errors
/// The text is not TOML: all its errors of syntax.
pub(super) fn parse(path: &Path, text: &str, report: &mut Report) -> Result<Table, Problems> {
    let file = File { path, text };
    let (table, errors) = DeTable::parse_recoverable(text);
    let (twice, syntax): (Vec<_>, Vec<_>) = errors.iter().partition(|error| error.message() == "duplicate key");
    if let Some(problems) = Problems::of(syntax.into_iter().map(|error| file.not_toml(error)).collect()) {
        return Err(problems);
    }
    report.extend(twice.into_iter().map(|error| file.twice(error)));
    Ok(file.table("", table.into_inner()))
}

struct File<'f> {
    path: &'f Path,
    text: &'f str,
}

impl File<'_> {
    fn table(&self, path: &str, table: DeTable<'_>) -> Table {
        table
            .into_iter()
            .map(|(key, value)| {
                let place = self.origin(key.span().start);
                let key = key.into_inner().into_owned();
                let node = self.node(join(path, &key), Some(place), value.span().start, value.into_inner());
                (key, node)
            })
            .collect()
    }

    fn node(&self, path: String, key: Option<Origin>, start: usize, value: DeValue<'_>) -> Node {
        let at = self.origin(start);
        let key = key.unwrap_or_else(|| at.clone());
        let value = self.value(&path, value);
        Node { path, key, at, value }
    }

    fn value(&self, path: &str, value: DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => integer(&number),
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Boolean(yes) => Value::Boolean(yes),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Table(table) => Value::Table(self.table(path, table)),
            DeValue::Array(items) => Value::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(i, item)| self.node(format!("{path}[{i}]"), None, item.span().start, item.into_inner()))
                    .collect(),
            ),
        }
    }

    fn origin(&self, offset: usize) -> Origin {
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn not_toml(&self, error: &toml::de::Error) -> Problem {
        Problem {
            code: Code::Syntax,
            message: format!("not TOML: {}", error.message()),
            at: self.place_of(error),
            hint: None,
        }
    }

    fn twice(&self, error: &toml::de::Error) -> Problem {
        let key = error.span().map_or("a key", |span| &self.text[span]);
        // One file is where the two ways to write peers meet.
        let hint = if key == "peers" {
            "write either peers = [\"host:port\", …] or [[mesh.peers]] tables, not both"
        } else {
            "keep one of them"
        };
        Problem {
            code: Code::Contradiction,
            message: format!("{key} is written twice"),
            at: self.place_of(error),
            hint: Some(hint.to_owned()),
        }
    }

    fn place_of(&self, error: &toml::de::Error) -> Origin {
        match error.span() {
            Some(span) => self.origin(span.start),
            None => Origin::WholeFile { path: self.path.to_owned() },
        }
    }
}

fn integer(number: &DeInteger<'_>) -> Value {
    match i128::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => Value::Integer(number),
        Err(_) => Value::Other("a number of too many digits"),
    }
}
