//! The agents of the simulation: a *register* appends numbers to its state and tells what it held before; a *reader*
//! keeps nothing and does tasks.
//!
//! A register's reply holds its length and a hash over its numbers, so that an answer names one point of its history
//! and can be checked without searching.

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use pelago_core::{
    agent::{Failure, Produced},
    id::{AgentId, FencingToken, Key, Name, TaskId, TimerName},
    record::{BodyHash, MessageBody, NewTask, Placement, RetryPolicy, SetTimer, TimerChange},
};

use crate::dice::Dice;

/// What a register or a reader can be asked. Its text is the payload, so that a trace can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Append a number.
    Append { number: u64 },
    /// Append a number, and send another one to a register.
    Tell { number: u64, sent: u64, to: u64 },
    /// Append a number, and enqueue a task that appends another one.
    Delegate { number: u64, task: u64, to: u64 },
    /// Append a number, and set a timer of the register.
    Later { number: u64, timer: u64, after_ms: u64, then: Then, fires: u64 },
    /// Append a number, and cancel a timer of the register.
    Settle { number: u64, timer: u64 },
    /// Tell what there is.
    Peek,
    /// Fail, and tell what there is in the error.
    Refuse,
    /// Append a number, but never in time.
    Stall { number: u64 },
    /// Append a number, but fail always.
    Poison { number: u64 },
    /// Append a number, but fail often.
    Flaky { number: u64 },
    /// Append a number, but fail and say that trying again is of no use.
    Hopeless { number: u64 },
}

/// What the turn of a timer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It appends a number.
    Append,
    /// It appends one, but fails often.
    Flaky,
    /// It would append one, but fails always.
    Poison,
    /// It appends one and sets the timer again, which appends the next number.
    Again,
}

impl Then {
    const ALL: [Self; 4] = [Self::Append, Self::Flaky, Self::Poison, Self::Again];

    /// What a timer is told that appends `number`.
    fn request(self, number: u64, timer: u64, after_ms: u64) -> Request {
        match self {
            Self::Append => Request::Append { number },
            Self::Flaky => Request::Flaky { number },
            Self::Poison => Request::Poison { number },
            Self::Again => Request::Later { number, timer, after_ms, then: Self::Append, fires: number + 1 },
        }
    }
}

impl Request {
    pub(crate) fn payload(&self) -> Bytes {
        Bytes::from(self.to_string())
    }

    pub(crate) fn read(payload: &[u8]) -> Self {
        let text = std::str::from_utf8(payload).expect("a payload is text");
        text.parse().expect("a payload is a request")
    }

    /// The number that a successful turn appends.
    pub(crate) fn number(&self) -> Option<u64> {
        match *self {
            Self::Append { number }
            | Self::Tell { number, .. }
            | Self::Delegate { number, .. }
            | Self::Later { number, .. }
            | Self::Settle { number, .. }
            | Self::Stall { number }
            | Self::Poison { number }
            | Self::Flaky { number }
            | Self::Hopeless { number } => Some(number),
            Self::Peek | Self::Refuse => None,
        }
    }

    /// All numbers that may be appended because of it, at once or later.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        match *self {
            Self::Tell { number, sent, .. } => vec![number, sent],
            Self::Delegate { number, task, .. } => vec![number, task],
            Self::Later { number, fires, .. } => vec![number, fires, fires + 1],
            Self::Append { .. }
            | Self::Settle { .. }
            | Self::Peek
            | Self::Refuse
            | Self::Stall { .. }
            | Self::Poison { .. }
            | Self::Flaky { .. }
            | Self::Hopeless { .. } => self.number().into_iter().collect(),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { number } => write!(f, "append {number}"),
            Self::Tell { number, sent, to } => write!(f, "tell {number} {sent} {to}"),
            Self::Delegate { number, task, to } => write!(f, "delegate {number} {task} {to}"),
            Self::Later { number, timer, after_ms, then, fires } => {
                write!(f, "later {number} {timer} {after_ms} {} {fires}", *then as u64)
            }
            Self::Settle { number, timer } => write!(f, "settle {number} {timer}"),
            Self::Peek => f.write_str("peek"),
            Self::Refuse => f.write_str("refuse"),
            Self::Stall { number } => write!(f, "stall {number}"),
            Self::Poison { number } => write!(f, "poison {number}"),
            Self::Flaky { number } => write!(f, "flaky {number}"),
            Self::Hopeless { number } => write!(f, "hopeless {number}"),
        }
    }
}

/// Text that is no request.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no request")]
pub(crate) struct NotARequest(String);

impl FromStr for Request {
    type Err = NotARequest;

    fn from_str(text: &str) -> Result<Self, NotARequest> {
        let mut words = text.split(' ');
        let verb = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        Ok(match (verb, numbers.as_slice()) {
            ("append", &[number]) => Self::Append { number },
            ("tell", &[number, sent, to]) => Self::Tell { number, sent, to },
            ("delegate", &[number, task, to]) => Self::Delegate { number, task, to },
            ("later", &[number, timer, after_ms, then, fires]) => {
                let then = usize::try_from(then).ok().and_then(|then| Then::ALL.get(then).copied());
                let then = then.ok_or_else(|| NotARequest(text.to_owned()))?;
                Self::Later { number, timer, after_ms, then, fires }
            }
            ("settle", &[number, timer]) => Self::Settle { number, timer },
            ("peek", &[]) => Self::Peek,
            ("refuse", &[]) => Self::Refuse,
            ("stall", &[number]) => Self::Stall { number },
            ("poison", &[number]) => Self::Poison { number },
            ("flaky", &[number]) => Self::Flaky { number },
            ("hopeless", &[number]) => Self::Hopeless { number },
            _ => return Err(NotARequest(text.to_owned())),
        })
    }
}

/// What an agent is asked within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    /// An ask or a message.
    Turn,
    /// An attempt at a task.
    Attempt(TaskId, FencingToken),
}

/// How a turn went: how long it takes, and how it ends.
pub(crate) type Ending = (Duration, Result<Produced, Failure>);

/// Runs a register's turn on `numbers`, which it changes in place even when it fails: taking that back is the
/// driver's duty.
pub(crate) fn register(numbers: &mut Vec<u64>, within: Within, request: Request, dice: &mut Dice) -> Ending {
    let before = Glimpse::of(numbers);
    if let Some(number) = request.number() {
        numbers.push(number);
    }
    let state = request.number().map(|_| state_of(numbers));
    let reply = match within {
        Within::Turn => Bytes::from(before.to_string()),
        Within::Attempt(task, token) => result_of(task, token),
    };
    end(Produced { state, reply, ..Produced::default() }, request, &before.to_string(), dice)
}

/// Runs a reader's attempt.
pub(crate) fn reader(task: TaskId, token: FencingToken, request: Request, dice: &mut Dice) -> Ending {
    let produced = Produced { reply: result_of(task, token), ..Produced::default() };
    end(produced, request, "the reader failed", dice)
}

fn end(mut produced: Produced, request: Request, error: &str, dice: &mut Dice) -> Ending {
    let failed = || Err(Failure::Failed(error.to_owned()));
    let mut takes = Duration::from_micros(dice.between(20, 2_000));
    if dice.chance(30) {
        takes = Duration::from_millis(dice.between(5, 400));
    }
    let result = match request {
        Request::Append { .. } | Request::Peek => Ok(produced),
        Request::Stall { .. } => {
            takes = Duration::from_secs(30);
            Ok(produced)
        }
        Request::Tell { sent, to, .. } => {
            produced
                .sends
                .push(MessageBody { to: register_id(to), payload: Request::Append { number: sent }.payload() });
            Ok(produced)
        }
        Request::Delegate { task, to, .. } => {
            produced.enqueues.push(new_task(register_id(to), Request::Append { number: task }));
            Ok(produced)
        }
        Request::Later { timer, after_ms, then, fires, .. } => {
            let set = SetTimer { after_ms, payload: then.request(fires, timer, after_ms).payload() };
            produced.timers.push(TimerChange { name: timer_name(timer), set: Some(set) });
            Ok(produced)
        }
        Request::Settle { timer, .. } => {
            produced.timers.push(TimerChange { name: timer_name(timer), set: None });
            Ok(produced)
        }
        Request::Hopeless { .. } => Err(Failure::Hopeless(error.to_owned())),
        Request::Refuse | Request::Poison { .. } => failed(),
        Request::Flaky { .. } if dice.chance(600) => failed(),
        Request::Flaky { .. } => Ok(produced),
    };
    (takes, result)
}

/// What a register tells: one point of its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Glimpse {
    pub(crate) length: usize,
    pub(crate) hash: u64,
}

impl Glimpse {
    pub(crate) fn of(numbers: &[u64]) -> Self {
        let hash = numbers.iter().fold(Self::EMPTY, |hash, number| Self::next(hash, *number));
        Self { length: numbers.len(), hash }
    }

    pub(crate) const EMPTY: u64 = 0xcbf2_9ce4_8422_2325;

    /// The hash after one more number.
    pub(crate) fn next(hash: u64, number: u64) -> u64 {
        (hash.rotate_left(17) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        let (length, hash) = text.split_once(' ')?;
        Some(Self { length: length.parse().ok()?, hash: hash.parse().ok()? })
    }
}

impl fmt::Display for Glimpse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.length, self.hash)
    }
}

pub(crate) fn state_of(numbers: &[u64]) -> Bytes {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

pub(crate) fn numbers_of(state: &[u8]) -> Vec<u64> {
    state.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().expect("a chunk has 8 bytes"))).collect()
}

/// The result of an attempt names it, so that one attempt's result cannot pass for another's.
pub(crate) fn result_of(task: TaskId, token: FencingToken) -> Bytes {
    Bytes::from(format!("{task} by {token}"))
}

/// What an attempt has to say while it runs: the first `n` of its notes, each named after it.
pub(crate) fn notes_of(token: FencingToken, n: u64) -> Vec<Bytes> {
    (0..n).map(|n| Bytes::from(format!("{token} note {n}"))).collect()
}

fn timer_name(n: u64) -> TimerName {
    TimerName::new(&format!("timer-{n}")).expect("the name is valid")
}

pub(crate) fn register_name() -> Name {
    Name::new("register").expect("the name is valid")
}

pub(crate) fn reader_name() -> Name {
    Name::new("reader").expect("the name is valid")
}

pub(crate) fn register_id(n: u64) -> AgentId {
    let key = Key::new(&n.to_string()).expect("a number is a valid key");
    AgentId { namespace: Name::default_namespace(), name: register_name(), key: Some(key) }
}

pub(crate) fn reader_id() -> AgentId {
    AgentId { namespace: Name::default_namespace(), name: reader_name(), key: None }
}

/// A task with usual limits. Its id follows from the number it appends: a number is used once.
pub(crate) fn new_task(agent: AgentId, request: Request) -> NewTask {
    let number = request.number().expect("a task's request has a number");
    let input = request.payload();
    NewTask {
        id: TaskId(u128::from(number)),
        placement: if agent.key.is_some() { Placement::Keyed } else { Placement::Pool },
        node: None,
        priority: 4,
        delay_ms: 0,
        policy: RetryPolicy { attempts_max: 3, attempt_ms_max: 3_000, backoff_ms: 100, backoff_ms_max: 2_000 },
        idempotency: None,
        body: BodyHash::of(&agent, &input),
        part_of: None,
        agent,
        input,
    }
}
