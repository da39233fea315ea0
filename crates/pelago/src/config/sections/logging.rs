//! `[logging]`

use super::super::{section::Section, value};

/// The log, which goes to stderr.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoggingConfig {
    /// The least important event that is logged.
    pub level: LogLevel,
    /// How an event is written.
    pub format: LogFormat,
}

/// How important an event is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Something was lost or stopped.
    Error,
    /// Something needs attention soon.
    Warn,
    /// The life of nodes, links and the mesh. Nothing a message or a task.
    #[default]
    Info,
    /// Each task and move.
    Debug,
    /// Each message. Costs much of the speed.
    Trace,
}

/// How an event is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl LoggingConfig {
    pub(in super::super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let level = value::word(&[
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ]);
        let format = value::word(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
        Self {
            level: section.get("level", level, default.level),
            format: section.get("format", format, default.format),
        }
    }
}
