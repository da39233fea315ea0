//! The handshake and what follows, through `core::link`: whatever an end hears, it is up and over at most once; and two
//! ends that talk to each other agree on what came of it.

use std::time::Duration;

use bytes::BytesMut;
use pelago_core::{
    id::{BootId, Incarnation, MeshId, Name, NodeId},
    link::{
        Config, Control, Effect, Ended, Flaw, Hello, Input, LANE_BYTES_MIN, Link, LinkId, PerLane, Role, Table, Terms,
        Versions,
    },
    time::Time,
};
use pelago_wire::frame::{Cutter, Form, Frame, PREFACE, put_control};

use crate::mend::mended;

pub(crate) fn check(bytes: &[u8]) {
    let frames = frames(bytes);
    for dialled in [false, true] {
        End::new(dialled, hello("a")).hear_all(&frames);
    }
    let mut hellos = frames.iter().filter_map(|frame| match frame {
        Frame::Control(Control::Hello(hello)) => Some(Hello::clone(hello)),
        Frame::Control(_) | Frame::Data { .. } | Frame::NoReply { .. } => None,
    });
    let dialler = hellos.next().unwrap_or_else(|| hello("b"));
    // Nodes listen, clients do not.
    let accepter = Hello { role: Role::Main, ..hellos.next().unwrap_or_else(|| hello("a")) };
    agree(dialler, accepter);
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (mut received, mut cutter, mut frames) = (mended(bytes), Cutter::new(), Vec::new());
    while let Ok(Some(frame)) = cutter.cut(&mut received) {
        frames.push(frame);
    }
    frames
}

/// One end, and what became of it.
struct End {
    link: Link,
    me: Hello,
    table: Table,
    now: Time,
    said: BytesMut,
    up: Option<Terms>,
    down: Option<Ended>,
}

impl End {
    fn new(dialled: bool, me: Hello) -> Self {
        let (config, now) = (Config::default(), Time::ZERO);
        let mut effects = Vec::new();
        let link = match dialled {
            true => Link::dialled(config, me.clone(), now, &mut effects),
            false => Link::accepted(config, me.clone(), now),
        };
        let said = BytesMut::from(&PREFACE[..]);
        let mut end = Self { link, me, table: Table::new(4), now, said, up: None, down: None };
        end.take(effects);
        end
    }

    /// Hears all that a stranger says, and then nothing any more.
    fn hear_all(mut self, frames: &[Frame]) {
        for frame in frames {
            self.now = self.now + Duration::from_millis(10);
            self.hear(frame.clone());
        }
        let mut deadlines = 0;
        while let Some(deadline) = self.link.deadline() {
            assert!(deadlines < 100, "it never ends");
            deadlines += 1;
            self.now = self.now.max(deadline);
            let mut effects = Vec::new();
            self.link.expire(self.now, &mut effects);
            self.take(effects);
        }
        assert!(self.down.is_some(), "a link without a deadline is over");
    }

    /// What `net`'s reader makes of a frame.
    fn hear(&mut self, frame: Frame) {
        self.link.heard(self.now);
        let input = match frame {
            Frame::Control(Control::Hello(hello)) => Input::Hello(*hello),
            Frame::Control(Control::Refuse(refusal)) => Input::Refused(refusal),
            Frame::Control(Control::Ping(number)) => Input::Ping(number),
            Frame::Control(Control::Pong(number)) => Input::Pong(number),
            Frame::Control(Control::Credit { lane, bytes }) => Input::Credit { lane, bytes },
            Frame::Control(Control::Goodbye(why)) => Input::Goodbye(why),
            Frame::Control(Control::Settled { .. }) if self.link.is_up() => return,
            Frame::Control(Control::Settled { .. }) => Input::Broken(Flaw::Unexpected),
            Frame::Control(Control::Cancel { lane, request }) => match self.link.called_off(lane, request) {
                Ok(_) => return,
                Err(flaw) => Input::Broken(flaw),
            },
            Frame::NoReply { lane, request, .. } => match self.link.replied(lane, request) {
                Ok(_) => return,
                Err(flaw) => Input::Broken(flaw),
            },
            Frame::Data { lane, form, bytes, .. } => {
                let taken = self.link.received(lane, bytes).and_then(|()| match form {
                    Form::Request { id, .. } => self.link.asked(lane, id),
                    Form::Reply(id) => self.link.replied(lane, id).map(|_| ()),
                    Form::OneWay { .. } => Ok(()),
                });
                match taken {
                    Ok(()) => {
                        let _not_worth_a_frame = self.link.consumed(lane, bytes);
                        return;
                    }
                    Err(flaw) => Input::Broken(flaw),
                }
            }
        };
        let mut effects = Vec::new();
        self.link.handle(self.now, input, &mut effects);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            assert!(self.down.is_none(), "after its end comes {effect:?}");
            match effect {
                Effect::Send(control) => put_control(&mut self.said, &control),
                Effect::Judge(terms) => {
                    let verdict = self.table.enter(&self.me, &terms, LinkId(1)).map(|_| ());
                    let mut effects = Vec::new();
                    self.link.handle(self.now, Input::Judged(verdict), &mut effects);
                    self.take(effects);
                }
                Effect::Up(terms) => assert!(self.up.replace(*terms).is_none(), "it is up twice"),
                Effect::Down(ended) => self.down = Some(ended),
                Effect::Credited(_) | Effect::Closing => {}
                Effect::Unanswered { .. } => panic!("nothing was asked"),
            }
        }
        assert_eq!(self.link.deadline().is_none(), self.down.is_some());
    }
}

/// Two ends with these hellos talk by the bytes of frames until both fall silent.
fn agree(dialler: Hello, accepter: Hello) {
    let mut ends = [End::new(true, dialler), End::new(false, accepter)];
    let mut cutters = [Cutter::new(), Cutter::new()];
    let mut received = [BytesMut::new(), BytesMut::new()];
    while ends.iter().any(|end| !end.said.is_empty()) {
        for (from, to) in [(0, 1), (1, 0)] {
            let said = ends[from].said.split();
            received[to].extend_from_slice(&said);
            while let Some(frame) = cutters[to].cut(&mut received[to]).expect("an end writes frames") {
                if ends[to].down.is_none() {
                    ends[to].hear(frame);
                }
            }
        }
    }
    let [dialler, accepter] = &ends;
    match (&dialler.down, &accepter.down) {
        (None, None) => {
            let (here, there) = (dialler.up.as_ref().expect("it is up"), accepter.up.as_ref().expect("it is up"));
            assert_eq!((here.version, here.features), (there.version, there.features));
            assert!(here.dialled && !there.dialled);
        }
        (Some(Ended::RefusedHere(here)), Some(Ended::RefusedThere(there)))
        | (Some(Ended::RefusedThere(here)), Some(Ended::RefusedHere(there))) => assert_eq!(here, there),
        (here, there) => panic!("one end has {here:?} and the other {there:?}: {:?} {:?}", dialler.me, accepter.me),
    }
}

fn hello(node: &str) -> Hello {
    let name = |text| Name::new(text).expect("a short name is valid");
    Hello {
        versions: Versions::HERE,
        mesh: Some(MeshId(7)),
        mesh_name: name("test"),
        node_name: name(node),
        node: NodeId(0),
        boot: BootId(node.bytes().map(u128::from).sum()),
        incarnation: Incarnation(0),
        role: Role::Main,
        features: 1,
        credit: PerLane::all(LANE_BYTES_MIN),
        requests_max: 8,
    }
}
