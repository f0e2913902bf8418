//! A progress bar on standard error, for a person who watches; nothing at all otherwise.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;

/// The bar's redraws a second.
const REDRAWS_PER_SECOND: u8 = 10;

/// How far a transfer is.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `total` bytes when they are known.
    pub fn new(output: Output, verb: &'static str, total: Option<u64>) -> Self {
        if !output.is_watched() {
            return Self { bar: ProgressBar::hidden() };
        }
        let template = if total.is_some() {
            "{msg} {bar:32} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}"
        } else {
            "{msg} {spinner}  {binary_bytes}  {binary_bytes_per_sec}  {elapsed}"
        };
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
        let style = ProgressStyle::with_template(template).expect("a fixed template").progress_chars("━╸ ");
        let bar = ProgressBar::with_draw_target(total, target).with_style(style).with_message(verb);
        Self { bar }
    }

    /// Sets the position without counting it into the rate: bytes that are there from an earlier run.
    pub fn resume_at(&self, position: u64) {
        self.bar.set_position(position);
        self.bar.reset_eta();
    }

    pub fn set_total(&self, total: u64) {
        self.bar.set_length(total);
    }

    pub fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// A line above the bar.
    pub fn remark(&self, text: &str) {
        // Asked before, because the bar is locked while it is suspended.
        if !self.bar.is_hidden() {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
