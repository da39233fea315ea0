use std::{convert::Infallible, time::Duration};

use bytes::Bytes;

use super::*;
use crate::{id::Incarnation, record::Placement};

#[test]
fn nodes_that_have_a_link_know_each_other_and_what_each_says() {
    let (mut a, mut b) = (Node::new(1, 1), Node::new(2, 2));
    let told = a.tell(0, Input::Linked(name(2)));
    let [Effect::Send { to, packet }] = told.as_slice() else { panic!("one packet: {told:?}") };
    assert_eq!(*to, name(2));
    assert_eq!(packet.members, [Member::alive(identity(1, 1))]);
    assert!(packet.answer && packet.swim.is_empty(), "{packet:?}");
    assert_eq!(packet.rumours, [rumour(1, 1, 1, Stage::Joining)]);

    let answered = b.hear(1, 1, packet.clone());
    let back = sent(&answered, 1).pop().expect("it was asked to answer");
    assert_eq!(back.members, [Member::alive(identity(1, 1)), Member::alive(identity(2, 2))]);
    assert!(!back.answer);
    assert!(answered.contains(&seen(1, 1, State::Joining)) && answered.contains(&Effect::Changed), "{answered:?}");
    assert_eq!(a.hear(2, 2, back), [seen(2, 2, State::Joining), Effect::Changed]);
}

#[test]
fn what_a_node_says_is_told_until_all_had_time_to_hear_it_and_later_words_win() {
    let (mut a, _) = pair();
    assert_eq!(a.tell(10, Input::Stage(Stage::Up)), [seen(1, 1, State::Up), Effect::Changed]);
    assert_eq!(a.tell(11, Input::Stage(Stage::Up)), []);
    let mut told = Vec::new();
    for _ in 0..60 {
        told.extend(sent(&a.expire(), 2).into_iter().flat_map(|packet| packet.rumours));
    }
    let up = rumour(1, 1, 2, Stage::Up);
    let times = told.iter().filter(|rumour| **rumour == up).count();
    assert!(times >= usize::from(Profile::Lan.config().tellings.get()), "{times}");

    let mut c = Node::new(3, 3);
    let say = |rumours: &[Rumour]| Packet { rumours: rumours.to_vec(), ..Packet::default() };
    c.hear(1, 1, Packet { members: vec![Member::alive(identity(1, 1))], ..Packet::default() });
    assert_eq!(c.hear(2, 1, say(std::slice::from_ref(&up))), [seen(1, 1, State::Up), Effect::Changed]);
    assert_eq!(c.hear(3, 1, say(&[rumour(1, 1, 1, Stage::Joining), up])), []);
    // A later run begins to count anew.
    let later = c.hear(4, 1, say(&[rumour(1, 9, 1, Stage::Up)]));
    assert_eq!(later, [seen(1, 1, State::Joining), Effect::Changed]);
    let run = Packet { members: vec![Member::alive(identity(1, 9))], ..Packet::default() };
    assert_eq!(c.hear(5, 1, run), [seen(1, 9, State::Up), Effect::Changed]);
}

#[test]
fn a_node_that_gives_no_sign_of_life_is_suspect_before_it_is_down() {
    let (mut a, b) = pair();
    drop(b);
    let config = Profile::Lan.config();
    let (mut suspect, mut down) = (None, None);
    while down.is_none() {
        let effects = a.expire();
        suspect = suspect.or(effects.contains(&seen(2, 2, State::Suspect)).then_some(a.now));
        down = effects.contains(&seen(2, 2, State::Down)).then_some(a.now);
        assert!(a.now < at(20_000), "it is never seen");
    }
    let (suspect, down) = (suspect.expect("suspect comes first"), down.expect("seen"));
    assert_eq!(down - suspect, config.suspect_max);
    assert!(suspect - at(0) <= 3 * config.probe_every, "{suspect:?}");
}

#[test]
fn a_suspect_that_hears_of_it_contradicts() {
    let (mut a, mut b) = pair();
    let suspicion = Packet { members: vec![suspect(2)], ..Packet::default() };
    assert_eq!(a.hear(10, 3, suspicion.clone()), [seen(2, 2, State::Suspect), Effect::Changed]);
    let contradicts = b.hear(11, 3, suspicion);
    let packet = sent(&contradicts, 1).pop().expect("it tells whom it knows");
    assert_eq!(a.hear(12, 2, packet), [seen(2, 2, State::Joining), Effect::Changed]);
}

#[test]
fn a_node_that_was_taken_for_dead_comes_back_by_another_renewal() {
    let (mut a, mut b) = pair();
    let death = Packet { members: vec![Member::new(identity(2, 2), 0, MemberState::Down)], ..Packet::default() };
    assert_eq!(a.hear(10, 3, death), [seen(2, 2, State::Down), Effect::Changed]);
    // They had no link meanwhile.
    a.tell(11, Input::LinkLost(name(2)));
    b.tell(11, Input::Linked(name(1)));
    let told = a.tell(12, Input::Linked(name(2)));
    let renewed = b.hear(13, 1, sent(&told, 2).pop().expect("it tells all it knows"));
    assert!(sent(&renewed, 1).len() >= 2, "an answer, and that it is another: {renewed:?}");
    let seen_again: Vec<Effect> = sent(&renewed, 1).into_iter().flat_map(|packet| a.hear(14, 2, packet)).collect();
    assert!(seen_again.contains(&seen(2, 2, State::Joining)), "{seen_again:?}");
    let again = a.core.nodes().find(|node| node.identity.holder.node == NodeId(2)).expect("it is known");
    assert_eq!((again.identity.renewal, again.state), (1, State::Joining));
    // What it was before is nobody that it sees, or has to find.
    let mut effects = renewed;
    (0..100).for_each(|_| effects.extend(b.expire()));
    assert!(!effects.contains(&seen(2, 2, State::Down)) && sent(&effects, 2).is_empty(), "{effects:?}");
}

#[test]
fn a_goodbye_is_no_death_and_nothing_follows_it() {
    let (mut a, mut b) = pair();
    let effects = b.tell(10, Input::Leave);
    assert!(effects.contains(&seen(2, 2, State::Left)), "{effects:?}");
    let heard: Vec<Effect> = sent(&effects, 1).into_iter().flat_map(|packet| a.hear(11, 2, packet)).collect();
    assert_eq!(heard, [seen(2, 2, State::Left), Effect::Changed]);
    assert_eq!(b.core.deadline(), None);
    assert_eq!(b.tell(12, Input::Linked(name(1))), []);
    assert_eq!(b.hear(13, 1, Packet { members: vec![suspect(2)], ..Packet::default() }), []);
}

#[test]
fn a_node_that_stood_still_does_not_hold_it_against_the_others() {
    let (mut a, mut b) = pair();
    let ping = loop {
        let effects = a.expire();
        if let Some(packet) = sent(&effects, 2).pop() {
            break packet;
        }
    };
    let answers = b.hear(1_000, 1, ping);
    // For a minute nothing ran here, and what came waits.
    let late = a.core.deadline().expect("a probe is under way") + Duration::from_secs(60);
    let mut effects = Vec::new();
    a.core.expire(late, &mut effects);
    assert!(!effects.contains(&seen(2, 2, State::Suspect)), "{effects:?}");
    a.now = late;
    for packet in sent(&answers, 1) {
        a.hear_now(2, packet);
    }
    for _ in 0..5 {
        assert!(!a.expire().contains(&seen(2, 2, State::Down)));
    }
}

#[test]
fn loads_are_told_when_they_differ_and_from_time_to_time() {
    let (mut a, _) = pair();
    let load = |cpu, queued| Load { cpu: Some(cpu), queued, ..Load::default() };
    assert_eq!(a.tell(0, Input::Load(load(100, 0))), [Effect::Changed]);
    assert_eq!(a.tell(1_000, Input::Load(load(149, 8))), []);
    assert_eq!(a.tell(2_000, Input::Load(load(150, 8))), [Effect::Changed]);
    assert_eq!(a.tell(3_000, Input::Load(load(150, 30))), [Effect::Changed]);
    assert_eq!(a.tell(4_000, Input::Load(load(151, 31))), []);
    assert_eq!(a.tell(18_000, Input::Load(load(151, 31))), [Effect::Changed]);
    let own = a.core.nodes().find_map(|node| node.load).copied();
    assert_eq!(own, Some(load(151, 31)));
}

#[test]
fn bytes_that_are_no_packet_are_refused_and_change_nothing() {
    let (mut a, _) = pair();
    for garbled in [&b"\xff"[..], &[0; 40], &[7; 2_000], &[1; 70_000]] {
        let packet = Packet { swim: Bytes::copy_from_slice(garbled), ..Packet::default() };
        let effects = a.hear(10, 2, packet);
        assert!(matches!(effects.as_slice(), [Effect::Refused { .. }]), "{effects:?}");
    }
}

#[test]
fn nobody_else_says_what_this_node_says() {
    let (mut a, _) = pair();
    let lie = Packet { rumours: vec![rumour(1, 1, 99, Stage::Left)], ..Packet::default() };
    assert_eq!(a.hear(10, 2, lie), []);
}

#[test]
fn what_is_heard_is_bounded() {
    let (mut a, _) = pair();
    let strangers = |from: u64, to: u64| Packet {
        members: (from..to).map(|node| Member::alive(identity(node, 1))).collect(),
        rumours: (from..to).map(|node| rumour(node + 1_000_000, 1, 1, Stage::Up)).collect(),
        ..Packet::default()
    };
    for from in (100..10_100).step_by(500) {
        a.hear(10, 2, strangers(from, from + 500));
    }
    assert!(a.core.nodes().count() <= NODES_MAX + 500, "{}", a.core.nodes().count());
    assert!(a.core.rumours.all().count() <= 2 * NODES_MAX);
    let effects = a.hear(11, 2, strangers(1, 2));
    assert!(matches!(effects.as_slice(), [Effect::Refused { .. }]), "{effects:?}");
}

#[test]
fn a_record_that_is_too_large_to_tell_is_told_without_its_names() {
    let offers = (0..2_000).map(|n| (Name::new(&format!("{}{n}", "a".repeat(60))).expect("valid"), OFFER)).collect();
    let record = Record { offers, ..record(Stage::Up) };
    let core =
        Membership::new(at(0), identity(1, 1), record, Profile::Lan.config(), Arc::new(Plain), Box::new(Even(1)));
    let told = core.nodes().find_map(|node| node.record).expect("its own");
    assert_eq!((told.stage, told.offers.len()), (Stage::Up, 0));
}

// One machine, and what it is told.
struct Node {
    core: Membership,
    now: Time,
}

impl Node {
    fn new(node: u64, incarnation: u64) -> Self {
        let (me, dice) = (identity(node, incarnation), Box::new(Even(node)));
        let config = Profile::Lan.config();
        let core = Membership::new(at(0), me, record(Stage::Joining), config, Arc::new(Plain), dice);
        Self { core, now: at(0) }
    }

    fn tell(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        self.now = self.now.max(at(now_ms));
        let mut effects = Vec::new();
        self.core.handle(self.now, input, &mut effects);
        effects
    }

    fn hear(&mut self, now_ms: u64, from: u64, packet: Packet) -> Vec<Effect> {
        self.tell(now_ms, Input::Packet { from: name(from), packet })
    }

    fn hear_now(&mut self, from: u64, packet: Packet) -> Vec<Effect> {
        self.hear(0, from, packet)
    }

    /// Does what is due next.
    fn expire(&mut self) -> Vec<Effect> {
        self.now = self.core.deadline().expect("something is always due");
        let mut effects = Vec::new();
        self.core.expire(self.now, &mut effects);
        effects
    }
}

/// Two nodes that know each other.
fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::new(1, 1), Node::new(2, 2));
    let hello = sent(&a.tell(0, Input::Linked(name(2))), 2).pop().expect("told");
    b.tell(0, Input::Linked(name(1)));
    for packet in sent(&b.hear(0, 1, hello), 1) {
        a.hear(0, 2, packet);
    }
    (a, b)
}

fn sent(effects: &[Effect], to: u64) -> Vec<Packet> {
    let packets = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to: receiver, packet } if *receiver == name(to) => Some(packet.clone()),
        Effect::Send { .. } | Effect::Seen { .. } | Effect::Changed | Effect::Refused { .. } => None,
    });
    packets.collect()
}

fn at(ms: u64) -> Time {
    Time::from_micros(ms * 1_000)
}

fn name(node: u64) -> Name {
    Name::new(&format!("n{node}")).expect("valid")
}

fn holder(node: u64, incarnation: u64) -> Holder {
    Holder { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

fn identity(node: u64, incarnation: u64) -> Identity {
    let mesh_address = format!("127.0.0.1:{node}");
    Identity { holder: holder(node, incarnation), renewal: 0, name: name(node), mesh_address }
}

fn suspect(node: u64) -> Member<Identity> {
    Member::new(identity(node, node), 0, MemberState::Suspect)
}

const OFFER: Hosting = Hosting { placement: Placement::Resident, tasks_max: 1 };

fn record(stage: Stage) -> Record {
    let offers = BTreeMap::from([(Name::new("here").expect("valid"), OFFER)]);
    Record { stage, http_address: String::new(), labels: BTreeMap::new(), offers }
}

fn rumour(node: u64, incarnation: u64, version: u64, stage: Stage) -> Rumour {
    Rumour { about: holder(node, incarnation), version, news: News::Record(record(stage)) }
}

fn seen(node: u64, incarnation: u64, state: State) -> Effect {
    Effect::Seen { holder: holder(node, incarnation), name: name(node), state }
}

/// Dice that show what follows from a number.
struct Even(u64);

impl rand_core::TryRng for Even {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = (self.try_next_u64()? >> 56) as u8;
        }
        Ok(())
    }
}

/// Writes numbers of eight bytes, and no more than what these tests tell apart.
struct Plain;

impl Plain {
    fn numbers<const N: usize>(bytes: &mut &[u8]) -> Result<[u64; N], Garbled> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            let (first, rest) = bytes.split_first_chunk().ok_or_else(|| Garbled("cut".into()))?;
            (*number, *bytes) = (u64::from_be_bytes(*first), rest);
        }
        Ok(numbers)
    }

    fn identity(bytes: &mut &[u8]) -> Result<Identity, Garbled> {
        let [node, incarnation, renewal] = Self::numbers(bytes)?;
        let renewal = u32::try_from(renewal).map_err(|_| Garbled("no renewal".into()))?;
        Ok(Identity { renewal, ..identity(node, incarnation) })
    }

    fn of(identity: &Identity) -> [u64; 3] {
        let Identity { holder, renewal, .. } = identity;
        [holder.node.0, holder.incarnation.0, u64::from(*renewal)]
    }

    fn put(numbers: &[u64], out: &mut Vec<u8>) {
        numbers.iter().for_each(|number| out.extend(number.to_be_bytes()));
    }
}

impl Codec for Plain {
    fn put_header(&self, header: &Header<Identity>, out: &mut Vec<u8>) {
        let Header { src, src_incarnation, dst, message } = header;
        let (sort, probe, about) = match message {
            Message::Ping(probe) => (1, *probe, dst),
            Message::Ack(probe) => (2, *probe, dst),
            Message::PingReq { target, probe_number } => (3, *probe_number, target),
            Message::IndirectPing { origin, probe_number } => (4, *probe_number, origin),
            Message::IndirectAck { target, probe_number } => (5, *probe_number, target),
            Message::ForwardedAck { origin, probe_number } => (6, *probe_number, origin),
            Message::Announce => (7, 0, dst),
            Message::Feed => (8, 0, dst),
            Message::Gossip => (9, 0, dst),
            Message::Broadcast => (10, 0, dst),
            Message::TurnUndead => (11, 0, dst),
        };
        for who in [src, dst, about] {
            Self::put(&Self::of(who), out);
        }
        Self::put(&[u64::from(*src_incarnation), sort, u64::from(probe)], out);
    }

    fn header(&self, bytes: &mut &[u8]) -> Result<Header<Identity>, Garbled> {
        let (src, dst, about) = (Self::identity(bytes)?, Self::identity(bytes)?, Self::identity(bytes)?);
        let [contradicted, sort, probe] = Self::numbers(bytes)?;
        let probe_number = u8::try_from(probe).map_err(|_| Garbled("no probe".into()))?;
        let message = match sort {
            1 => Message::Ping(probe_number),
            2 => Message::Ack(probe_number),
            3 => Message::PingReq { target: about, probe_number },
            4 => Message::IndirectPing { origin: about, probe_number },
            5 => Message::IndirectAck { target: about, probe_number },
            6 => Message::ForwardedAck { origin: about, probe_number },
            7 => Message::Announce,
            8 => Message::Feed,
            9 => Message::Gossip,
            10 => Message::Broadcast,
            11 => Message::TurnUndead,
            _ => return Err(Garbled("no sort".into())),
        };
        let src_incarnation = u16::try_from(contradicted).map_err(|_| Garbled("too often".into()))?;
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn put_member(&self, member: &Member<Identity>, out: &mut Vec<u8>) {
        Self::put(&Self::of(member.id()), out);
        Self::put(&[u64::from(member.incarnation()), member.state() as u64], out);
    }

    fn member(&self, bytes: &mut &[u8]) -> Result<Member<Identity>, Garbled> {
        let identity = Self::identity(bytes)?;
        let [contradicted, state] = Self::numbers(bytes)?;
        let state = match state {
            0 => MemberState::Alive,
            1 => MemberState::Suspect,
            2 => MemberState::Down,
            _ => return Err(Garbled("no state".into())),
        };
        Ok(Member::new(identity, u16::try_from(contradicted).map_err(|_| Garbled("too often".into()))?, state))
    }

    fn rumour_bytes(&self, rumour: &Rumour) -> usize {
        match &rumour.news {
            News::Record(record) => 100 + record.offers.keys().map(|name| name.as_str().len()).sum::<usize>(),
            News::Load(_) => 40,
        }
    }
}
