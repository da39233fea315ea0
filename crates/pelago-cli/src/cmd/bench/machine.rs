//! What was measured with, and on.

use std::{env, fs};

use serde::Serialize;

/// The program, and the machine.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    version: &'static str,
    /// The commit the program was built from.
    commit: &'static str,
    build: &'static str,
    /// How it was called.
    command: String,
    /// The model, as the system names it.
    processor: String,
    cores: usize,
    /// All there is, in MiB. Nothing if the system does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_mib: Option<u64>,
    kernel: String,
}

impl Machine {
    pub(super) fn here() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("PELAGO_COMMIT").unwrap_or("unknown"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            command: ["pelago".to_owned()].into_iter().chain(env::args().skip(1)).collect::<Vec<_>>().join(" "),
            processor: of_proc("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: of_proc("/proc/meminfo", "MemTotal").as_deref().and_then(mib),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }

    pub(super) fn lines(&self) -> [(&'static str, String); 2] {
        let memory = self.memory_mib.map_or_else(String::new, |mib| format!(", {mib} MiB"));
        [
            ("build", format!("{} {} ({})", self.version, self.build, self.commit)),
            ("machine", format!("{} cores of {}{memory}, {}", self.cores, self.processor, self.kernel)),
        ]
    }
}

/// What a file of Linux says under a name. Other systems have none.
fn of_proc(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn mib(kib: &str) -> Option<u64> {
    Some(kib.strip_suffix(" kB")?.trim().parse::<u64>().ok()? >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_linux_writes_it() {
        assert_eq!(mib("24600000 kB"), Some(24_023));
        assert_eq!(mib("a lot"), None);
    }
}
