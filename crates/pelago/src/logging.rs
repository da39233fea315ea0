//! The log: on stderr, so that stdout is data only.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogLevel, LoggingConfig};

/// The variable that overrides the level, per module if need be: `PELAGO_LOG=info,pelago_node=debug`.
const FILTER: &str = "PELAGO_LOG";

/// openraft tells at level info and warn what we tell in our own words, and as errors that its core has ended: to
/// requests that came too late (whoever asked gets an error, and tells it if it is one), and to its own loops that end
/// after the core, at every stop. When the core fails it says so itself.
const OPENRAFT: &str = "openraft=error,openraft::raft::raft_inner=off,openraft::core::heartbeat=off,\
                        openraft::core::sm::handle=off,openraft::storage::callback=off";

/// What sends traces tells at level info how it goes; that spans were lost, it tells at warn and error.
const TRACES: &str = "opentelemetry=warn,opentelemetry_sdk=warn,opentelemetry-otlp=warn";

/// Starts logging as configured. The first call in a process counts.
pub(crate) fn start(config: &LoggingConfig) {
    let quiet = format!("{},{OPENRAFT},{TRACES}", level(config.level));
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(quiet));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    // A program that embeds us has its own log already.
    let _its_own = started;
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quiet_can_be_read_by_the_filter() {
        let filter: EnvFilter = format!("info,{OPENRAFT},{TRACES}").parse().expect("it is a filter");
        assert_eq!(filter.to_string().split(',').count(), 9);
    }
}
