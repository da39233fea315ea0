//! gRPC as a peer of messages: a server that echoes and counts, and what measures it from another process.
//!
//! `tonic-load serve` prints its address. `tonic-load tell HOST:PORT SECONDS WARM_UP BYTES` streams messages over one
//! call until the server has counted all of them; `tonic-load ask HOST:PORT IN_FLIGHT SECONDS WARM_UP BYTES` asks. Both
//! print what `pelago bench tell -o json` and `pelago bench ask -o json` print.

use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use proto::{
    Counted, Message,
    load_client::LoadClient,
    load_server::{Load, LoadServer},
};

mod proto {
    tonic::include_proto!("load");
}

type Failed = Box<dyn Error + Send + Sync>;

/// How many messages are streamed between two looks at the clock.
const ROUND: u64 = 256;

struct Counts;

#[tonic::async_trait]
impl Load for Counts {
    async fn echo(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn push(&self, request: Request<Streaming<Message>>) -> Result<Response<Counted>, Status> {
        let mut stream = request.into_inner();
        let mut counted = Counted::default();
        while let Some(message) = stream.next().await {
            counted.messages += u64::from(!message?.payload.is_empty());
        }
        Ok(Response::new(counted))
    }
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let numbers = |words: &[&str]| words.iter().map(|word| word.parse()).collect::<Result<Vec<u64>, _>>();
    match words.as_slice() {
        ["serve"] => serve().await,
        ["tell", address, rest @ ..] => match numbers(rest)?[..] {
            [seconds, warm_up, bytes] => tell(address, seconds, warm_up, bytes).await,
            _ => Err("see the head of main.rs".into()),
        },
        ["ask", address, rest @ ..] => match numbers(rest)?[..] {
            [in_flight, seconds, warm_up, bytes] => ask(address, in_flight, seconds, warm_up, bytes).await,
            _ => Err("see the head of main.rs".into()),
        },
        _ => Err("see the head of main.rs".into()),
    }
}

async fn serve() -> Result<(), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(Server::builder().add_service(LoadServer::new(Counts)).serve_with_incoming(incoming).await?)
}

async fn tell(address: &str, seconds: u64, warm_up: u64, bytes: u64) -> Result<(), Failed> {
    let mut client = LoadClient::connect(format!("http://{address}")).await?;
    push(&mut client, warm_up, bytes).await?;
    let begun = Instant::now();
    let messages = push(&mut client, seconds, bytes).await?;
    let took = begun.elapsed().as_secs_f64();
    println!("{{\"told\":{messages},\"lost\":0,\"seconds\":{took},\"per_second\":{}}}", messages as f64 / took);
    Ok(())
}

/// Streams messages for so long. Returns how many the server has counted.
async fn push(client: &mut LoadClient<tonic::transport::Channel>, seconds: u64, bytes: u64) -> Result<u64, Failed> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let payload = Bytes::from(vec![b'1'; usize::try_from(bytes)?]);
    let messages = (0_u64..)
        .take_while(move |n| !n.is_multiple_of(ROUND) || Instant::now() < end)
        .map(move |_| Message { payload: payload.clone() });
    Ok(client.push(tokio_stream::iter(messages)).await?.into_inner().messages)
}

async fn ask(address: &str, in_flight: u64, seconds: u64, warm_up: u64, bytes: u64) -> Result<(), Failed> {
    let client = LoadClient::connect(format!("http://{address}")).await?;
    let begin = Instant::now() + Duration::from_secs(warm_up);
    let end = begin + Duration::from_secs(seconds);
    let payload = Bytes::from(vec![b'1'; usize::try_from(bytes)?]);
    let mut loops = Vec::new();
    for _ in 0..in_flight {
        let (mut client, payload) = (client.clone(), payload.clone());
        loops.push(tokio::spawn(async move {
            let mut latencies = new_histogram();
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return Ok::<_, Status>(latencies);
                }
                client.echo(Message { payload: payload.clone() }).await?;
                if sent >= begin {
                    latencies.saturating_record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
            }
        }));
    }
    let mut all = new_histogram();
    for running in loops {
        all.add(&running.await??)?;
    }
    let at = |quantile| all.value_at_quantile(quantile);
    println!(
        "{{\"answers\":{},\"per_second\":{},\"p50_us\":{},\"p95_us\":{},\"p99_us\":{},\"max_us\":{}}}",
        all.len(),
        all.len() as f64 / seconds as f64,
        at(0.5),
        at(0.95),
        at(0.99),
        all.max()
    );
    Ok(())
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
}
