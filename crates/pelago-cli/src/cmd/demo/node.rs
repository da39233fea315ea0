//! A node of the demo: a process of this very program, which nobody outlives.

use std::{
    borrow::Cow,
    env,
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use pelago_api::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::problem;
use crate::{builtin::crew::Errand, output::Error};

/// How long a node may take to be ready.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a node may take to stop when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How much of the end of its log is shown.
const LOG_LETTERS_SHOWN: usize = 1_000;

/// A node that runs, and is killed when this is dropped.
pub(super) struct Node {
    directory: PathBuf,
    errand: Errand,
    process: Process,
    name: String,
    client: Client,
}

/// When a node was killed, by two clocks: one to measure with, and the one that the log's times go by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Killed {
    at: Instant,
    pub(super) wall: SystemTime,
}

impl Killed {
    pub(super) fn ago(self) -> Duration {
        self.at.elapsed()
    }

    /// So many milliseconds after 1970.
    #[cfg(test)]
    pub(super) fn at(wall_ms: u64) -> Self {
        Self { at: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_millis(wall_ms) }
    }
}

/// What a node says when it is ready.
#[derive(Deserialize)]
struct Ready {
    http: String,
    node: String,
}

impl Node {
    /// Starts a node that founds a mesh in `directory`, or goes on with the one that is there.
    pub(super) async fn start(directory: &Path, errand: Errand) -> Result<Self, Error> {
        let (process, Ready { http, node }) = Process::start(directory, &errand).await?;
        let client = Client::new(&format!("http://{http}"));
        Ok(Self { directory: directory.to_owned(), errand, process, name: node, client })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn errand(&self) -> &Errand {
        &self.errand
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Kills it with SIGKILL, now.
    pub(super) fn kill(&mut self) -> Killed {
        let killed = Killed { at: Instant::now(), wall: SystemTime::now() };
        self.process.kill();
        killed
    }

    /// Starts it again on the data it left behind.
    pub(super) async fn start_again(&mut self) -> Result<(), Error> {
        *self = Self::start(&self.directory, self.errand.clone()).await?;
        Ok(())
    }

    /// Lets it stop in good order; kills it if that takes too long.
    pub(super) async fn stop(mut self) {
        self.process.ask_to_stop();
        let until = Instant::now() + STOP_MAX;
        while self.process.has_ended().is_none() && Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells why it ended, if it has.
    pub(super) fn ended_by_itself(&mut self) -> Option<Error> {
        let how = self.process.has_ended()?;
        Some(problem::node_ended(&format!("node {} ended by itself ({how})", self.name), &last_words(&self.directory)))
    }
}

/// A child process: always our own, so that its id names nobody else until it was waited for.
struct Process {
    child: Child,
    /// Open as long as the process, which else could not write.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Process {
    async fn start(directory: &Path, errand: &Errand) -> Result<(Self, Ready), Error> {
        let unable = |cause: &io::Error| problem::system("start a node", cause);
        let mut child = command(directory, errand).and_then(|mut command| command.spawn()).map_err(|e| unable(&e))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut process = Self { child, _stdout: None };
        let reading = tokio::task::spawn_blocking(move || first_line(stdout));
        let (line, stdout) = match tokio::time::timeout(START_MAX, reading).await {
            Ok(Ok(read)) => read.map_err(|cause| unable(&cause))?,
            Ok(Err(_stopping)) => return Err(unable(&io::ErrorKind::Interrupted.into())),
            Err(_late) => return Err(problem::node_ended("a node was not ready in time", &last_words(directory))),
        };
        let ready = serde_json::from_str(&line);
        let ready = ready.map_err(|_none| problem::node_ended("a node did not start", &last_words(directory)))?;
        process._stdout = Some(stdout);
        Ok((process, ready))
    }

    fn kill(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }

    fn ask_to_stop(&self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        // It may have ended already, which is what is wanted.
        let _ended = kill_process(id, Signal::TERM);
    }

    /// How it ended, if it has.
    fn has_ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => status.to_string(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(directory: &Path, errand: &Errand) -> io::Result<Command> {
    fs::create_dir_all(directory)?;
    let log = File::options().create(true).append(true).open(log_of(directory))?;
    let mut command = Command::new(env::current_exe()?);
    // What configures nodes of the user is not for this one; only what it logs may be asked for.
    let settings = env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.as_encoded_bytes().starts_with(b"PELAGO_") && name != "PELAGO_LOG") {
        command.env_remove(name);
    }
    errand.tell(&mut command);
    command
        .args(["serve", "--found", "--port", "0", "--print-addr", "json", "--log-level", "warn", "--data-dir"])
        .arg(directory.join("data"))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    Ok(command)
}

fn first_line(stdout: ChildStdout) -> io::Result<(String, BufReader<ChildStdout>)> {
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    Ok((line, stdout))
}

fn log_of(directory: &Path) -> PathBuf {
    directory.join("log")
}

/// The end of a node's log.
fn last_words(directory: &Path) -> String {
    let log = fs::read(log_of(directory));
    let log = log.as_deref().map_or(Cow::Borrowed("its log cannot be read"), String::from_utf8_lossy);
    let skipped = log.trim_end().chars().count().saturating_sub(LOG_LETTERS_SHOWN);
    log.trim_end().chars().skip(skipped).collect()
}

/// If this process is a node of a demo, lets it end with the demo, however that ends.
pub(crate) fn end_with_the_demo() {
    #[cfg(target_os = "linux")]
    if Errand::of_process().is_some() {
        // The signal comes when the thread that started this process ends: a demo has one thread that does. Where there
        // is no such signal, a demo that is itself killed leaves its node behind.
        let _unable = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    }
}
