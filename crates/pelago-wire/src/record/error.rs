//! Why bytes are refused.

use pelago_core::id::Invalid;

/// Bytes that are not what they should be. Nothing was decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer version of Pelago wrote them. Upgrade this node.
    #[error("{what} was written by a newer version of Pelago: format {found}, and this one reads up to {known}")]
    Newer {
        /// What was to be read.
        what: &'static str,
        /// Its format.
        found: u64,
        /// The newest format this version reads.
        known: u64,
    },
    /// No version writes this: the bytes are damaged, or not meant to be read as this.
    #[error("{path} {fault}")]
    Malformed {
        /// The part that is not valid, such as `batch.items[3].turn.agent.name`.
        path: String,
        /// What is the matter with it.
        fault: Fault,
    },
}

/// What is the matter with a part. Its text continues the name of the part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not there, or of a sort this version does not know.
    #[error("is missing")]
    Missing,
    /// It ends too early.
    #[error("is cut short")]
    Cut,
    /// It holds or is followed by bytes that do not belong there.
    #[error("has bytes that do not belong there")]
    Unexpected,
    /// It is no protobuf message.
    #[error("is malformed: {0}")]
    Protobuf(String),
    /// It is an id of a wrong length.
    #[error("has {bytes} bytes, and an id has 16")]
    Id {
        /// Its length.
        bytes: usize,
    },
    /// It is a choice that this version does not know.
    #[error("has the unknown value {0}")]
    Unknown(i32),
    /// It is a number outside its range.
    #[error("is {0}, which is out of range")]
    Range(u64),
    /// It is a name or a key that breaks a rule.
    #[error("{0}")]
    Name(Invalid),
    /// It is a filter of a connection that breaks a rule.
    #[error("is no filter: {0:?}")]
    Filter(String),
    /// It is a trace without an id, or without a span.
    #[error("is no trace")]
    Trace,
    /// It has too many parts.
    #[error("has more than {0} parts")]
    Many(usize),
}

impl DecodeError {
    /// The same error, seen from the whole that `part` belongs to.
    pub(super) fn within(self, part: &str) -> Self {
        match self {
            Self::Newer { .. } => self,
            Self::Malformed { path, fault } => {
                let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
                Self::Malformed { path: format!("{part}{dot}{path}"), fault }
            }
        }
    }
}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        Self::Malformed { path: String::new(), fault }
    }
}

impl From<Invalid> for DecodeError {
    fn from(invalid: Invalid) -> Self {
        Fault::Name(invalid).into()
    }
}
