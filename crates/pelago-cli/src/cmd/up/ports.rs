//! Where the nodes of a local mesh listen: where they did last time, if nobody else does now.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
};

use super::folder::Place;

/// Where the first node listens for clients if it is not told.
const HTTP: u16 = 8080;
/// Where the first node listens for links if it is not told.
const MESH: u16 = 50051;

/// What the command line says of the first node's ports: the others have those after them. 0 takes any free ones.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes {
    pub(super) http: Option<u16>,
    pub(super) mesh: Option<u16>,
}

/// A port that somebody else listens on, and the one that was taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shifted {
    /// Which node it is for, counted from 0.
    pub(super) node: usize,
    pub(super) wanted: u16,
    pub(super) taken: u16,
}

/// Why there are no ports.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// The port that was wished for is in use.
    Wished(u16),
    /// No port from this one on is free.
    Past(u16),
}

/// Chooses ports for `count` nodes, those of `last_time` first. `is_free` tells whether nobody listens on a port. One
/// that was wished for does not give way.
pub(super) fn choose(
    last_time: &[Place],
    count: usize,
    wishes: Wishes,
    is_free: impl Fn(u16) -> bool,
) -> Result<(Vec<Place>, Vec<Shifted>), Unavailable> {
    let wished = [wishes.http, wishes.mesh].into_iter().flatten();
    if let Some(port) = wished.filter(|port| *port != 0).find(|port| !is_free(*port)) {
        return Err(Unavailable::Wished(port));
    }
    let mut choice = Choice { taken: BTreeSet::new(), shifted: Vec::new(), is_free };
    let last_http: Vec<u16> = last_time.iter().map(|place| place.http).collect();
    let last_mesh: Vec<u16> = last_time.iter().map(|place| place.mesh).collect();
    let http = choice.ports(&wanted(&last_http, count, wishes.http, HTTP))?;
    let mesh = choice.ports(&wanted(&last_mesh, count, wishes.mesh, MESH))?;
    let is_new = |name: &String| last_time.iter().all(|place| place.name != *name);
    let new_names = (1..).map(|n| format!("node-{n}")).filter(is_new);
    let names = last_time.iter().map(|place| place.name.clone()).chain(new_names).take(count);
    let ports = http.into_iter().zip(mesh);
    let places = names.zip(ports).map(|(name, (http, mesh))| Place { name, http, mesh }).collect();
    Ok((places, choice.shifted))
}

/// Whether nobody listens on this port of this machine.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port that nobody listens on.
fn any_free() -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    listener.local_addr().ok().map(|address| address.port())
}

/// The ports that the nodes should have, one after the other.
fn wanted(last_time: &[u16], count: usize, wish: Option<u16>, default: u16) -> Vec<u16> {
    let from = |first: u16, n: usize| u16::try_from(n).map_or(u16::MAX, |n| first.saturating_add(n));
    // New nodes listen after those of last time.
    let after_last = |n: usize| last_time.last().map(|last| from(*last, n + 1 - last_time.len()));
    (0..count)
        .map(|n| match (wish, last_time.get(n)) {
            (Some(0), _) => 0,
            (Some(first), _) => from(first, n),
            (None, Some(port)) => *port,
            (None, None) => after_last(n).unwrap_or_else(|| from(default, n)),
        })
        .collect()
}

struct Choice<F> {
    taken: BTreeSet<u16>,
    shifted: Vec<Shifted>,
    is_free: F,
}

impl<F: Fn(u16) -> bool> Choice<F> {
    fn ports(&mut self, wanted: &[u16]) -> Result<Vec<u16>, Unavailable> {
        let mut chosen = Vec::with_capacity(wanted.len());
        for (node, &port) in wanted.iter().enumerate() {
            let taken = match port {
                0 => self.any().ok_or(Unavailable::Past(0))?,
                port => self.next(port, wanted).ok_or(Unavailable::Past(port))?,
            };
            if port != 0 && taken != port {
                self.shifted.push(Shifted { node, wanted: port, taken });
            }
            self.taken.insert(taken);
            chosen.push(taken);
        }
        Ok(chosen)
    }

    /// `port`, or the next one that is free. None that another node should have.
    fn next(&self, port: u16, wanted: &[u16]) -> Option<u16> {
        let is_anothers = |candidate: u16| candidate != port && wanted.contains(&candidate);
        (port..=u16::MAX)
            .find(|candidate| !self.taken.contains(candidate) && !is_anothers(*candidate) && (self.is_free)(*candidate))
    }

    fn any(&self) -> Option<u16> {
        // The system gives out another one each time; a few tries are plenty.
        (0..100).filter_map(|_| any_free()).find(|port| !self.taken.contains(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(
        last_time: &[(u16, u16)],
        count: usize,
        wishes: Wishes,
        busy: &[u16],
    ) -> Result<Vec<(u16, u16)>, Unavailable> {
        let place = |(n, &(http, mesh)): (usize, &(u16, u16))| Place { name: format!("n{n}"), http, mesh };
        let last_time: Vec<Place> = last_time.iter().enumerate().map(place).collect();
        let (places, _) = choose(&last_time, count, wishes, |port| !busy.contains(&port))?;
        Ok(places.into_iter().map(|place| (place.http, place.mesh)).collect())
    }

    #[test]
    fn nodes_listen_where_they_did_and_new_ones_after_them() {
        assert_eq!(ports(&[], 2, Wishes::default(), &[]), Ok(vec![(8080, 50051), (8081, 50052)]));
        let kept = ports(&[(9000, 9100)], 2, Wishes::default(), &[]);
        assert_eq!(kept, Ok(vec![(9000, 9100), (9001, 9101)]));
        let told = ports(&[(9000, 9100)], 2, Wishes { http: Some(7000), mesh: None }, &[]);
        assert_eq!(told, Ok(vec![(7000, 9100), (7001, 9101)]));
    }

    #[test]
    fn a_port_in_use_gives_way_to_the_next_that_no_node_should_have() {
        let place = Place { name: "node-1".into(), http: 8080, mesh: 50051 };
        let (places, shifted) =
            choose(&[place], 3, Wishes::default(), |port| ![8080, 8083].contains(&port)).expect("there are others");
        let http: Vec<u16> = places.iter().map(|place| place.http).collect();
        assert_eq!(http, [8084, 8081, 8082], "8081 and 8082 are for the others");
        assert_eq!(shifted, [Shifted { node: 0, wanted: 8080, taken: 8084 }]);
        assert_eq!(ports(&[(65535, 1)], 1, Wishes::default(), &[65535]), Err(Unavailable::Past(65535)));
    }

    #[test]
    fn a_port_that_was_wished_for_gives_no_way() {
        let wishes = Wishes { http: Some(7000), mesh: Some(7100) };
        assert_eq!(ports(&[], 2, wishes, &[7000]), Err(Unavailable::Wished(7000)));
        assert_eq!(ports(&[], 2, wishes, &[7100]), Err(Unavailable::Wished(7100)));
        assert_eq!(ports(&[], 2, wishes, &[7001]), Ok(vec![(7000, 7100), (7002, 7101)]), "only the first was named");
    }

    #[test]
    fn links_and_clients_never_get_the_same_port() {
        let wishes = Wishes { http: Some(7000), mesh: Some(7001) };
        assert_eq!(
            ports(&[], 2, wishes, &[]),
            Ok(vec![(7000, 7003), (7001, 7002)]),
            "7001 is the second node's for clients"
        );
        let any = ports(&[], 8, Wishes { http: Some(0), mesh: Some(0) }, &[]).expect("there are free ports");
        let distinct: BTreeSet<u16> = any.iter().flat_map(|(http, mesh)| [*http, *mesh]).collect();
        assert_eq!(distinct.len(), 16);
    }
}
