//! The state machine's rows in SQLite.
//!
//! *Is:* one database file that says what every entry of the log up to one index has made true. [`Machine`] applies
//! entries to it by the rules of [`pelago_core::record`], [`Writer`] gives it a thread, [`Reader`] answers questions,
//! [`checkpoint`] makes it durable, [`dump`] and [`restore`] carry it to another node.
//!
//! *Is not:* durable by itself. A commit is in the operating system's memory; the Raft log is the durability, and may
//! forget only what a checkpoint has covered. Nor does it decide anything: no rule stands in SQL.
//!
//! ```text
//!   entries ──► Writer ──► Machine ──► decide ──► rows ──► outcomes ─── COMMIT, now and then and for who reads
//!                                        ▲         │
//!                                        └─────────┘ later items see what earlier ones wrote
//! ```
//!
//! A person can read the file with the `sqlite3` shell while the node runs: ids of 128 bits are blobs (`hex(id)`),
//! times are milliseconds since 1970 in UTC, and an agent without a key has an empty one.

mod batch;
mod checkpoint;
mod column;
mod cursor;
mod dump;
mod error;
mod machine;
mod query;
mod reader;
mod row;
mod rules;
mod schema;
mod session;
mod statements;
mod totals;
mod unwritten;
mod write;
mod write_out;
mod writer;

pub use checkpoint::{checkpoint, wal_bytes};
pub use cursor::Cursor;
pub use dump::{DumpInfo, Fresh, dump, restore};
pub use error::Error;
pub use machine::{Applied, Applies, Entry, Machine};
pub use query::{AgentFilter, AgentWhole, NameFilter, Page, TaskFilter, TaskWhole};
pub use reader::{Reader, View};
pub use session::SessionFilter;
pub use totals::Totals;
pub use writer::{Done, Writer};
