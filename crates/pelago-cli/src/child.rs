//! A node as a child of this process: another run of this very program, which this one does not leave behind.
//!
//! It is killed when its [`Child`] is dropped. Where the system can do that (Linux), it is killed too when this process
//! ends in a way that drops nothing.

use std::{
    borrow::Cow,
    env,
    fs::{self, File},
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::ChildStdout,
};

use crate::exit::Exit;

/// How long a node may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// How many lines of its log are shown when it failed.
const LOG_LINES_SHOWN: usize = 8;

/// A child process: always our own, so that its id names nobody else until it was waited for.
pub(crate) struct Child {
    process: process::Child,
    /// Open as long as the process, which else could not write.
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

/// What a node says when it is ready.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ready {
    /// Where clients reach it, without a scheme.
    pub(crate) http: String,
    /// Where other nodes reach it.
    pub(crate) mesh: Option<String>,
}

/// Why a node is not ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot be started: {0}")]
    System(#[from] io::Error),
    #[error("ended before it was ready, since the mesh has removed it")]
    Removed,
    #[error("ended before it was ready ({0})")]
    Ended(String),
    #[error("was not ready within {} s", READY_MAX.as_secs())]
    Late,
    #[error("did not say where it listens, but: {0}")]
    Unclear(String),
}

impl Child {
    /// Starts `pelago serve`. `settings` gives it the flags and variables that make it the node it is; what it logs
    /// goes to the end of `log`.
    pub(crate) fn start(log: &Path, settings: impl FnOnce(&mut Command)) -> Result<Self, Error> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["serve", "--print-addr", "json", "--child-of", &process::id().to_string()]);
        settings(&mut command);
        let log_file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file);
        // A terminal's Ctrl-C is for us alone: a node that got it too would take our signal for the second.
        command.process_group(0);
        let mut process = command.spawn()?;
        let stdout = process.stdout.take().expect("stdout is piped");
        match ChildStdout::from_std(stdout) {
            Ok(stdout) => Ok(Self { process, stdout: BufReader::new(stdout), log: log.to_owned() }),
            Err(error) => {
                end(&mut process);
                Err(error.into())
            }
        }
    }

    /// Waits until the node says that it is ready.
    pub(crate) async fn ready(&mut self) -> Result<Ready, Error> {
        let mut line = String::new();
        match tokio::time::timeout(READY_MAX, self.stdout.read_line(&mut line)).await {
            Ok(read) => read?,
            Err(_late) => return Err(Error::Late),
        };
        if line.is_empty() {
            let status = self.process.wait()?;
            let is_removed = status.code() == Some(Exit::NotFound.code().into());
            return Err(if is_removed { Error::Removed } else { Error::Ended(how(status)) });
        }
        serde_json::from_str(&line).map_err(|_unclear| Error::Unclear(line.trim_end().to_owned()))
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it with SIGKILL, now.
    pub(crate) fn kill(&mut self) {
        end(&mut self.process);
    }

    /// Asks it to stop in good order.
    pub(crate) fn ask_to_stop(&self) {
        // It may have ended already, which is what is wanted.
        let _ended = kill_process(Pid::from_child(&self.process), Signal::TERM);
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        last_words(&self.log)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

fn end(process: &mut process::Child) {
    // It may have ended already, which is what is wanted.
    let _ended = process.kill();
    let _reaped = process.wait();
}

/// How a process ended, in words.
pub(crate) fn how(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => status.to_string(),
    }
}

/// Whether a process was ended by a signal, and had no time to log why. One that gives itself up has: it aborts.
pub(crate) fn is_killed(status: ExitStatus) -> bool {
    status.signal().is_some_and(|signal| signal != Signal::ABORT.as_raw())
}

/// The last lines of a log.
pub(crate) fn last_words(log: &Path) -> String {
    let text = fs::read(log);
    let text = text.as_deref().map_or(Cow::Borrowed("it cannot be read"), String::from_utf8_lossy);
    let lines = text.trim_end().lines().rev();
    let mut shown: Vec<&str> = lines.take(LOG_LINES_SHOWN).collect();
    shown.reverse();
    shown.join("\n")
}

/// Lets this process, a node, end with the process `parent` that started it, however that ends. Whether it has ended
/// already.
#[cfg(target_os = "linux")]
pub(crate) fn is_orphan_of(parent: u32) -> bool {
    // The signal comes when the thread that started this process ends: both that start nodes have one thread.
    let _unable = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // It may have ended before there was a signal to be sent.
    std::os::unix::process::parent_id() != parent
}

/// Where there is no such signal, a parent that is itself killed leaves its nodes behind.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_orphan_of(_parent: u32) -> bool {
    false
}
