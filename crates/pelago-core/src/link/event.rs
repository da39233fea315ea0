//! What a link is told, what it wants done, and how it ends.

use super::{
    hello::{Hello, Refusal, Terms},
    lane::Lane,
    names::Settled,
    requests::{RequestId, Ticket},
};

/// What a link is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The other end introduced itself.
    Hello(Hello),
    /// The answer to [`Effect::Judge`].
    Judged(Result<(), Refusal>),
    /// The other end wants no link.
    Refused(Refusal),
    /// The other end asks for a sign of life.
    Ping(u64),
    /// The other end gave one.
    Pong(u64),
    /// The other end consumed what was sent to it.
    Credit {
        /// In which lane.
        lane: Lane,
        /// How much.
        bytes: u32,
    },
    /// The other end closes the link.
    Goodbye(Goodbye),
    /// This end closes the link.
    Close(Goodbye),
    /// The other end sent what it must not.
    Broken(Flaw),
    /// The other end does not take what is sent to it.
    Stuck,
    /// The connection ended or failed.
    Lost,
}

/// What the driver of a link must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a frame that keeps the link itself going; it is not charged.
    Send(Control),
    /// Both ends agree: ask the table of links, and report.
    Judge(Box<Terms>),
    /// The link is up.
    Up(Box<Terms>),
    /// There is new credit: wake who waits for it.
    Credited(Lane),
    /// A request has ended without a reply.
    Unanswered {
        /// Whose.
        ticket: Ticket,
        /// Why.
        why: Unanswered,
    },
    /// Nothing new may be asked or told: tell who waits for room.
    Closing,
    /// The link is over: write what was sent, then close the connection. Nothing more will happen.
    Down(Ended),
}

/// Frames that keep a link going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// The introduction.
    Hello(Box<Hello>),
    /// No link.
    Refuse(Refusal),
    /// Asks for a sign of life.
    Ping(u64),
    /// Gives it.
    Pong(u64),
    /// Returns credit.
    Credit {
        /// In which lane.
        lane: Lane,
        /// How much.
        bytes: u32,
    },
    /// Says what became of messages to a name.
    Settled {
        /// The lane in which they came.
        lane: Lane,
        /// What became of them.
        settled: Settled,
    },
    /// Calls a request off.
    Cancel {
        /// Its lane.
        lane: Lane,
        /// Which.
        request: RequestId,
    },
    /// The last frame of an end, but for answers and what keeps the link going.
    Goodbye(Goodbye),
}

/// Why an end says goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Goodbye {
    /// Its node stops.
    #[error("it is stopping")]
    Stopping,
    /// Another link between the two nodes took its place.
    #[error("another link took its place")]
    Replaced,
    /// The other end broke the protocol.
    #[error("it received what the link protocol does not allow")]
    Broken,
}

/// What an end must never send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The bytes are no frame.
    #[error("bytes that are no frame")]
    Malformed,
    /// A frame is larger than allowed.
    #[error("a frame that is too large")]
    TooLarge,
    /// A frame has no place at this point.
    #[error("a frame that has no place here")]
    Unexpected,
    /// More was sent, or returned, than was granted.
    #[error("more than its credit")]
    Credit,
    /// A request's id is not greater than those before it.
    #[error("requests out of order")]
    Order,
    /// More requests are unanswered than agreed.
    #[error("more requests than agreed")]
    TooManyRequests,
}

/// Why a request has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Its deadline passed. It may have had its effect.
    #[error("no reply came within the deadline")]
    Deadline,
    /// The other end refused the link, which was up only here. The request had no effect.
    #[error("the other end refused the link")]
    Refused,
    /// The link ended first. It may have had its effect.
    #[error("the link ended before a reply came")]
    LinkDown,
}

/// Why the other end will not reply to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// Whoever was to answer gave up. The request may have had its effect.
    #[error("the other node gave it up")]
    Dropped,
    /// It has no room. The request had no effect.
    #[error("the other node is busy")]
    Busy,
    /// It knows no requests of this kind. The request had no effect.
    #[error("the other node knows no such request")]
    UnknownKind,
}

/// How a link ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// This end refused.
    #[error("this node refused the link: {0}")]
    RefusedHere(Refusal),
    /// The other end refused.
    #[error("the other node refused the link: {0}")]
    RefusedThere(Refusal),
    /// This end closed it.
    #[error("this node closed the link: {0}")]
    ClosedHere(Goodbye),
    /// The other end closed it.
    #[error("the other node closed the link: {0}")]
    ClosedThere(Goodbye),
    /// No handshake in time.
    #[error("the other end did not introduce itself in time")]
    NoHandshake,
    /// The other end gave no sign of life.
    #[error("the other node was silent for too long")]
    Silent,
    /// The other end did not read.
    #[error("the other end did not take what was sent to it")]
    Stuck,
    /// The other end broke the protocol.
    #[error("the other end sent {0}")]
    Broken(Flaw),
    /// The connection ended without a goodbye.
    #[error("the connection was lost")]
    Lost,
}
