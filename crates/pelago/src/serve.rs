//! `pelago serve`, from the first flag to the last flush. Read it top to bottom and you know the process.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener as StdListener},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, ValueEnum};
use opentelemetry_sdk::trace::SdkTracer;
use pelago_core::{agent, id::Name, record::RetryPolicy, task};
use pelago_node::{Balancing, Handle, Kind, Node, Rule, disk, metrics::Metrics};
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinError,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{AgentConfig, BalancingConfig, Config, Flag, LoopbackAddr, Problems, Sources},
    logging,
    telemetry::Telemetry,
};

/// How long requests under way may take to be answered after the agents have been put away.
const ANSWERS_MAX: Duration = Duration::from_secs(2);
/// How long a node may take to start before it says so to whoever asks.
const READY_SOON: Duration = Duration::from_secs(3);
/// The exit code of wrong usage, configuration included.
const USAGE: u8 = 2;
/// The exit code after a second signal.
const INTERRUPTED: u8 = 130;

/// Options of a node. Each sets a key of the configuration, and wins over the file and the environment.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Configuration file [default: ./pelago.toml if there is one]
    #[arg(long, value_name = "FILE", env = "PELAGO_CONFIG")]
    pub config: Option<PathBuf>,
    /// The node's name (mesh.node_id)
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Found a new mesh if the data directory belongs to none (mesh.found)
    #[arg(long)]
    pub found: bool,
    /// Join the mesh of the node that listens there; repeat for more (mesh.peers)
    #[arg(long, value_name = "HOST:PORT")]
    pub join: Vec<String>,
    /// Where links from other nodes arrive, loopback only, port 0 for any free one (mesh.listen_addr)
    #[arg(long, value_name = "HOST:PORT")]
    pub mesh_addr: Option<String>,
    /// Data directory (store.dir)
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// HTTP port, 0 for any free one (server.port)
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// HTTP address, loopback only (server.host)
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// A label of the node; repeat for more (mesh.labels)
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub labels: Vec<String>,
    /// Log level: error, warn, info, debug or trace (logging.level)
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Log format: text or json (logging.format)
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Print addresses and process id on stdout once the node is ready
    #[arg(long, value_name = "FORMAT")]
    pub print_addr: Option<PrintAddr>,
}

/// How addresses are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrintAddr {
    /// One line of JSON.
    Json,
}

/// A label as it is written on a command line.
fn label(text: &str) -> Result<String, &'static str> {
    match text.split_once('=') {
        Some(("", _)) | None => Err("a label is key=value, like zone=west"),
        Some(_) => Ok(text.to_owned()),
    }
}

/// A program that is a node with agents of its own.
#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: ServeArgs,
}

/// Why a node's process ended with an error. Displays with its causes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not valid. Displays as several paragraphs, each with a label of its own.
    #[error(transparent)]
    Config(#[from] Problems),
    /// Nobody could reach it.
    #[error("failed to listen on {address}: {source}; choose another with {key}, or port 0 for any free one")]
    Listen {
        /// Where it should have listened.
        address: SocketAddr,
        /// What says so.
        key: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// It did not get as far as to be ready.
    #[error("failed to start: {}", chain(.cause))]
    Start {
        /// Why.
        cause: pelago_node::Error,
        /// Whether its data directory was a node's before. Then it still is.
        had_data: bool,
    },
    /// It could not go on. What was acknowledged is kept.
    #[error("stopped: {}", chain(.0))]
    Node(pelago_node::Error),
    /// It takes no more connections of programs. What was acknowledged is kept.
    #[error(
        "stopped: it takes no more connections of programs{}",
        .0.as_ref().map(|error| format!(": {error}")).unwrap_or_default()
    )]
    Deaf(Option<io::Error>),
    /// The system refused something that any process needs.
    #[error("{0}")]
    System(#[from] io::Error),
    /// The configuration says of agents what has no effect on agents of their kinds: each, and why.
    #[error("{}", .0.join("; "))]
    NoEffect(Vec<String>),
    /// The configuration declares an agent whose kind the program does not have.
    #[error("[agents.{name}] names the kind {kind}, which this program does not have; it has {known}")]
    NoKind {
        /// The agent.
        name: Name,
        /// Its kind.
        kind: Name,
        /// The kinds that there are.
        known: String,
    },
}

impl Error {
    /// Whether what the user wrote has to be changed before another try is worth it.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_) | Self::NoKind { .. } | Self::NoEffect(_))
    }

    /// Whether the mesh has removed the node, so that its data directory is of no more use.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        use pelago_node::Error::Removed;
        matches!(self, Self::Start { cause: Removed { .. }, .. } | Self::Node(Removed { .. }))
    }

    /// Whether the node holds what was acknowledged before it failed.
    #[must_use]
    pub fn has_data(&self) -> bool {
        match self {
            Self::Node(_) | Self::Deaf(_) => true,
            Self::Start { had_data, .. } => *had_data,
            Self::Config(_) | Self::Listen { .. } | Self::System(_) | Self::NoKind { .. } | Self::NoEffect(_) => false,
        }
    }
}

/// Runs this process as a node that hosts `kinds`: `pelago serve` plus your agents. Reads the process's arguments.
pub fn run(kinds: impl IntoIterator<Item = Kind>) -> ExitCode {
    let error = match serve(&Program::parse().args, kinds.into_iter().collect()) {
        Ok(code) => return code,
        Err(error) => error,
    };
    let text = if let Error::Config(problems) = &error { problems.to_string() } else { format!("error: {error}") };
    // Without stderr there is nobody to tell.
    let _unheard = writeln!(io::stderr(), "{}", text.trim_end());
    if error.is_usage() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

/// Runs this process as a node that hosts `kinds`, until it is told to stop.
///
/// # Errors
/// [`Error`] says why it ended otherwise; the caller tells the user.
pub fn serve(args: &ServeArgs, kinds: Vec<Kind>) -> Result<ExitCode, Error> {
    let config = Config::load(Sources::of_process(args.config.clone(), args.flags())?)?;
    let kinds = declare(&config, kinds)?;
    logging::start(&config.logging);
    // It has threads of its own, and ends after the node.
    let telemetry = Telemetry::start(&config.telemetry)?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .thread_name("pelago-data")
        .enable_all()
        .build()?;
    let ended = runtime.block_on(live(args, config, kinds, telemetry.tracer()));
    runtime.shutdown_background();
    drop(telemetry);
    ended
}

/// How many threads drive links and agents: one core is left to consensus, the log and applying, which have threads of
/// their own. Agents that compute give way to the others.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    cores.saturating_sub(1).max(1)
}

/// How one life of the node ended.
enum End {
    /// It was told to stop, or to stop at once.
    Told(ExitCode),
    /// It ended, and may begin another.
    Again(pelago_node::Error),
}

/// The life of the process: listen, and run the node. A node that the mesh gave up begins another life, and one whose
/// disk was full does once there is space.
async fn live(
    args: &ServeArgs,
    config: Config,
    kinds: Vec<Kind>,
    tracer: Option<SdkTracer>,
) -> Result<ExitCode, Error> {
    let mut signals = Signals::new()?;
    let mut listeners = Listeners::bind(&config).await?;
    let http = listeners.http.as_ref().map(StdListener::local_addr).transpose()?.map(|address| address.to_string());
    let mut node_config = node_config(&config, http.as_deref(), tracer);
    let mut announced = false;
    // Where a directory says whose it is.
    let had_data = config.store.dir.join("node").exists();
    loop {
        let is_over = CancellationToken::new();
        let starting = is_over.clone().drop_guard();
        let metrics = node_config.metrics.clone();
        let mut told = tokio::spawn(tell_that_it_starts(another(listeners.http.as_ref())?, metrics, is_over));
        let node = tokio::select! {
            node = Node::start(node_config.clone(), kinds.clone()) => node,
            // Nothing was begun that has to be ended.
            () = signals.next() => return Ok(ExitCode::SUCCESS),
            ended = &mut told => return Err(deaf(ended)),
        };
        let had_data = had_data || announced;
        let node = match node {
            Ok(node) => node,
            Err(pelago_node::Error::DiskFull { path, reason }) if had_data => {
                tell_of_full_disk(&path, &reason, node_config.disk_free_bytes_min);
                tokio::select! {
                    () = disk::until_free(&path, node_config.disk_free_bytes_min) => continue,
                    () = signals.next() => return Ok(ExitCode::SUCCESS),
                    ended = &mut told => return Err(deaf(ended)),
                }
            }
            Err(cause) => return Err(Error::Start { cause, had_data }),
        };
        drop(starting);
        // Where others know it from its first life.
        node_config.mesh_listen = node.mesh_address();
        if !std::mem::replace(&mut announced, true) {
            announce(args, &node, http.as_deref(), &listeners)?;
        }
        let handle = node.handle().clone();
        match live_once(&mut signals, node, &mut listeners).await? {
            End::Told(code) => return Ok(code),
            End::Again(pelago_node::Error::DiskFull { path, reason }) => {
                let bytes_min = node_config.disk_free_bytes_min;
                tell_of_full_disk(&path, &reason, bytes_min);
                tokio::select! {
                    () = disk::until_free(&path, bytes_min) => {}
                    () = signals.next() => return Ok(ExitCode::SUCCESS),
                    // Whoever asks meanwhile is told why nothing is done.
                    ended = answer(listeners.again()?, handle, CancellationToken::new()) => {
                        return Err(Error::Deaf(ended.err()));
                    }
                }
            }
            End::Again(why) => tracing::warn!(%why, "starting again"),
        }
    }
}

/// One life of the node: serve, and stop in three steps.
async fn live_once(signals: &mut Signals, mut node: Node, listeners: &mut Listeners) -> Result<End, Error> {
    let stop_answering = CancellationToken::new();
    let mut api = tokio::spawn(answer(listeners.again()?, node.handle().clone(), stop_answering.clone()));
    let failed = tokio::select! {
        () = signals.next() => None,
        error = node.failed() => Some(error),
        // A node that nobody can ask is of no use, and would look as if it ran.
        ended = &mut api => return Err(deaf(ended)),
    };
    let end = match failed {
        None => {
            // Whoever answers has them until it is done. Nobody is to wait at a port after that.
            *listeners = Listeners { http: None, json: None };
            End::Told(ExitCode::SUCCESS)
        }
        Some(error) if error.is_only_this_run() => End::Again(error),
        Some(error) => return Err(Error::Node(error)),
    };
    tracing::info!("stopping: running turns end first; a second signal stops at once");
    let stopping = async {
        node.begin_to_stop();
        node.drain().await;
        stop_answering.cancel();
        // Requests that wait for something that will not happen here any more are cut off.
        let _late = tokio::time::timeout(ANSWERS_MAX, api).await;
        node.close().await;
    };
    tokio::select! {
        () = stopping => Ok(end),
        () = signals.next() => Ok(End::Told(ExitCode::from(INTERRUPTED))),
    }
}

fn tell_of_full_disk(path: &Path, reason: &str, bytes_min: u64) {
    tracing::error!(
        reason,
        path = %path.display(),
        bytes_wanted = disk::bytes_wanted(bytes_min),
        "no space is left: this node takes no part until there is"
    );
}

fn deaf(ended: Result<io::Result<()>, JoinError>) -> Error {
    Error::Deaf(ended.map_err(io::Error::other).and_then(|ended| ended).err())
}

/// Answers whoever asks over HTTP before there is a node to ask, until `stop` is cancelled. Not at once: for a node that
/// is ready soon they wait, and notice nothing.
async fn tell_that_it_starts(
    listener: Option<StdListener>,
    metrics: Metrics,
    stop: CancellationToken,
) -> io::Result<()> {
    let Some(listener) = listener else {
        stop.cancelled().await;
        return Ok(());
    };
    if stop.run_until_cancelled(tokio::time::sleep(READY_SOON)).await.is_none() {
        return Ok(());
    }
    let listener = TcpListener::from_std(listener)?;
    pelago_api::http::serve_starting(listener, metrics, pelago_api::http::Limits::default(), stop).await
}

/// Answers programs, until `stop` is cancelled.
async fn answer(listeners: Listeners, handle: Handle, stop: CancellationToken) -> io::Result<()> {
    let Listeners { http, json } = listeners;
    if http.is_none() && json.is_none() {
        return std::future::pending().await;
    }
    let of_line = (handle.clone(), stop.clone());
    let http = async move {
        let Some(listener) = http else { return Ok(()) };
        let limits = pelago_api::http::Limits::default();
        pelago_api::http::serve(TcpListener::from_std(listener)?, handle, limits, stop).await
    };
    let json = async move {
        let (Some(listener), (handle, stop)) = (json, of_line) else { return Ok(()) };
        let limits = pelago_api::line::Limits::default();
        pelago_api::line::serve(TcpListener::from_std(listener)?, handle, limits, stop).await
    };
    tokio::try_join!(http, json).map(|_both| ())
}

/// Where programs come in.
struct Listeners {
    http: Option<StdListener>,
    /// The line of sight.
    json: Option<StdListener>,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, Error> {
        let Config { server, mesh, .. } = config;
        let http = server.enabled.then(|| server.listen_addr().get());
        let json = mesh.json.listen.map(LoopbackAddr::get);
        Ok(Self { http: listen(http, "--port").await?, json: listen(json, "mesh.json.listen").await? })
    }

    /// The same once more: they are closed by whoever answers, and there may be another life.
    fn again(&self) -> io::Result<Self> {
        Ok(Self { http: another(self.http.as_ref())?, json: another(self.json.as_ref())? })
    }
}

fn another(listener: Option<&StdListener>) -> io::Result<Option<StdListener>> {
    listener.map(StdListener::try_clone).transpose()
}

async fn listen(address: Option<SocketAddr>, key: &'static str) -> Result<Option<StdListener>, Error> {
    let Some(address) = address else { return Ok(None) };
    let failed = |source| Error::Listen { address, key, source };
    Ok(Some(TcpListener::bind(address).await.map_err(failed)?.into_std()?))
}

/// Says where the node is reached: for people in the log, for programs on stdout.
fn announce(args: &ServeArgs, node: &Node, http: Option<&str>, listeners: &Listeners) -> io::Result<()> {
    let name = node.handle().name();
    let mesh = node.mesh_address().to_string();
    let json = listeners.json.as_ref().map(StdListener::local_addr).transpose()?.map(|address| address.to_string());
    tracing::info!(node = %name, http = http.unwrap_or("off"), mesh, json, "node is ready");
    if args.print_addr == Some(PrintAddr::Json) {
        let pid = std::process::id();
        let line = serde_json::json!({ "http": http, "json": json, "mesh": mesh, "node": name.as_str(), "pid": pid });
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()?;
    }
    Ok(())
}

fn node_config(config: &Config, http: Option<&str>, tracer: Option<SdkTracer>) -> pelago_node::Config {
    let Config { server: _, mesh, store, agents, tasks, signals, logging: _, telemetry: _, shutdown } = config;
    pelago_node::Config {
        directory: store.dir.clone(),
        mesh_name: mesh.name.clone(),
        name: mesh.node_id.clone(),
        found: mesh.found,
        labels: mesh.labels.iter().map(|(label, value)| (label.to_string(), value.clone())).collect(),
        http_address: http.unwrap_or_default().to_owned(),
        mesh_listen: mesh.listen_addr.get(),
        known: mesh.peers.iter().map(|known| known.address.to_string()).collect(),
        timing: pelago_node::Timing::Lan,
        gossip: mesh.gossip,
        metrics: pelago_node::metrics::Metrics::default(),
        policy: RetryPolicy {
            attempts_max: tasks.attempts_max.get(),
            attempt_ms_max: millis(tasks.attempt_max),
            backoff_ms: millis(tasks.backoff),
            backoff_ms_max: millis(tasks.backoff_max),
        },
        agent: agent::Config::default(),
        scheduler: task::Config::default(),
        balancing: balancing(&mesh.load_balancing, agents),
        disk_free_bytes_min: store.disk_free_bytes_min,
        drain_max: shutdown.drain_max,
        hops_max: signals.hops_max,
        tracer,
        connections_max: mesh.connections_max,
        packing: mesh.compression,
    }
}

/// What an agent's section leaves open is as for all.
fn balancing(all: &BalancingConfig, agents: &BTreeMap<Name, AgentConfig>) -> Balancing {
    let rule = Rule { strategy: all.strategy, prefer: all.prefer };
    let own = |(name, agent): (&Name, &AgentConfig)| {
        let strategy = agent.strategy.unwrap_or(rule.strategy);
        (name.clone(), Rule { strategy, prefer: agent.prefer.unwrap_or(rule.prefer) })
    };
    Balancing { rule, agents: agents.iter().map(own).collect(), weights: all.weights.clone() }
}

/// The kinds as the configuration names and bounds them. Those it does not name keep their own names.
fn declare(config: &Config, kinds: Vec<Kind>) -> Result<Vec<Kind>, Error> {
    let find = |name: &Name, agent: &AgentConfig| {
        let known = || kinds.iter().map(|kind| kind.name().to_string()).collect::<Vec<_>>().join(", ");
        let no_kind = || Error::NoKind { name: name.clone(), kind: agent.kind.clone(), known: known() };
        kinds.iter().find(|kind| *kind.name() == agent.kind).ok_or_else(no_kind)
    };
    let (mut declared, mut vain) = (Vec::new(), Vec::new());
    for (name, agent) in &config.agents {
        let AgentConfig {
            kind: _,
            node_affinity,
            concurrency,
            strategy,
            prefer,
            turn_max,
            layer,
            session,
            forward_connections,
        } = agent;
        let mut kind = find(name, agent)?.clone().named(name.clone()).only_on(node_affinity.clone());
        let of_pools =
            [("concurrency", concurrency.is_some()), ("strategy", strategy.is_some()), ("prefer", prefer.is_some())];
        for (key, _) in of_pools.into_iter().filter(|(_, is_set)| *is_set && !kind.is_pool()) {
            let why = format!("{name} is no pool, and only those run on several nodes at a time; remove it");
            vain.push(format!("[agents.{name}] {key} has no effect: {why}"));
        }
        if turn_max.is_some() && !kind.is_keyed() {
            let why = format!("{name} keeps no state, and what it does ends with who asked; remove it");
            vain.push(format!("[agents.{name}] turn_ms_max has no effect: {why}"));
        }
        if let Some(concurrency) = concurrency {
            kind = kind.at_most(*concurrency);
        }
        if let Some(turn_max) = turn_max {
            kind = kind.turns_within(*turn_max);
        }
        declared.push(kind.in_layer(layer.clone()).with_sessions(*session).connected(forward_connections.clone()));
    }
    if !vain.is_empty() {
        return Err(Error::NoEffect(vain));
    }
    let unnamed = kinds.iter().filter(|kind| !config.agents.contains_key(kind.name()));
    declared.extend(unnamed.cloned());
    Ok(declared)
}

impl ServeArgs {
    /// The flags that were given, as settings.
    fn flags(&self) -> Vec<Flag> {
        let Self { name, found, join, mesh_addr, data_dir, port, host, labels, log_level, log_format, .. } = self;
        let mut flags = Vec::new();
        let mut set = |name: &str, key: &str, value: Option<String>| {
            flags.extend(value.map(|value| Flag { name: name.into(), key: key.into(), value }));
        };
        set("--name", "mesh.node_id", name.clone());
        set("--found", "mesh.found", found.then(|| "true".into()));
        set("--mesh-addr", "mesh.listen_addr", mesh_addr.clone());
        for address in join {
            set("--join", "mesh.peers", Some(address.clone()));
        }
        set("--data-dir", "store.dir", data_dir.as_ref().map(|dir| dir.display().to_string()));
        set("--port", "server.port", port.map(|port| port.to_string()));
        set("--host", "server.host", host.clone());
        set("--log-level", "logging.level", log_level.clone());
        set("--log-format", "logging.format", log_format.clone());
        for label in labels {
            let (name, value) = label.split_once('=').unwrap_or((label, ""));
            set("--label", &format!("mesh.labels.{name}"), Some(value.to_owned()));
        }
        flags
    }
}

/// The two signals that ask a process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
