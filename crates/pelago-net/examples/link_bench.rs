//! Measures a link over loopback, both ends in one process on threads of their own.
//!
//! `cargo run --release -p pelago-net --example link_bench [seconds]`

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pelago_core::{
    id::{BootId, Incarnation, MeshId, Name, NodeId},
    link::{Hello, Lane, PerLane, RequestId, Role, Versions},
};
use pelago_net::{Config, Credit, Deliver, Dial, Handle, Incoming, Links, Listener};
use tokio::{runtime, sync::oneshot};

const WAIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(2), |text| text.parse())?;
    let length = Duration::from_secs(seconds);
    let counted = Arc::new(AtomicU64::new(0));
    let address = receiver(counted.clone())?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let links = Links::new(Config::default(), hello("sender"), |_| Box::new(Counter(Arc::default())));
        let (dial, mut state) = Dial::new(&links, address, Role::Main);
        tokio::spawn(dial.run());
        let link = state.wait_for(|state| state.up().is_some()).await?.up().expect("it was waited for").clone();
        for bytes in [16, 128, 1_024] {
            let rate = one_way(&link, bytes, length, &counted).await?;
            writeln!(io::stdout(), "one way, {bytes} B: {:.2} M/s", rate / 1e6)?;
        }
        let mut times = ping_pong(&link, length).await?;
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100];
        writeln!(io::stdout(), "request 64 B, one in flight: p50 {:?}, p99 {:?}", at(50), at(99))?;
        for in_flight in [64, 256] {
            let rate = requests(&link, in_flight, length).await?;
            writeln!(io::stdout(), "request 64 B, {in_flight} in flight: {:.0} k/s", rate / 1e3)?;
        }
        Ok(())
    })
}

/// Counts one-way frames and answers requests on the reading thread.
struct Counter(Arc<AtomicU64>);

impl Deliver for Counter {
    fn deliver(&mut self, _: Lane, batch: &mut Vec<Incoming>, _credit: Credit) {
        let mut one_way = 0;
        for incoming in batch.drain(..) {
            match incoming.ask {
                Some(ask) => ask.try_reply(&incoming.payload).expect("as much as arrived has room"),
                None => one_way += 1,
            }
        }
        self.0.fetch_add(one_way, Ordering::Relaxed);
    }

    fn called_off(&mut self, _: Lane, _: RequestId) {}
}

fn receiver(counted: Arc<AtomicU64>) -> Result<SocketAddr, Box<dyn Error>> {
    let (told, address) = oneshot::channel();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            let links = Links::new(Config::default(), hello("receiver"), move |_| Box::new(Counter(counted.clone())));
            let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
            let listener = Listener::bind(&links, loopback).await.expect("loopback can be bound");
            told.send(listener.address()).expect("the sender waits for it");
            listener.run().await;
        });
    });
    Ok(address.blocking_recv()?)
}

/// Frames a second, as the receiver counts them.
async fn one_way(link: &Handle, bytes: usize, length: Duration, counted: &AtomicU64) -> Result<f64, Box<dyn Error>> {
    let payload = vec![7; bytes];
    let before = counted.load(Ordering::Relaxed);
    let mut sent = 0;
    let began = Instant::now();
    while began.elapsed() < length {
        for _ in 0..1_000 {
            link.send(Lane::Requests, 1, 0, &payload).await?;
        }
        sent += 1_000;
    }
    while counted.load(Ordering::Relaxed) - before < sent {
        tokio::task::yield_now().await;
    }
    Ok(f64::from(u32::try_from(sent)?) / began.elapsed().as_secs_f64())
}

async fn ping_pong(link: &Handle, length: Duration) -> Result<Vec<Duration>, Box<dyn Error>> {
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < length {
        let asked = Instant::now();
        link.request(Lane::Requests, 1, &[7; 64], WAIT).await?;
        times.push(asked.elapsed());
    }
    Ok(times)
}

/// Requests a second.
async fn requests(link: &Handle, in_flight: usize, length: Duration) -> Result<f64, Box<dyn Error>> {
    let began = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let link = link.clone();
        callers.spawn(async move {
            let mut done = 0_u32;
            while began.elapsed() < length {
                link.request(Lane::Requests, 1, &[7; 64], WAIT).await.expect("it is answered");
                done += 1;
            }
            done
        });
    }
    let done: u32 = callers.join_all().await.into_iter().sum();
    Ok(f64::from(done) / began.elapsed().as_secs_f64())
}

fn hello(node: &str) -> Hello {
    Hello {
        versions: Versions::HERE,
        mesh: Some(MeshId(1)),
        mesh_name: Name::new("bench").expect("a valid name"),
        node_name: Name::new(node).expect("a valid name"),
        node: NodeId(0),
        boot: BootId(node.len() as u128),
        incarnation: Incarnation(0),
        role: Role::Main,
        features: 0,
        credit: PerLane::all(4 << 20),
        requests_max: 65_536,
    }
}
