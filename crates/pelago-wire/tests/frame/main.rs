//! Frames of a link: released bytes stay as they are, and damaged ones are refused or waited for.

mod damage;
mod golden;
mod samples;
