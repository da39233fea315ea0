//! A voter: a small model of what consensus gives the mesh, with elections, replication and confirmations.
//!
//! *Is:* terms, the election rule of Raft (a vote only for a log at least as up to date as one's own), pre-votes so
//! that one who was away does not depose a leader that others hear, commit by a majority that has flushed, read
//! confirmations by a majority, logs that a new leader overwrites. So a batch may be acknowledged, or vanish, or come
//! back after its leader was lost.
//!
//! *Is not:* openraft, whose code does not run here, nor all of Raft: no change of voters, no snapshots. A vote is
//! durable at once: a voter that crashed before its vote was flushed has not voted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    rc::Rc,
    time::Duration,
};

use pelago_core::{
    record::Op,
    time::{LogTime, Time},
};

use crate::{
    dice::Dice,
    log::{Entry, Log, Position},
};

/// How long a voter that hears no leader waits at least before it wants to be one.
const CAMPAIGN_MIN: Duration = Duration::from_millis(600);

/// What voters tell each other.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// Would the receiver vote for the sender in this term, which has not begun?
    AskWhether {
        term: u64,
        end: Position,
    },
    Would {
        term: u64,
    },
    AskVote {
        term: u64,
        end: Position,
    },
    Vote {
        term: u64,
        granted: bool,
        wall: LogTime,
    },
    Append {
        term: u64,
        round: u64,
        before: Position,
        entries: Vec<Entry>,
        committed: usize,
    },
    /// The answer to an append: of which round, and how far the sender's log agrees and is safe.
    Appended {
        term: u64,
        round: u64,
        agrees: Result<usize, usize>,
    },
}

/// What a step of a voter may use.
pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    /// Its wall clock, which nothing holds to the truth.
    pub(crate) wall: LogTime,
    pub(crate) dice: &'a mut Dice,
    pub(crate) out: &'a mut Vec<(usize, Message)>,
}

#[derive(Debug)]
pub(crate) struct Voter {
    me: usize,
    voters: usize,
    term: u64,
    vote: Option<usize>,
    pub(crate) log: Log,
    committed: usize,
    role: Role,
    campaign_at: Time,
    /// When a leader was heard last.
    heard: Time,
}

#[derive(Debug)]
enum Role {
    Follower(Following),
    /// It has heard no leader for a while and asks whether it may be one.
    Asking {
        yes: BTreeSet<usize>,
    },
    Candidate {
        votes: BTreeMap<usize, LogTime>,
    },
    Leader {
        progress: Vec<Progress>,
        round: u64,
    },
}

#[derive(Debug, Clone, Copy, Default)]
struct Following {
    leader: Option<usize>,
    /// Up to where the log is known to agree with the leader's.
    agrees: usize,
    round: u64,
}

/// What a leader knows of a voter.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// What it is sent follows this.
    before: usize,
    /// Up to where it has said to hold the log.
    holds: usize,
    /// The last round that it answered.
    round: u64,
}

impl Voter {
    pub(crate) fn new(me: usize, voters: usize) -> Self {
        Self {
            me,
            voters,
            term: 0,
            vote: None,
            log: Log::default(),
            committed: 0,
            role: Role::Follower(Following::default()),
            campaign_at: Time::ZERO,
            heard: Time::ZERO,
        }
    }

    pub(crate) fn start(&mut self, cx: &mut Context<'_>) {
        self.campaign_at = cx.now + Duration::from_millis(cx.dice.between(20, 400));
    }

    /// All but what the disk holds is lost.
    pub(crate) fn crash(&mut self) {
        self.log.crash();
        self.committed = 0;
        self.role = Role::Follower(Following::default());
        self.heard = Time::ZERO;
    }

    /// The term that this voter leads, as far as it knows.
    pub(crate) fn leads(&self) -> Option<u64> {
        matches!(self.role, Role::Leader { .. }).then_some(self.term)
    }

    /// Who leads, as far as this voter knows.
    pub(crate) fn leader(&self) -> Option<usize> {
        match &self.role {
            Role::Follower(following) => following.leader,
            Role::Asking { .. } | Role::Candidate { .. } => None,
            Role::Leader { .. } => Some(self.me),
        }
    }

    pub(crate) fn committed(&self) -> usize {
        self.committed
    }

    /// When to campaign, unless a leader is heard of before.
    pub(crate) fn campaign_at(&self) -> Time {
        self.campaign_at
    }

    pub(crate) fn campaign(&mut self, cx: &mut Context<'_>) {
        self.rest(cx);
        if self.leads().is_some() {
            return;
        }
        self.role = Role::Asking { yes: BTreeSet::from([self.me]) };
        let (term, end) = (self.term + 1, self.log.end());
        self.tell_all(cx, |_| Message::AskWhether { term, end });
        self.stand(cx);
    }

    /// Stands for election once a majority would vote for it.
    fn stand(&mut self, cx: &mut Context<'_>) {
        let Role::Asking { yes } = &self.role else { return };
        if yes.len() <= self.voters / 2 {
            return;
        }
        self.term += 1;
        self.vote = Some(self.me);
        self.role = Role::Candidate { votes: BTreeMap::from([(self.me, cx.wall)]) };
        let (term, end) = (self.term, self.log.end());
        self.tell_all(cx, |_| Message::AskVote { term, end });
        self.count_votes(cx);
    }

    pub(crate) fn receive(&mut self, from: usize, message: Message, cx: &mut Context<'_>) {
        if let Some(term) = message.present_term()
            && term > self.term
        {
            self.term = term;
            self.vote = None;
            self.role = Role::Follower(Following::default());
        }
        let is_old = message.present_term().is_some_and(|term| term < self.term);
        match message {
            Message::AskWhether { term, end } => {
                let hears = self.leads().is_some() || cx.now - self.heard < CAMPAIGN_MIN;
                if term > self.term && !hears && end >= self.log.end() {
                    cx.out.push((from, Message::Would { term }));
                } else if term <= self.term {
                    cx.out.push((from, Message::Vote { term: self.term, granted: false, wall: cx.wall }));
                }
            }
            Message::Would { term } => {
                if let Role::Asking { yes } = &mut self.role
                    && term == self.term + 1
                {
                    yes.insert(from);
                    self.stand(cx);
                }
            }
            Message::AskVote { end, .. } => {
                let granted = !is_old && self.vote.is_none_or(|vote| vote == from) && end >= self.log.end();
                if granted {
                    self.vote = Some(from);
                    self.rest(cx);
                }
                cx.out.push((from, Message::Vote { term: self.term, granted, wall: cx.wall }));
            }
            Message::Vote { granted, wall, .. } => {
                if let Role::Candidate { votes } = &mut self.role
                    && granted
                    && !is_old
                {
                    votes.insert(from, wall);
                    self.count_votes(cx);
                }
            }
            Message::Append { round, .. } if is_old => {
                cx.out.push((from, Message::Appended { term: self.term, round, agrees: Err(0) }));
            }
            Message::Append { round, before, entries, committed, .. } => {
                self.rest(cx);
                self.heard = cx.now;
                self.append(from, round, before, entries, committed, cx);
            }
            Message::Appended { round, agrees, .. } => {
                if !is_old {
                    self.appended(from, round, agrees);
                }
            }
        }
    }

    /// A leader appends a batch.
    pub(crate) fn propose(&mut self, clock: LogTime, ops: Rc<[Op]>, cx: &mut Context<'_>) {
        self.log.push(Entry { term: self.term, clock, ops });
        self.replicate(cx);
    }

    /// A leader begins a round: it sends to all what they have not said to hold. A majority that answers it confirms
    /// that this voter still led when the round began.
    pub(crate) fn replicate(&mut self, cx: &mut Context<'_>) {
        let Role::Leader { progress, round } = &mut self.role else { unreachable!("only a leader replicates") };
        *round += 1;
        let (round, befores) = (*round, progress.iter().map(|known| known.before).collect::<Vec<_>>());
        let (term, committed, log) = (self.term, self.committed, &self.log);
        self.tell_all(cx, |to| {
            let before = log.position(befores[to]);
            Message::Append { term, round, before, entries: log.after(before.index), committed }
        });
        self.advance();
    }

    /// The number that the next round will have.
    pub(crate) fn next_round(&self) -> u64 {
        let Role::Leader { round, .. } = &self.role else { unreachable!("only a leader replicates") };
        round + 1
    }

    /// The last round that a majority has answered.
    pub(crate) fn confirmed(&self) -> u64 {
        let Role::Leader { progress, round } = &self.role else { return 0 };
        self.of_majority(progress.iter().map(|known| known.round), *round)
    }

    /// What was under way to the disk is there. A follower then says so.
    pub(crate) fn flushed(&mut self, cx: &mut Context<'_>) {
        self.log.end_flush();
        if let Role::Follower(following) = self.role {
            self.answer(following, cx);
        }
        self.advance();
    }

    fn rest(&mut self, cx: &mut Context<'_>) {
        self.campaign_at = cx.now + CAMPAIGN_MIN + Duration::from_millis(cx.dice.below(600));
    }

    fn tell_all(&self, cx: &mut Context<'_>, message: impl Fn(usize) -> Message) {
        let others = (0..self.voters).filter(|voter| *voter != self.me);
        cx.out.extend(others.map(|to| (to, message(to))));
    }

    fn count_votes(&mut self, cx: &mut Context<'_>) {
        let Role::Candidate { votes } = &self.role else { return };
        if votes.len() <= self.voters / 2 {
            return;
        }
        // The median of the clocks of those who answered: one that is wrong does not set the log's time.
        let mut walls: Vec<LogTime> = votes.values().copied().collect();
        walls.sort_unstable();
        let clock = walls[(walls.len() - 1) / 2];
        let known = Progress { before: self.log.len(), holds: 0, round: 0 };
        self.role = Role::Leader { progress: vec![known; self.voters], round: 0 };
        self.propose(clock, Rc::new([]), cx);
    }

    fn append(
        &mut self,
        from: usize,
        round: u64,
        before: Position,
        entries: Vec<Entry>,
        committed: usize,
        cx: &mut Context<'_>,
    ) {
        let known = match self.role {
            Role::Follower(following) => following,
            Role::Asking { .. } | Role::Candidate { .. } => Following::default(),
            Role::Leader { .. } => unreachable!("a term has one leader"),
        };
        let mut following = Following { leader: Some(from), round: known.round.max(round), ..known };
        self.role = Role::Follower(following);
        if !self.log.holds(before) {
            let agrees = Err(self.log.len().min(before.index - 1));
            return cx.out.push((from, Message::Appended { term: self.term, round, agrees }));
        }
        let upto = before.index + entries.len();
        self.log.accept(before.index, entries);
        following.agrees = following.agrees.max(upto);
        self.committed = self.committed.max(committed.min(following.agrees));
        self.role = Role::Follower(following);
        if self.held() >= following.agrees {
            self.answer(following, cx);
        }
    }

    fn answer(&self, following: Following, cx: &mut Context<'_>) {
        if let Some(leader) = following.leader {
            let (term, agrees) = (self.term, Ok(self.held().min(following.agrees)));
            cx.out.push((leader, Message::Appended { term, round: following.round, agrees }));
        }
    }

    /// Up to where this voter may say that it holds the log.
    fn held(&self) -> usize {
        if cfg!(planted = "acknowledge_before_flush") {
            return self.log.len();
        }
        self.log.flushed()
    }

    fn appended(&mut self, from: usize, round: u64, agrees: Result<usize, usize>) {
        let Role::Leader { progress, .. } = &mut self.role else { return };
        let known = &mut progress[from];
        known.round = known.round.max(round);
        match agrees {
            Ok(upto) => {
                known.holds = known.holds.max(upto);
                known.before = known.before.max(upto);
            }
            // Perhaps an old answer. Then what it holds is sent to it again.
            Err(upto) => known.before = upto,
        }
        self.advance();
    }

    /// What a majority holds is committed, if it ends in this term.
    fn advance(&mut self) {
        let Role::Leader { progress, .. } = &self.role else { return };
        let mut upto = self.of_majority(progress.iter().map(|known| known.holds), self.held());
        if cfg!(planted = "minority_acknowledges") {
            upto = self.held();
        }
        if upto > self.committed && self.log.position(upto).term == self.term {
            self.committed = upto;
        }
    }

    /// The greatest number that a majority has reached, this voter with `mine`.
    fn of_majority<T: Ord + Copy>(&self, others: impl Iterator<Item = T>, mine: T) -> T {
        let mut all: Vec<T> = others.enumerate().map(|(n, other)| if n == self.me { mine } else { other }).collect();
        all.sort_unstable();
        all[(self.voters - 1) / 2]
    }
}

impl Message {
    /// The term that has begun where this comes from.
    fn present_term(&self) -> Option<u64> {
        match self {
            Self::AskWhether { .. } | Self::Would { .. } => None,
            Self::AskVote { term, .. }
            | Self::Vote { term, .. }
            | Self::Append { term, .. }
            | Self::Appended { term, .. } => Some(*term),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AskWhether { term, end } => write!(f, "ask for a pre-vote in term {term}, log ends at {end}"),
            Self::Would { term } => write!(f, "pre-vote in term {term}"),
            Self::AskVote { term, end } => write!(f, "ask for a vote in term {term}, log ends at {end}"),
            Self::Vote { term, granted, .. } => write!(f, "vote in term {term}: {granted}"),
            Self::Append { term, round, before, entries, committed } => {
                write!(f, "term {term}.{round}: {} entries after {before}, {committed} committed", entries.len())
            }
            Self::Appended { term, round, agrees } => write!(f, "term {term}.{round}: agrees {agrees:?}"),
        }
    }
}
