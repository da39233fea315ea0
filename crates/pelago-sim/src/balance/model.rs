//! The model: nodes with queues, and what is on its way between them.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use pelago_core::{
    id::{Holder, Incarnation, NodeId},
    route::{Balance, Candidate, Choice, Distance, Load, Outcome, Prefer, Strategy},
    time::Time,
};

use super::scenario::{CAPACITY, Request, Scenario};
use crate::dice::Dice;

/// One way between two nodes, and by how much more that may be, in microseconds.
const WAY_US: u64 = 150;
const WAY_MORE_US: u64 = 200;
/// How often nodes hear how busy the machines of the others are, in microseconds.
const LOADS_EVERY_US: u64 = 1_000_000;
/// Answers of the beginning are left out: nobody knows anything yet.
const WARM_UP: usize = 2_000;

/// How long answers took, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Of a hundred requests fifty took longer.
    pub p50_us: u64,
    /// Five took longer.
    pub p95_us: u64,
    /// One took longer.
    pub p99_us: u64,
    /// Of a thousand one took longer.
    pub p999_us: u64,
}

/// Asks `requests` times in a mesh of `nodes`, each balancing by `strategy`. The same seed makes the same requests for
/// every strategy.
#[must_use]
pub fn simulate(seed: u64, nodes: usize, scenario: Scenario, strategy: Strategy, requests: usize) -> Figures {
    let mut model = Model::new(seed, nodes, scenario, strategy);
    model.run(requests);
    Figures::of(model.took_us.split_off(WARM_UP.min(requests / 2)))
}

struct Model {
    scenario: Scenario,
    now_us: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: u64,
    askers: Vec<Balance>,
    nodes: Vec<Node>,
    asked: Vec<Asked>,
    took_us: Vec<u64>,
    /// What is asked, and when.
    arrivals: Dice,
    /// How long it is on its way, and what the strategies draw.
    chance: Dice,
}

#[derive(Debug, Default)]
struct Node {
    running: u32,
    waiting: VecDeque<usize>,
    /// Time that its turns took since others last heard how busy it is.
    worked_us: u64,
}

#[derive(Debug)]
struct Asked {
    request: Request,
    choice: Choice,
    node: usize,
    at_us: u64,
    /// What its node has in flight when it answers.
    in_flight: u32,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Reaches(usize),
    Done(usize),
    Answered(usize),
    LoadsHeard,
}

impl Model {
    fn new(seed: u64, count: usize, scenario: Scenario, strategy: Strategy) -> Self {
        let askers = (0..count).map(|_| Balance::new(strategy, Prefer::None)).collect();
        let nodes = (0..count).map(|_| Node::default()).collect();
        Self {
            scenario,
            now_us: 0,
            events: BinaryHeap::new(),
            scheduled: 0,
            askers,
            nodes,
            asked: Vec::new(),
            took_us: Vec::new(),
            arrivals: Dice::new(seed),
            chance: Dice::new(!seed),
        }
    }

    fn run(&mut self, requests: usize) {
        self.tell_loads();
        self.schedule(0, Event::Arrives);
        while self.took_us.len() < requests {
            let Reverse((at_us, _, event)) = self.events.pop().expect("there is always something to come");
            self.now_us = at_us;
            match event {
                Event::Arrives if self.asked.len() < requests => self.ask(),
                Event::Arrives => {}
                Event::Reaches(asked) => self.reaches(asked),
                Event::Done(asked) => self.done(asked),
                Event::Answered(asked) => self.answered(asked),
                Event::LoadsHeard => self.tell_loads(),
            }
        }
    }

    fn ask(&mut self) {
        let request = self.scenario.request(self.nodes.len(), &mut self.arrivals);
        let (now, bits) = (self.now(), self.chance.wide() as u64);
        let asker = &mut self.askers[request.asker];
        let choice = asker.choose(now, request.key, bits).expect("nobody fails here");
        asker.begin(now, &choice);
        let node = usize::try_from(choice.holder.node.0).expect("there are few nodes");
        let asked = self.asked.len();
        self.asked.push(Asked { request, choice, node, at_us: self.now_us, in_flight: 0 });
        self.send(Event::Reaches(asked));
        let pause_us = self.scenario.pause_us(self.now_us, self.nodes.len() as u64, &mut self.arrivals);
        self.schedule(pause_us, Event::Arrives);
    }

    fn reaches(&mut self, asked: usize) {
        let node = self.asked[asked].node;
        match self.nodes[node].running < CAPACITY {
            true => self.work(node, asked),
            false => self.nodes[node].waiting.push_back(asked),
        }
    }

    fn work(&mut self, node: usize, asked: usize) {
        let took_us = self.asked[asked].request.size_us * self.scenario.slowness(node, self.nodes.len());
        self.nodes[node].running += 1;
        self.nodes[node].worked_us += took_us;
        self.schedule(took_us, Event::Done(asked));
    }

    fn done(&mut self, asked: usize) {
        let node = self.asked[asked].node;
        self.nodes[node].running -= 1;
        self.asked[asked].in_flight = self.nodes[node].in_flight();
        if let Some(next) = self.nodes[node].waiting.pop_front() {
            self.work(node, next);
        }
        self.send(Event::Answered(asked));
    }

    fn answered(&mut self, asked: usize) {
        let now = self.now();
        let Asked { request, choice, at_us, in_flight, .. } = &self.asked[asked];
        let took_us = self.now_us - at_us;
        let outcome = Outcome::Answered { took: Duration::from_micros(took_us), in_flight: Some(*in_flight) };
        let changed = self.askers[request.asker].end(now, choice, outcome);
        assert_eq!(changed, None, "nobody fails here");
        self.took_us.push(took_us);
    }

    /// What gossip does in a mesh.
    fn tell_loads(&mut self) {
        let most = LOADS_EVERY_US * u64::from(CAPACITY);
        let thousandths =
            |part: u64, of: u64| u16::try_from((part * 1_000 / of).min(1_000)).expect("it is at most 1,000");
        let loads: Vec<Load> = self
            .nodes
            .iter_mut()
            .map(|node| {
                let cpu = thousandths(std::mem::take(&mut node.worked_us), most);
                let queue = thousandths(node.in_flight().into(), (2 * CAPACITY).into());
                Load { cpu: Some(cpu), queue, ..Load::default() }
            })
            .collect();
        for asker in &mut self.askers {
            asker.set_candidates((0u64..).zip(&loads).map(|(node, load)| Candidate {
                holder: Holder { node: NodeId(node), incarnation: Incarnation(node) },
                distance: Distance::Far,
                weight: NonZeroU16::MIN,
                capacity: NonZeroU32::new(CAPACITY).expect("it is not 0"),
                load: *load,
            }));
        }
        self.schedule(LOADS_EVERY_US, Event::LoadsHeard);
    }

    fn send(&mut self, event: Event) {
        let way_us = WAY_US + self.chance.below(WAY_MORE_US);
        self.schedule(way_us, event);
    }

    fn schedule(&mut self, after_us: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((self.now_us + after_us, self.scheduled, event)));
    }

    fn now(&self) -> Time {
        Time::from_micros(self.now_us)
    }
}

impl Node {
    fn in_flight(&self) -> u32 {
        self.running + u32::try_from(self.waiting.len()).expect("requests are counted by u32")
    }
}

impl Figures {
    fn of(mut took_us: Vec<u64>) -> Self {
        took_us.sort_unstable();
        let last = took_us.len() - 1;
        let at = |thousandths: usize| took_us[last * thousandths / 1_000];
        Self { p50_us: at(500), p95_us: at(950), p99_us: at(990), p999_us: at(999) }
    }
}
