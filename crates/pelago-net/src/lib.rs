//! Links between nodes over TCP.
//!
//! *Is:* the only crate with sockets between nodes. [`Listener`] takes connections, [`Dial`] makes and remakes one, and
//! the driver carries out what `core::link` decides. A [`Handle`] sends and asks over a link; whatever arrives goes
//! to a [`Deliver`]. [`Links`] is all of them together, for one node.
//!
//! *Is not:* a place for decisions about links (`core::link`), for layouts of bytes (`wire::frame`), or for what the
//! payloads mean (`pelago-node`). There is no TLS yet, so it listens on loopback only.
//!
//! ```text
//!   Handle::send ─► outbox (encoded at once, one buffer a lane) ─► writer ─► socket
//!   socket ─► reader (up to 256 KiB at a time, cut in place) ─► core::link (credit, order) ─► Deliver, a batch a lane
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod deliver;
mod dial;
mod driver;
mod handle;
mod links;
mod listen;
mod outbox;
mod tickets;
mod window;

pub use deliver::{Ask, Credit, Deliver, Incoming};
pub use dial::{Dial, State};
pub use handle::{Handle, Recipient, RequestError, SendError};
pub use links::{Config, Guest, Links, Packing};
pub use listen::{Greetings, ListenError, Listener};
pub use window::{Held, Window};
