//! The table of codes. A number, once given out, keeps its meaning for ever.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $status:literal, $retry:ident, $title:literal;)*) => {
        /// A kind of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as people see it: `PLG-2004`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("PLG-", $number),)*
                }
            }

            /// The code as a URI.
            #[must_use]
            pub const fn uri(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("urn:pelago:PLG-", $number),)*
                }
            }

            /// What kind of problem it is.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }

            const fn retry(self) -> Retry {
                match self {
                    $(Self::$name => Retry::$retry,)*
                }
            }
        }
    };
}

codes! {
    /// Text that is no address, name or key.
    BadAddress = 2001, 400, Never, "not a valid address";
    /// The body is not JSON.
    BadJson = 2002, 400, Never, "the body is not valid JSON";
    /// The body is JSON, with a field that is unknown, missing or of the wrong type.
    BadField = 2003, 400, Never, "a field of the body is not valid";
    /// No node hosts an agent of this name.
    UnknownAgent = 2004, 404, Never, "agent not found";
    /// There is no such task.
    UnknownTask = 2005, 404, Never, "task not found";
    /// There is no such node.
    UnknownNode = 2006, 404, Never, "node not found";
    /// The agent never had a turn.
    NoState = 2007, 404, Never, "the agent has no state yet";
    /// The address lacks a key, or has one too many.
    WrongKey = 2008, 400, Never, "the address does not fit the agent";
    /// A parameter of the query is unknown or not valid.
    BadParameter = 2009, 400, Never, "a parameter of the query is not valid";
    /// A cursor that was not given out.
    BadCursor = 2010, 400, Never, "the cursor is not valid";
    /// Text that is no task id.
    BadTaskId = 2011, 400, Never, "not a task id";
    /// No such resource.
    UnknownPath = 2012, 404, Never, "no such resource";
    /// The resource has no such method.
    WrongMethod = 2013, 405, Never, "the resource does not have this method";
    /// The body is longer than any request may be.
    BodyTooLarge = 2014, 413, Never, "the body is too large";
    /// The body is of a type that is not read.
    WrongMediaType = 2015, 415, Never, "the body must be JSON";
    /// The request names a host that is not this machine.
    ForeignHost = 2016, 403, Never, "the request is meant for another host";
    /// A web page from elsewhere sent the request.
    ForeignOrigin = 2017, 403, Never, "the request comes from a foreign web page";
    /// The idempotency key is empty, too long or unreadable.
    BadIdempotencyKey = 2018, 400, Never, "the idempotency key is not valid";
    /// The idempotency key was used for another request.
    Conflict = 2019, 409, Never, "the idempotency key was used for another request";
    /// The request does not fit the state of its object.
    WrongState = 2020, 409, Never, "the request does not fit the state";
    /// A part of the request is too large.
    TooLarge = 2021, 413, Never, "a part of the request is too large";
    /// A queue or mailbox is full.
    Busy = 2022, 429, Soon, "too much waits already";
    /// The agent failed; another attempt may succeed.
    AgentFailed = 2023, 500, Maybe, "the agent failed";
    /// The agent refused: the same request can never succeed.
    AgentRefused = 2024, 422, Never, "the agent refused the request";
    /// No reply in time.
    Timeout = 2025, 504, Maybe, "no reply in time";
    /// No majority of voters answers.
    NoQuorum = 2026, 503, Soon, "the mesh has no majority";
    /// The disk of the node that was asked, or of the leader, is full.
    DiskFull = 2027, 507, Maybe, "no space is left";
    /// The node is stopping.
    Stopping = 2028, 503, Soon, "the node is stopping";
    /// The store of the node cannot be read.
    Store = 2029, 500, Maybe, "the store cannot be read";
    /// The body did not arrive in time, or not whole.
    BodyNotReceived = 2030, 408, Maybe, "the body was not received";
    /// Nothing listens there.
    Unreachable = 2031, 503, Maybe, "no node answers";
    /// Something answered that is not a node, or a node of another version.
    BadAnswer = 2032, 502, Never, "the answer cannot be read";
    /// All connections that a node has are taken.
    NoRoom = 2033, 503, Soon, "the node has no connection left";
    /// Only a node that was stopped or lost can be removed.
    NodeUp = 2034, 409, Never, "the node takes part";
    /// The node that was asked was lost before it answered. Repeated without a key, the request may count twice.
    InDoubt = 2035, 503, Never, "whether the request takes effect is not known";
    /// The node is starting, and takes no part in its mesh yet.
    Starting = 2036, 503, Soon, "the node is starting";
    /// A signal has made as many hops as it may.
    HopLimit = 2037, 508, Never, "the signal has made as many hops as it may";
    /// No node knows such a signal.
    UnknownSignal = 2038, 404, Never, "signal not found";
    /// There is no such connection.
    UnknownConnection = 2039, 404, Never, "connection not found";
    /// Text that is no signal id.
    BadSignalId = 2040, 400, Never, "not a signal id";
    /// The agent failed too often of late wherever it is hosted.
    BreakerOpen = 2041, 503, Soon, "the agent is left alone for a while";
    /// Another message of the session is being handled, and this one was not to wait.
    SessionBusy = 2042, 409, Maybe, "another message of the session is being handled";
    /// Another message of the session interrupted this one.
    Interrupted = 2043, 409, Never, "another message of the session interrupted this one";
    /// There is no such session.
    UnknownSession = 2044, 404, Never, "session not found";
    /// The node that took a signal does not answer.
    SignalAway = 2046, 503, Maybe, "the node that took the signal does not answer";
    /// A header of a request says something that it cannot.
    BadHeader = 2050, 400, Never, "a header is not valid";
}

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// No.
    Never,
    /// Perhaps; nobody knows when.
    Maybe,
    /// Yes, in about a second.
    Soon,
}

impl Code {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self.retry() {
            Retry::Never => false,
            Retry::Maybe | Retry::Soon => true,
        }
    }

    /// When to try again, in seconds.
    #[must_use]
    pub const fn retry_after_s(self) -> Option<u32> {
        match self.retry() {
            Retry::Never | Retry::Maybe => None,
            Retry::Soon => Some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_of_the_range_for_requests() {
        let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        assert!(codes.iter().all(|code| code.len() == 8 && code.starts_with("PLG-2")));
    }

    #[test]
    fn every_code_has_an_error_status_and_a_title() {
        for code in Code::ALL {
            assert!((400..600).contains(&code.status()) && !code.title().is_empty(), "{code:?}");
        }
    }

    #[test]
    fn the_reference_of_the_http_api_lists_every_code_as_it_is() {
        let reference = include_str!("../../../../docs/http.md");
        for code in Code::ALL {
            let again = match code.retry() {
                Retry::Never => "no",
                Retry::Maybe => "perhaps",
                Retry::Soon => "in 1 s",
            };
            let row = format!("| {} | {} | {again} |", code.as_str(), code.status());
            assert!(reference.contains(&row), "docs/http.md has no row that begins with {row:?}");
        }
    }
}
