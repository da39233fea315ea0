//! Two nodes, and links between them that break at any byte and are made again, in virtual time.
//!
//! Each end is a `core::link` with its names and windows, and a table; between them go the frames of `wire::frame`, as
//! bytes, in pieces of any length. Tells and asks go both ways; connections break off, fall silent, are replaced and
//! closed; both ends dial. Whatever happens, what one end tells a name comes in order and at most once, each ask ends
//! exactly once, and in doubt only if its link failed, accounts say what happened, and two sound ends never take each
//! other for broken. Then all heals, and no
//! credit, window or place for a request may be missing.
//!
//! *Is not:* the driver of `net`, whose few lines around the machine stand in `side` again.

mod effects;
mod oracle;
mod rest;
mod side;
mod traffic;

use std::{collections::BTreeMap, time::Duration};

use bytes::{Buf as _, BytesMut};
use pelago_core::{
    id::{BootId, Incarnation, MeshId, Name, NodeId},
    link::{Dialer, Goodbye, Hello, Input, LANE_BYTES_MIN, Lane, LinkId, Pauses, PerLane, Role, Table, Versions},
    time::Time,
};

use self::{
    oracle::{Oracle, violated},
    side::{Message, Question, Side},
};
use crate::{Violation, dice::Dice};

/// How many steps a run has before all heals.
const STEPS: u64 = 1_500;
/// Within how many rounds of writing, reading and waiting everything comes to rest.
const ROUNDS_MAX: u32 = 2_000;
/// Names that each end tells things.
const NAMES: u64 = 3;
/// How many asks an end takes a lane.
const REQUESTS_MAX: u32 = 4;

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// Links that came up, at either end.
    pub links: u64,
    /// Connections that broke off or fell silent.
    pub breaks: u64,
    /// Messages that were told.
    pub told: u64,
    /// Messages that were handled.
    pub handled: u64,
    /// Asks by how they ended: a reply, none, a deadline, a link that was refused or ended, or called off.
    pub asks: [u64; 6],
    /// What must never be.
    pub violation: Option<Violation>,
}

/// How asks end.
const ENDS: [&str; 6] = ["replied", "given no reply", "late", "refused", "cut off", "called off"];

/// Runs one seed.
#[must_use]
pub fn run(seed: u64) -> Run {
    let mut world = World::new(seed);
    let violation = world.run().err();
    let World { links, breaks, told, handled, oracle, .. } = world;
    Run { seed, links, breaks, told, handled, asks: ENDS.map(|how| oracle.count(how)), violation }
}

struct World {
    dice: Dice,
    now: Time,
    ends: [End; 2],
    connections: BTreeMap<u64, Connection>,
    last: u64,
    oracle: Oracle,
    asks: u64,
    links: u64,
    breaks: u64,
    told: u64,
    handled: u64,
}

/// A node, as far as links matter.
struct End {
    me: Hello,
    table: Table,
    dialer: Dialer,
    dial_at: Time,
    /// The last that each name was told.
    serials: [u64; NAMES as usize],
    /// What its agents have yet to do, with the connection that it came over.
    messages: Vec<(u64, Message)>,
    questions: Vec<(u64, Question)>,
    /// Bytes that were read and are not let go of yet.
    held: Vec<(u64, Lane, u32)>,
}

struct Connection {
    sides: [Side; 2],
    /// What each end has written.
    pipes: [Pipe; 2],
    dialled_by: usize,
    /// It broke off, or an end gave it up.
    has_failed: bool,
}

#[derive(Default)]
struct Pipe {
    bytes: BytesMut,
    /// Nothing more comes in; once it is empty the reader hears of the end.
    has_ended: bool,
    /// Nothing comes out, and nobody hears of it.
    is_silent: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            now: Time::ZERO,
            ends: [End::new("a", 1), End::new("b", 2)],
            connections: BTreeMap::new(),
            last: 0,
            oracle: Oracle::default(),
            asks: 0,
            links: 0,
            breaks: 0,
            told: 0,
            handled: 0,
        }
    }

    fn run(&mut self) -> Result<(), Violation> {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.rest()?;
        // All places are free again: as many asks as there may be, at once, in each lane and both ways.
        for end in 0..2 {
            for lane in Lane::ALL {
                for n in 0..REQUESTS_MAX {
                    if !self.ask(end, lane, Duration::from_secs(5)) {
                        return violated("L5 (nothing leaks)", format!("{end} may ask only {n} things in {lane:?}"));
                    }
                }
            }
        }
        let answered = |oracle: &Oracle| oracle.count("replied") + oracle.count("given no reply");
        let before = answered(&self.oracle);
        self.rest()?;
        let answered = answered(&self.oracle) - before;
        if answered != u64::from(REQUESTS_MAX) * 6 {
            return violated("L5 (nothing leaks)", format!("only {answered} of the last asks are answered"));
        }
        self.check_idle()
    }

    fn step(&mut self) -> Result<(), Violation> {
        let end = self.dice.index(2);
        match self.dice.below(100) {
            0..20 => {
                let padding = self.padding();
                self.tell(end, padding);
            }
            20..32 => {
                let (lane, wait) = (Lane::ALL[self.dice.index(3)], self.dice.between(1, 4_000));
                self.ask(end, lane, Duration::from_millis(wait));
            }
            32..50 => self.write_some(end, usize::MAX),
            50..70 => self.read_some(end, usize::MAX)?,
            70..78 => self.work(end)?,
            78..84 => self.let_go(end),
            84..86 => self.call_off(end)?,
            86..97 => self.pass()?,
            97 if self.dice.chance(250) => self.break_off()?,
            98 if self.dice.chance(100) => {
                if let Some(connection) = self.current(end) {
                    self.input(connection, end, Input::Close(Goodbye::Stopping))?;
                }
            }
            _ => self.dial(end)?,
        }
        self.part()
    }

    /// The connection over which an end sends.
    fn current(&self, end: usize) -> Option<u64> {
        let End { table, .. } = &self.ends[end];
        let LinkId(connection) = table.find(&self.ends[1 - end].me.node_name, Role::Main)?;
        self.connections.get(&connection).filter(|found| found.sides[end].link.is_up()).map(|_| connection)
    }
}

impl Connection {
    fn write(&mut self, end: usize, bytes: usize) {
        let written = self.sides[end].write(bytes);
        let is_done = self.sides[end].ended.is_some() && !self.sides[end].has_unwritten();
        let pipe = &mut self.pipes[end];
        if !pipe.has_ended && !pipe.is_silent {
            pipe.bytes.extend_from_slice(&written);
            pipe.has_ended = is_done;
        }
    }
}

impl Pipe {
    fn is_whole(&self) -> bool {
        !self.is_silent && !self.has_ended
    }

    fn has_news(&self) -> bool {
        !self.is_silent && (self.bytes.has_remaining() || self.has_ended)
    }
}

impl End {
    fn new(name: &str, boot: u128) -> Self {
        let pauses = Pauses::default();
        Self {
            me: hello(name, boot),
            table: Table::new(8),
            dialer: Dialer::new(pauses),
            dial_at: Time::ZERO,
            serials: [0; NAMES as usize],
            messages: Vec::new(),
            questions: Vec::new(),
            held: Vec::new(),
        }
    }
}

fn hello(node: &str, boot: u128) -> Hello {
    let name = |text| Name::new(text).expect("a short name is valid");
    Hello {
        versions: Versions::HERE,
        mesh: Some(MeshId(7)),
        mesh_name: name("test"),
        node_name: name(node),
        node: NodeId(0),
        boot: BootId(boot),
        incarnation: Incarnation(0),
        role: Role::Main,
        features: 0,
        credit: PerLane::all(LANE_BYTES_MIN),
        requests_max: REQUESTS_MAX,
    }
}
