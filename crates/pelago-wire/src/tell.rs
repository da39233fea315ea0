//! Messages that nobody answers, as bytes: the kinds of one-way frames, between nodes and from clients alike.
//!
//! The first message to a name gives it a number; what follows says the number only (see `core::link::Names`).

/// What a one-way frame is about: its kind in `wire::frame`. Numbers are never given another meaning.
pub mod kind {
    /// From here on the frame's number stands for the name that is its payload: an agent's address, or `#` and a
    /// topic.
    pub const BIND: u16 = 128;
    /// A message to the agent, or the topic, that the frame's number stands for. The payload is the message.
    pub const TELL: u16 = 129;
    /// To a client: a message of the subscription with the frame's number. The payload is a
    /// [`Published`](crate::client::Published).
    pub const PUBLISHED: u16 = 130;
    /// From a client: it wants no more of the subscription with the frame's number.
    pub const UNSUBSCRIBE: u16 = 131;
    /// What a node tells another about who is there: a packet of `wire::gossip`, for nobody's number.
    pub const GOSSIP: u16 = 132;
}
