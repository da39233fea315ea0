//! One end of one link: the handshake, keep-alive, credit, requests in flight, and how it ends.
//!
//! It counts and decides; it neither encodes nor reads a socket. `net::driver` drives it.
//!
//! ```text
//!   dialled:  Hello ►            ┌─► Judging ─┬─► Up ─┬─► Closing ─► Down      (goodbye said here or there)
//!   accepted:         ◄ Hello ───┘            │       └────────────► Down      (silent, broken, lost)
//!                                             └────────────────────► Down      (refused, with a reason both report)
//! ```
//!
//! An end that hears a goodbye says one too. After its own, an end asks and tells nothing new, and answers what it was
//! asked before; once both are said and nothing is unanswered either way, the link is down, and nobody is in doubt.
//!
//! What changes the state of the link goes through [`Link::handle`]. What happens for each frame (charging credit,
//! checking order, naming requests) are plain methods, cheap enough for millions a second.

mod dialer;
mod event;
mod hello;
mod lane;
mod names;
mod requests;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use dialer::{Dialer, Pauses};
pub use event::{Control, Effect, Ended, Flaw, Goodbye, Input, NoReply, Unanswered};
pub use hello::{Hello, Refusal, Role, Terms, VERSION, Versions, feature};
use lane::Credit;
pub use lane::{LANE_BYTES_MIN, Lane, PerLane};
pub use names::{Account, Bound, NAMES_MAX, Names, Number, Settled, WINDOW_BYTES};
use requests::Requests;
pub use requests::{RequestId, Ticket};
pub use table::{LinkId, PLACES_OF_NODES, Table};

use crate::time::Time;

/// The largest payload of a frame.
pub const PAYLOAD_BYTES_MAX: u32 = 1 << 20;

/// The largest payload of a frame before the handshake is done: whoever sends it is not known yet.
pub const GREETING_BYTES_MAX: u32 = 4 << 10;

/// The times of a link.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How long a handshake may take.
    pub handshake_max: Duration,
    /// After how long without a byte from the other end it is asked for a sign of life.
    pub ping_after: Duration,
    /// After how long without a byte it counts as dead. More than `ping_after` and a round trip.
    pub dead_after: Duration,
    /// After how long without taking a byte of what waits to be written the other end counts as stuck, whatever it
    /// sends.
    pub stuck_after: Duration,
    /// How long an end that said goodbye waits for the other's, and for what is unanswered.
    pub close_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            handshake_max: Duration::from_secs(5),
            ping_after: Duration::from_secs(2),
            dead_after: Duration::from_secs(6),
            stuck_after: Duration::from_secs(10),
            close_max: Duration::from_secs(2),
        }
    }
}

#[derive(Debug)]
enum Phase {
    Greeting { until: Time },
    Judging { until: Time, terms: Box<Terms> },
    Up { pinged: bool },
    Closing { until: Time, how: Ended, has_heard: bool },
    Down,
}

/// One end of one link.
#[derive(Debug)]
pub struct Link {
    config: Config,
    me: Hello,
    dialled: bool,
    phase: Phase,
    heard: Time,
    credit: Credit,
    requests: Requests,
}

impl Link {
    /// The end that dialled: it introduces itself first.
    pub fn dialled(config: Config, me: Hello, now: Time, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Send(Control::Hello(Box::new(me.clone()))));
        Self::new(config, me, true, now)
    }

    /// The end that was dialled. It answers in the role that the other end chose.
    #[must_use]
    pub fn accepted(config: Config, me: Hello, now: Time) -> Self {
        Self::new(config, me, false, now)
    }

    fn new(config: Config, me: Hello, dialled: bool, now: Time) -> Self {
        Self {
            config,
            me,
            dialled,
            phase: Phase::Greeting { until: now + config.handshake_max },
            heard: now,
            credit: Credit::new(PerLane::all(0), PerLane::all(0)),
            requests: Requests::default(),
        }
    }

    /// Advances the link by one event.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Hello(other) => self.greeted(other, effects),
            Input::Judged(verdict) => self.judged(now, verdict, effects),
            Input::Refused(refusal) => self.refused(refusal, effects),
            Input::Ping(number) => self.pinged(number, effects),
            Input::Pong(_) => self.expect_up(effects),
            Input::Credit { lane, bytes } => self.credited(lane, bytes, effects),
            Input::Goodbye(why) => self.goodbye(now, why, effects),
            Input::Close(why) => self.close(now, why, effects),
            Input::Broken(flaw) => self.broken(flaw, effects),
            // Nothing can be said to it.
            Input::Stuck => self.end(Ended::Stuck, effects),
            Input::Lost => self.lost(effects),
        }
    }

    /// Gives up on what took too long. Call when [`Self::deadline`] has passed.
    pub fn expire(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some((lane, request, ticket)) = self.requests.expire(now) {
            effects.push(Effect::Send(Control::Cancel { lane, request }));
            effects.push(Effect::Unanswered { ticket, why: Unanswered::Deadline });
        }
        match &mut self.phase {
            Phase::Greeting { until } | Phase::Judging { until, .. } if now >= *until => {
                self.end(Ended::NoHandshake, effects);
            }
            Phase::Closing { until, how, .. } if now >= *until => {
                let how = how.clone();
                self.end(how, effects);
            }
            Phase::Up { .. } if now >= self.heard + self.config.dead_after => self.end(Ended::Silent, effects),
            Phase::Up { pinged } if !*pinged && now >= self.heard + self.config.ping_after => {
                *pinged = true;
                effects.push(Effect::Send(Control::Ping(now.as_micros())));
            }
            Phase::Greeting { .. } | Phase::Judging { .. } | Phase::Up { .. } | Phase::Closing { .. } | Phase::Down => {
            }
        }
    }

    /// When to call [`Self::expire`].
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let own = match self.phase {
            Phase::Greeting { until } | Phase::Judging { until, .. } | Phase::Closing { until, .. } => until,
            Phase::Up { pinged: false } => self.heard + self.config.ping_after,
            Phase::Up { pinged: true } => self.heard + self.config.dead_after,
            Phase::Down => return None,
        };
        Some(self.requests.deadline().map_or(own, |deadline| deadline.min(own)))
    }

    /// Whether anything may be asked or told.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// Whether what arrived may be answered.
    #[must_use]
    pub fn may_answer(&self) -> bool {
        matches!(self.phase, Phase::Up { .. } | Phase::Closing { .. })
    }

    /// Ends a link that both ends have closed, once nothing is unanswered. Call after requests and answers.
    pub fn part(&mut self, effects: &mut Vec<Effect>) {
        if let Phase::Closing { has_heard: true, how, .. } = &self.phase
            && self.requests.are_over()
        {
            let how = how.clone();
            self.end(how, effects);
        }
    }

    /// Bytes came from the other end: it lives.
    pub fn heard(&mut self, now: Time) {
        self.heard = now;
        if let Phase::Up { pinged } = &mut self.phase {
            *pinged = false;
        }
    }

    /// Takes the credit for a frame of `bytes`, header included; `false`, with nothing taken, if there is not enough.
    pub fn charge(&mut self, lane: Lane, bytes: u32) -> bool {
        self.is_up() && self.credit.charge(lane, bytes)
    }

    /// Takes the credit for a reply, as [`Self::charge`] does.
    pub fn charge_reply(&mut self, lane: Lane, bytes: u32) -> bool {
        self.may_answer() && self.credit.charge(lane, bytes)
    }

    /// A charged frame of `bytes` arrived.
    ///
    /// # Errors
    /// What the other end did wrong: give it to [`Input::Broken`].
    pub fn received(&mut self, lane: Lane, bytes: u32) -> Result<(), Flaw> {
        match self.phase {
            // What was on its way when this end said goodbye still counts.
            Phase::Up { .. } | Phase::Closing { .. } => self.credit.received(lane, bytes),
            Phase::Greeting { .. } | Phase::Judging { .. } | Phase::Down => Err(Flaw::Unexpected),
        }
    }

    /// Frames of `bytes` were consumed. Returns what to send, once it is worth a frame.
    #[must_use]
    pub fn consumed(&mut self, lane: Lane, bytes: u32) -> Option<Control> {
        let bytes = self.credit.consumed(lane, bytes)?;
        Some(Control::Credit { lane, bytes })
    }

    /// The name of the next request. `None` if the other end takes no more in this lane for the moment.
    #[must_use]
    pub fn next_request(&self, lane: Lane) -> Option<RequestId> {
        self.requests.next(lane)
    }

    /// The request that [`Self::next_request`] named is sent; `ticket` waits for its reply.
    pub fn ask(&mut self, lane: Lane, ticket: Ticket, deadline: Time) {
        self.requests.ask(lane, ticket, deadline);
    }

    /// A reply came. `None` if nobody waits for it any more.
    ///
    /// # Errors
    /// The reply is to nothing that was ever asked.
    pub fn replied(&mut self, lane: Lane, request: RequestId) -> Result<Option<Ticket>, Flaw> {
        if !self.requests.was_sent(lane, request) {
            return Err(Flaw::Unexpected);
        }
        Ok(self.requests.end(lane, request))
    }

    /// Whoever waited for a reply has gone. Returns its ticket and what to send, unless the request has ended.
    #[must_use]
    pub fn cancel(&mut self, lane: Lane, request: RequestId) -> Option<(Ticket, Control)> {
        let ticket = self.requests.end(lane, request)?;
        Some((ticket, Control::Cancel { lane, request }))
    }

    /// A request came.
    ///
    /// # Errors
    /// What the other end did wrong: give it to [`Input::Broken`].
    pub fn asked(&mut self, lane: Lane, request: RequestId) -> Result<(), Flaw> {
        self.requests.asked(lane, request)
    }

    /// Whether a request that came is still to be answered.
    #[must_use]
    pub fn is_open(&self, lane: Lane, request: RequestId) -> bool {
        self.requests.is_open(lane, request)
    }

    /// Counts a request as answered. `false` if it has ended before.
    pub fn answer(&mut self, lane: Lane, request: RequestId) -> bool {
        self.requests.close(lane, request)
    }

    /// The other end called a request off. `false` if it was answered before.
    ///
    /// # Errors
    /// The request never came.
    pub fn called_off(&mut self, lane: Lane, request: RequestId) -> Result<bool, Flaw> {
        if !self.requests.has_come(lane, request) {
            return Err(Flaw::Unexpected);
        }
        Ok(self.requests.close(lane, request))
    }

    fn greeted(&mut self, other: Hello, effects: &mut Vec<Effect>) {
        let Phase::Greeting { until } = self.phase else {
            return self.broken(Flaw::Unexpected, effects);
        };
        if self.dialled && other.role != self.me.role {
            return self.broken(Flaw::Unexpected, effects);
        }
        match self.me.agree(other, self.dialled) {
            Ok(terms) => {
                self.me.role = terms.other.role;
                let terms = Box::new(terms);
                effects.push(Effect::Judge(terms.clone()));
                self.phase = Phase::Judging { until, terms };
            }
            Err(refusal) => self.refuse(refusal, effects),
        }
    }

    fn judged(&mut self, now: Time, verdict: Result<(), Refusal>, effects: &mut Vec<Effect>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Up { pinged: false });
        let Phase::Judging { terms, .. } = phase else {
            self.phase = phase;
            return;
        };
        if let Err(refusal) = verdict {
            return self.refuse(refusal, effects);
        }
        if !self.dialled {
            effects.push(Effect::Send(Control::Hello(Box::new(self.me.clone()))));
        }
        self.heard = now;
        self.credit = Credit::new(self.me.credit, terms.other.credit);
        self.requests = Requests::new(self.me.requests_max, terms.other.requests_max);
        effects.push(Effect::Up(terms));
    }

    fn refuse(&mut self, refusal: Refusal, effects: &mut Vec<Effect>) {
        effects.push(Effect::Send(Control::Refuse(refusal.clone())));
        self.end(Ended::RefusedHere(refusal), effects);
    }

    fn refused(&mut self, refusal: Refusal, effects: &mut Vec<Effect>) {
        self.end(Ended::RefusedThere(refusal), effects);
    }

    fn pinged(&mut self, number: u64, effects: &mut Vec<Effect>) {
        if self.is_up() {
            effects.push(Effect::Send(Control::Pong(number)));
        }
        self.expect_up(effects);
    }

    fn credited(&mut self, lane: Lane, bytes: u32, effects: &mut Vec<Effect>) {
        // It may have come with the goodbye, and nobody waits any more.
        if matches!(self.phase, Phase::Down) {
            return;
        }
        match self.credit.returned(lane, bytes) {
            Ok(()) => effects.push(Effect::Credited(lane)),
            Err(flaw) => self.broken(flaw, effects),
        }
    }

    fn expect_up(&mut self, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Greeting { .. } | Phase::Judging { .. }) {
            self.broken(Flaw::Unexpected, effects);
        }
    }

    fn goodbye(&mut self, now: Time, why: Goodbye, effects: &mut Vec<Effect>) {
        match &mut self.phase {
            Phase::Closing { has_heard, .. } => *has_heard = true,
            Phase::Up { .. } => {
                effects.extend([Effect::Send(Control::Goodbye(why)), Effect::Closing]);
                let until = now + self.config.close_max;
                self.phase = Phase::Closing { until, how: Ended::ClosedThere(why), has_heard: true };
            }
            Phase::Greeting { .. } | Phase::Judging { .. } => return self.broken(Flaw::Unexpected, effects),
            Phase::Down => return,
        }
        match why {
            Goodbye::Stopping | Goodbye::Replaced => self.part(effects),
            // It has ended there.
            Goodbye::Broken => self.lost(effects),
        }
    }

    fn close(&mut self, now: Time, why: Goodbye, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Up { .. } => {
                effects.extend([Effect::Send(Control::Goodbye(why)), Effect::Closing]);
                let until = now + self.config.close_max;
                self.phase = Phase::Closing { until, how: Ended::ClosedHere(why), has_heard: false };
            }
            Phase::Greeting { .. } | Phase::Judging { .. } => self.refuse(Refusal::Stopping, effects),
            Phase::Closing { .. } | Phase::Down => {}
        }
    }

    fn broken(&mut self, flaw: Flaw, effects: &mut Vec<Effect>) {
        let farewell = match self.phase {
            Phase::Greeting { .. } | Phase::Judging { .. } => Control::Refuse(Refusal::NotTheProtocol),
            Phase::Up { .. } => Control::Goodbye(Goodbye::Broken),
            // The goodbye is said.
            Phase::Closing { .. } => return self.end(Ended::Broken(flaw), effects),
            Phase::Down => return,
        };
        effects.push(Effect::Send(farewell));
        self.end(Ended::Broken(flaw), effects);
    }

    fn lost(&mut self, effects: &mut Vec<Effect>) {
        let ended = match &self.phase {
            Phase::Closing { how, .. } => how.clone(),
            Phase::Greeting { .. } | Phase::Judging { .. } | Phase::Up { .. } | Phase::Down => Ended::Lost,
        };
        self.end(ended, effects);
    }

    fn end(&mut self, ended: Ended, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Down) {
            return;
        }
        self.phase = Phase::Down;
        let why = match ended {
            Ended::RefusedThere(_) => Unanswered::Refused,
            Ended::RefusedHere(_)
            | Ended::ClosedHere(_)
            | Ended::ClosedThere(_)
            | Ended::NoHandshake
            | Ended::Silent
            | Ended::Stuck
            | Ended::Broken(_)
            | Ended::Lost => Unanswered::LinkDown,
        };
        for ticket in self.requests.end_all() {
            effects.push(Effect::Unanswered { ticket, why });
        }
        effects.push(Effect::Down(ended));
    }
}
