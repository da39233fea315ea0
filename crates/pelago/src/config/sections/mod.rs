//! One file a section: the typed settings, their meaning and defaults, and how they are read.

mod agents;
mod balancing;
mod logging;
mod mesh;
mod server;
mod shutdown;
mod signals;
mod store;
mod tasks;
mod telemetry;

pub use agents::AgentConfig;
pub use balancing::BalancingConfig;
pub use logging::{LogFormat, LogLevel, LoggingConfig};
pub use mesh::{JsonConfig, KnownNode, MeshConfig};
pub use server::ServerConfig;
pub use shutdown::ShutdownConfig;
pub use signals::SignalDefaults;
pub use store::StoreConfig;
pub use tasks::TaskDefaults;
pub use telemetry::TelemetryConfig;

pub(super) use agents::read_agents;
