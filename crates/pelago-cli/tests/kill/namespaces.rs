//! Nodes in network namespaces of their own, so that what one sends to another can be lost.
//!
//! Nodes serve loopback addresses only; `route_localnet` lets these go over a wire between namespaces all the same.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    process::{Command, Output, id},
};

use super::say;

/// Set for a test that runs inside: the beginning of the names of its namespaces.
const INSIDE: &str = "PELAGO_TEST_NAMESPACES";
/// A hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:00:99";

/// One namespace for each node, all on one wire with that of the test. They go when this is dropped.
pub(crate) struct Namespaces {
    prefix: String,
    nodes: u8,
}

/// Runs a test again where it is on a wire with `nodes` namespaces. `Some` if this is there already, with what names
/// them; `None` if it has run there, or cannot.
pub(crate) fn enter(test: &str, nodes: u8) -> Option<Namespaces> {
    if let Ok(prefix) = std::env::var(INSIDE) {
        return Some(Namespaces { prefix, nodes });
    }
    let namespaces = Namespaces { prefix: format!("pelago-{}", id()), nodes };
    if let Err(why) = namespaces.make() {
        say(&format!("skipped: there are no network namespaces here: {why}"));
        return None;
    }
    let program = std::env::current_exe().expect("this is a program");
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", &namespaces.name("test")]).arg(program).args(["--exact", test, "--nocapture"]);
    let ended = inside.env(INSIDE, &namespaces.prefix).status().expect("it can be run again");
    assert!(ended.success(), "{test} failed in its namespace: {ended}");
    None
}

impl Namespaces {
    /// The namespace of a node, and its address there.
    pub(crate) fn place(&self, node: u8) -> (Option<String>, IpAddr) {
        (Some(self.name(node)), address(node).into())
    }

    /// Loses all that `from` sends to `to`.
    pub(crate) fn cut(&self, from: u8, to: u8) {
        let to = address(to).to_string();
        let words = ["neigh", "replace", &to, "lladdr", NOBODY, "nud", "permanent", "dev", "wire"];
        self.ip(from, &words).expect("the table of neighbours can be changed");
    }

    /// Loses nothing any more.
    pub(crate) fn heal(&self, from: u8, to: u8) {
        let to = address(to).to_string();
        self.ip(from, &["neigh", "del", &to, "dev", "wire"]).expect("the table of neighbours can be changed");
    }

    fn name(&self, node: impl ToString) -> String {
        format!("{}-{}", self.prefix, node.to_string())
    }

    fn make(&self) -> Result<(), String> {
        let test = self.name("test");
        ip(&["netns", "add", &test])?;
        ip(&["-n", &test, "link", "set", "lo", "up"])?;
        ip(&["-n", &test, "link", "add", "name", "wire", "type", "bridge"])?;
        ip(&["-n", &test, "link", "set", "wire", "up"])?;
        ip(&["netns", "exec", &test, "sh", "-c", ROUTE_LOCALNET])?;
        ip(&["-n", &test, "addr", "add", "127.77.0.254/24", "dev", "wire"])?;
        for node in 0..self.nodes {
            let (name, plug) = (self.name(node), format!("node{node}"));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "add", "wire", "type", "veth", "peer", "name", &plug, "netns", &test])?;
            ip(&["-n", &test, "link", "set", &plug, "master", "wire", "up"])?;
            ip(&["netns", "exec", &name, "sh", "-c", ROUTE_LOCALNET])?;
            ip(&["-n", &name, "addr", "add", &format!("{}/24", address(node)), "dev", "wire"])?;
            ip(&["-n", &name, "link", "set", "wire", "up"])?;
        }
        Ok(())
    }

    fn ip(&self, node: u8, words: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.name(node)], words].concat())
    }

    fn remove(&self) {
        let all = (0..self.nodes).map(|node| self.name(node)).chain([self.name("test")]);
        for name in all.filter(|name| fs::exists(format!("/run/netns/{name}")).unwrap_or(false)) {
            // One that stays costs nothing.
            let _stays = ip(&["netns", "del", &name]);
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        if std::env::var_os(INSIDE).is_none() {
            self.remove();
        }
    }
}

const ROUTE_LOCALNET: &str = "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet";

pub(crate) fn address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, 0, node + 1)
}

fn ip(words: &[&str]) -> Result<(), String> {
    let Output { status, stderr, .. } = Command::new("ip").args(words).output().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&stderr).trim().to_owned()) }
}
