//! What a node is told at its start: one schema, from a TOML file, the environment and flags.
//!
//! Each source is laid over the one before, key by key: defaults, then the file, then variables
//! `PELAGO_SECTION__KEY`, then flags. All that is wrong in all of them is reported at once, each with the place
//! where it was written. `pelago.example.toml` lists every key.
//!
//! ```text
//! file (TOML) ─┐
//! environment ─┼─► tree (values that know where they were written) ─► section (typed reading) ─► Config or Problems
//! flags ───────┘
//! ```
//!
//! *Is not:* a store of settings that change while the node runs, nor a global: components receive values.

mod address;
mod file;
mod later;
mod problem;
mod section;
mod sections;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ffi::OsString, fs, io, path::PathBuf};

use pelago_core::id::Name;

pub use address::{Error as AddressError, HostPort, LoopbackAddr, LoopbackHost};
pub use problem::{Code, Origin, Problem, Problems};
pub use sections::{
    AgentConfig, BalancingConfig, JsonConfig, KnownNode, LogFormat, LogLevel, LoggingConfig, MeshConfig, ServerConfig,
    ShutdownConfig, SignalDefaults, StoreConfig, TaskDefaults, TelemetryConfig,
};

use section::{Report, Section};
use tree::{Table, Tree};

/// The file that is read when no other is named.
const FILE: &str = "pelago.toml";

/// The variable that names the file.
const FILE_VARIABLE: &str = "PELAGO_CONFIG";

/// Everything a node is told at its start: the sum of its components' configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[server]`: the HTTP listener.
    pub server: ServerConfig,
    /// `[mesh]`: this node, its mesh, and where to find it.
    pub mesh: MeshConfig,
    /// `[store]`: the data directory.
    pub store: StoreConfig,
    /// `[agents.NAME]`: declared agents, by name.
    pub agents: BTreeMap<Name, AgentConfig>,
    /// `[tasks]`: what a task gets when its request says nothing.
    pub tasks: TaskDefaults,
    /// `[signals]`: what a signal gets that does not say otherwise.
    pub signals: SignalDefaults,
    /// `[logging]`: the log on stderr.
    pub logging: LoggingConfig,
    /// `[telemetry]`: where traces go.
    pub telemetry: TelemetryConfig,
    /// `[shutdown]`: the graceful stop.
    pub shutdown: ShutdownConfig,
}

/// Where settings come from. Later fields win over earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file of `--config`. Without it: the file that `PELAGO_CONFIG` names, else `pelago.toml` in `cwd` if there
    /// is one.
    pub file: Option<PathBuf>,
    /// The environment. As the system has it, because a variable of another program may not be UTF-8.
    pub env: Vec<(OsString, OsString)>,
    /// Flags that set a key. Those with the same key make a list.
    pub flags: Vec<Flag>,
    /// The directory that relative paths start from.
    pub cwd: PathBuf,
}

/// A command-line flag that sets a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The flag as the user writes it: `--port`.
    pub name: String,
    /// The key it sets: `server.port`.
    pub key: String,
    /// The text it was given.
    pub value: String,
}

impl Sources {
    /// The sources of this process: its environment and its working directory, with what its command line says.
    ///
    /// # Errors
    /// The working directory cannot be read, usually because it was removed.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> io::Result<Self> {
        let cwd = std::env::current_dir()?;
        Ok(Self { file, env: std::env::vars_os().collect(), flags, cwd })
    }
}

impl Config {
    /// Reads and checks all sources.
    ///
    /// # Errors
    /// [`Problems`] lists everything that is wrong, in all sources. Only a file that is not TOML is reported alone,
    /// since nobody can tell what its keys mean. A value that a later source replaces is not looked at.
    pub fn load(sources: Sources) -> Result<Self, Problems> {
        let mut report = Report::default();
        let settings = merge(&sources, &mut report)?;
        let mut config = report.root(settings, Self::read);
        report.into_result()?;
        config.store.dir = sources.cwd.join(&config.store.dir);
        Ok(config)
    }

    fn read(root: &mut Section<'_>) -> Self {
        let agents = sections::read_agents(root);
        let mesh = root.table("mesh", |section| MeshConfig::read(section, &agents));
        Self {
            server: root.table("server", ServerConfig::read),
            store: root.table("store", |section| StoreConfig::read(section, mesh.node_id.as_ref())),
            mesh,
            agents,
            tasks: root.table("tasks", TaskDefaults::read),
            signals: root.table("signals", SignalDefaults::read),
            logging: root.table("logging", LoggingConfig::read),
            telemetry: root.table("telemetry", TelemetryConfig::read),
            shutdown: root.table("shutdown", ShutdownConfig::read),
        }
    }
}

/// Lays the sources over each other. Fails at once only on a file that cannot be read or is not TOML.
fn merge(sources: &Sources, report: &mut Report) -> Result<Table, Problems> {
    let file = match read_file(sources)? {
        Some((path, text)) => file::parse(path.strip_prefix(&sources.cwd).unwrap_or(&path), &text, report)?,
        None => Table::new(),
    };
    let mut tree = Tree::new(file);
    tree.add_environment(&sources.env, report);
    tree.add_flags(&sources.flags);
    Ok(tree.into_table())
}

/// Finds the file and reads it. No file is fine unless one was named.
fn read_file(sources: &Sources) -> Result<Option<(PathBuf, String)>, Problems> {
    let (path, named_by) = find_file(sources);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if named_by.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problems::from(Problem::unreadable(&path, named_by, &error))),
    }
}

/// The path of the file and what named it.
fn find_file(sources: &Sources) -> (PathBuf, Option<Origin>) {
    if let Some(file) = &sources.file {
        return (sources.cwd.join(file), Some(Origin::flag("--config")));
    }
    // `PELAGO_CONFIG= pelago serve` is how a shell takes a variable away for one command.
    let named = sources.env.iter().find(|(name, file)| name == FILE_VARIABLE && !file.is_empty());
    match named {
        Some((_, file)) => (sources.cwd.join(file), Some(Origin::environment(FILE_VARIABLE))),
        None => (sources.cwd.join(FILE), None),
    }
}
