//! One connection of the line of sight, from its Hello to its end.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use pelago_node::{Guest, Handle, handle};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::{Duration, Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Limits,
    document::{self, Answer, Refused, Request, VERSION},
    frame::{self, LENGTH_BYTES, TooLong},
};
use crate::{
    model::{Load, Node, Signal, Status},
    problem::{Code, Problem},
};

/// The most that is read at once, in bytes: memory follows what has arrived, and not what was announced.
const READ_BYTES_MAX: usize = 64 << 10;
/// How long a client may take to read an answer.
const READ_MAX: Duration = Duration::from_secs(20);
/// How long, and how much in bytes, is taken off a connection that is over, since many clients read nothing while they
/// still write.
const LINGER: Duration = Duration::from_secs(1);
const DISCARD_BYTES_MAX: usize = 16 << 20;

/// A client, and what it waits for.
pub(super) struct Conversation {
    handle: Handle,
    limits: Limits,
    stream: TcpStream,
    received: BytesMut,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Until its Hello is there: what says that others want its place.
    greeting: Option<Arc<CancellationToken>>,
    client: Option<Client>,
    /// Whether it will say no more.
    has_said_all: bool,
    /// When it has to have said more.
    patience: Instant,
}

/// Whoever has said Hello.
struct Client {
    name: String,
    /// Among the clients of the node.
    _place: Guest,
}

enum Event {
    Read(io::Result<usize>),
    Answer(Answer),
    Late,
    /// It has said nothing, and others come.
    GivesWay,
    Stop,
}

/// Why a connection ends.
enum End {
    /// The client is gone, or done.
    Gone,
    /// The node ends it, and says why.
    Refused(Answer),
}

impl Conversation {
    pub(super) fn new(stream: TcpStream, handle: Handle, limits: Limits, greeting: Arc<CancellationToken>) -> Self {
        Self {
            handle,
            limits,
            stream,
            received: BytesMut::new(),
            answers: FuturesUnordered::new(),
            greeting: Some(greeting),
            client: None,
            has_said_all: false,
            patience: Instant::now() + limits.hello_max,
        }
    }

    /// Answers until the client is done, says what it must not, or `stop` is cancelled. What it started and did not hear
    /// of by then is called off. Who has no place among the clients is told why it ends as long as `refused` has room.
    pub(super) async fn run(mut self, refused: Arc<Semaphore>, stop: CancellationToken) {
        let Err(End::Refused(last)) = self.converse(stop).await else { return };
        self.greeting = None;
        if self.client.is_some() {
            return refuse(self.stream, &last).await;
        }
        if let Ok(_permit) = refused.try_acquire() {
            refuse(self.stream, &last).await;
        }
    }

    async fn converse(&mut self, stop: CancellationToken) -> Result<(), End> {
        loop {
            // Its patience is not tried by a client that waits for an answer.
            let may_be_late = self.answers.is_empty() || !self.received.is_empty();
            let missing = frame::missing(&self.received).map_err(too_long)?.clamp(1, READ_BYTES_MAX);
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                Some(answer) = self.answers.next() => Event::Answer(answer),
                read = read(&mut self.stream, &mut self.received, missing), if !self.has_said_all => Event::Read(read),
                () = sleep_until(self.patience), if may_be_late => Event::Late,
                () = given_up(self.greeting.as_deref()) => Event::GivesWay,
            };
            match event {
                Event::Read(Ok(0)) if self.answers.is_empty() => return Err(End::Gone),
                Event::Read(Ok(0)) => (self.has_said_all, self.received) = (true, BytesMut::new()),
                Event::Read(Ok(bytes)) => self.hear(bytes).await?,
                Event::Read(Err(_)) => return Err(End::Gone),
                Event::Answer(answer) => {
                    self.say(&answer).await?;
                    if self.has_said_all && self.answers.is_empty() {
                        return Err(End::Gone);
                    }
                    if self.received.is_empty() {
                        self.patience = Instant::now() + self.limits.idle_max;
                    }
                }
                Event::Late => return Err(End::Refused(self.late())),
                Event::GivesWay => {
                    let detail = "too many connections have said no Hello".to_owned();
                    let hint = "say who you are as soon as you connect".to_owned();
                    return Err(End::Refused(refusal(None, Code::NoRoom, detail, hint)));
                }
                Event::Stop => {
                    // What is there by now is told.
                    while let Some(Some(answer)) = self.answers.next().now_or_never() {
                        self.say(&answer).await?;
                    }
                    return Err(End::Refused(error(None, handle::Error::Stopping)));
                }
            }
        }
    }

    /// So many more bytes came.
    async fn hear(&mut self, bytes: usize) -> Result<(), End> {
        if self.client.is_some() && self.received.len() == bytes {
            self.patience = Instant::now() + self.limits.frame_max;
        }
        let Some(document) = frame::cut(&mut self.received).map_err(too_long)? else { return Ok(()) };
        if self.client.is_some() {
            self.patience = Instant::now() + self.limits.idle_max;
        }
        let answer = match Request::read(&document) {
            Ok((id, request)) => self.begin(id, request, &document),
            Err(Refused { id, problem }) => Some(Answer::Error { id, problem }),
        };
        match answer {
            Some(answer @ Answer::Error { .. }) if self.client.is_none() => Err(End::Refused(answer)),
            Some(answer) => self.say(&answer).await,
            None => Ok(()),
        }
    }

    /// Begins what a client wants. The answer, if it is there at once.
    fn begin(&mut self, id: Option<u64>, request: Request<'_>, document: &Bytes) -> Option<Answer> {
        let Some(client) = &self.client else {
            let Request::Hello { name } = request else {
                let hint = format!(r#"say {{"type": "Hello", "name": "YOU", "version": {VERSION}}} first"#);
                return Some(refusal(id, Code::WrongState, "the first frame must be a Hello".to_owned(), hint));
            };
            let place = match self.handle.client_place() {
                Ok(place) => place,
                Err(full) => {
                    let hint = "nothing was done; try again in a second, or ask another node".to_owned();
                    return Some(refusal(id, Code::NoRoom, format!("no connection: {full}"), hint));
                }
            };
            self.client = Some(Client { name: name.into_owned(), _place: place });
            self.greeting = None;
            self.patience = Instant::now() + self.limits.idle_max;
            self.answers.push(hello(self.handle.clone(), id).boxed());
            return None;
        };
        if let Request::Ping = request {
            return Some(Answer::Pong { id });
        }
        if self.answers.len() >= self.limits.requests_max {
            let busy = format!("{} requests of this connection wait for their answers", self.answers.len());
            return Some(error(id, handle::Error::Busy(busy)));
        }
        let handle = self.handle.clone();
        let answer = match request {
            Request::Signal { signal, wait } => {
                let content = document::content(document, &signal);
                let mut options = signal.options();
                if signal.from.is_none() {
                    options.from.clone_from(&client.name);
                }
                let to = signal.to.into_owned();
                let wait = Some(wait).filter(|wait| !wait.is_zero());
                async move {
                    match handle.signal(&to, content, options, wait).await {
                        Ok(trace) => Answer::of_signal(id, Signal::of_trace(trace)),
                        Err(failed) => error(id, failed),
                    }
                }
                .boxed()
            }
            Request::Metrics => metrics(handle, id).boxed(),
            Request::Discovery => discovery(handle, id).boxed(),
            Request::Ping => return Some(Answer::Pong { id }),
            Request::Hello { .. } => {
                let hint = "one is enough: open another connection to be somebody else".to_owned();
                return Some(refusal(id, Code::WrongState, format!("the Hello of {} was heard", client.name), hint));
            }
        };
        self.answers.push(answer);
        None
    }

    async fn say(&mut self, answer: &Answer) -> Result<(), End> {
        let written = timeout(READ_MAX, self.stream.write_all(&answer.frame())).await;
        if matches!(written, Ok(Ok(()))) { Ok(()) } else { Err(End::Gone) }
    }

    fn late(&self) -> Answer {
        let Limits { hello_max, frame_max, idle_max, .. } = self.limits;
        let (detail, hint) = if self.client.is_none() {
            (format!("no Hello came within {} ms", hello_max.as_millis()), "say who you are as soon as you connect")
        } else if !self.received.is_empty() {
            (format!("a frame was not whole within {} ms", frame_max.as_millis()), "write a frame at once")
        } else {
            (format!("nothing came for {} ms", idle_max.as_millis()), "say Ping from time to time")
        };
        refusal(None, Code::BodyNotReceived, detail, hint.to_owned())
    }
}

/// Waits until `greeting` is given up; for ever if there is none. Cancel safe.
async fn given_up(greeting: Option<&CancellationToken>) {
    match greeting {
        Some(greeting) => greeting.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Reads at most `missing` bytes. Cancel safe.
async fn read(stream: &mut TcpStream, received: &mut BytesMut, missing: usize) -> io::Result<usize> {
    received.reserve(missing);
    stream.read_buf(&mut received.limit(missing)).await
}

/// Says why a connection ends, and ends it so that this is read.
async fn refuse(mut stream: TcpStream, last: &Answer) {
    let farewell = async {
        stream.write_all(&last.frame()).await?;
        stream.shutdown().await?;
        let mut discarded = 0;
        let mut buffer = vec![0; 8 << 10];
        while discarded < DISCARD_BYTES_MAX {
            match stream.read(&mut buffer).await? {
                0 => break,
                bytes => discarded += bytes,
            }
        }
        io::Result::Ok(())
    };
    // A client that does not read, or is gone, has not earned more.
    let _unheard = timeout(LINGER, farewell).await;
}

async fn hello(handle: Handle, id: Option<u64>) -> Answer {
    match handle.status().await.map(Status::from) {
        Ok(Status { mesh, node, nodes, .. }) => {
            let agents = nodes.into_iter().find(|one| one.name == node).map(|one| one.offers).unwrap_or_default();
            Answer::Hello { id, version: VERSION, release: env!("CARGO_PKG_VERSION"), mesh, node, agents }
        }
        Err(failed) => error(id, failed),
    }
}

async fn metrics(handle: Handle, id: Option<u64>) -> Answer {
    let figures = document::figures(&handle.metrics().render());
    match handle.status().await.map(Status::from) {
        Ok(Status { node, nodes, .. }) => {
            let load = |one: Node| Some((one.name, one.seen?.load?));
            let loads: BTreeMap<String, Load> = nodes.into_iter().filter_map(load).collect();
            Answer::Metrics { id, node, figures, loads }
        }
        Err(failed) => error(id, failed),
    }
}

async fn discovery(handle: Handle, id: Option<u64>) -> Answer {
    match handle.status().await.map(Status::from) {
        Ok(Status { nodes, .. }) => Answer::Discovery { id, nodes },
        Err(failed) => error(id, failed),
    }
}

fn error(id: Option<u64>, error: handle::Error) -> Answer {
    Answer::Error { id, problem: Box::new(Problem::from(error)) }
}

fn refusal(id: Option<u64>, code: Code, detail: String, hint: String) -> Answer {
    Answer::Error { id, problem: Box::new(Problem::new(code, detail, hint)) }
}

fn too_long(error: TooLong) -> End {
    let first = error.bytes.to_be_bytes();
    let is_text = first.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let hint = if is_text {
        let text = String::from_utf8_lossy(&first);
        format!("{text:?} is text: each frame begins with its length in {LENGTH_BYTES} bytes, the highest first")
    } else {
        "keep large data elsewhere and pass its address".to_owned()
    };
    End::Refused(refusal(None, Code::BodyTooLarge, error.to_string(), hint))
}
