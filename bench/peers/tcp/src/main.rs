//! The wall: bytes sent to and fro over TCP by two processes that wait for nothing else. No agent, no name, no frame.
//!
//! `tcp-load serve` prints its address. `tcp-load ask HOST:PORT SECONDS WARM_UP BYTES` sends one message after the other and
//! waits for the same number of bytes; it prints what `pelago bench ask -o json` prints.

use std::{
    env,
    error::Error,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

const BYTES_MAX: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve"] => serve(),
        ["ask", address, seconds, warm_up, bytes] => ask(address, seconds.parse()?, warm_up.parse()?, bytes.parse()?),
        _ => Err("see the head of main.rs".into()),
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        thread::spawn(move || {
            let mut buffer = vec![0; BYTES_MAX];
            // Until the other end is gone.
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..read]).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

fn ask(address: &str, seconds: u64, warm_up: u64, bytes: usize) -> Result<(), Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut message = vec![b'1'; bytes.clamp(1, BYTES_MAX)];
    let begin = Instant::now() + Duration::from_secs(warm_up);
    let end = begin + Duration::from_secs(seconds);
    let mut nanos = Vec::new();
    loop {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        if sent >= begin {
            nanos.push(sent.elapsed().as_nanos());
        }
    }
    nanos.sort_unstable();
    let at = |share: usize| nanos.get(nanos.len() * share / 1_000).map_or(0.0, |&nanos| nanos as f64 / 1_000.0);
    println!(
        "{{\"answers\":{},\"per_second\":{},\"p50_us\":{},\"p95_us\":{},\"p99_us\":{},\"max_us\":{}}}",
        nanos.len(),
        nanos.len() as f64 / seconds as f64,
        at(500),
        at(950),
        at(990),
        nanos.last().map_or(0.0, |&nanos| nanos as f64 / 1_000.0)
    );
    Ok(())
}
