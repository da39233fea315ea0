//! Frames of a link: released bytes stay as they are, and damaged ones are refused or waited for.

mod damage;
#[path = "../../../../fuzz/bodies/frame.rs"]
mod frame_body;
mod golden;
#[path = "../../../../fuzz/bodies/handshake.rs"]
mod handshake_body;
#[path = "../../../../fuzz/bodies/mend.rs"]
mod mend;
#[path = "../../../../fuzz/bodies/replay.rs"]
mod replay;
mod samples;
