//! How far the reading is: a bar where somebody watches, else a line now and then.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// How often a line is written where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Progress {
    /// Hidden where stderr is no terminal.
    bar: ProgressBar,
    output: Output,
    line_at: Instant,
}

impl Progress {
    pub(super) fn new(files: u64, output: Output) -> Self {
        let style = ProgressStyle::with_template("{bar:40} {pos} of {len} files read, {elapsed}");
        let style = style.expect("the template names what there is");
        Self { bar: ProgressBar::new(files).with_style(style), output, line_at: Instant::now() }
    }

    /// Tells how many files were read.
    pub(super) fn at(&mut self, read: u64) {
        self.bar.set_position(read);
        if self.bar.is_hidden() && self.line_at.elapsed() >= LINE_EVERY {
            self.line_at = Instant::now();
            self.output.note(&format!("{read} of {} files read", self.bar.length().unwrap_or(0)));
        }
    }

    /// Tells something that happened.
    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| self.output.note(line));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
