//! A progress bar on standard error, for a person who watches; without one only remarks.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{Output, say};

/// The bar's redraws a second.
const REDRAWS_PER_SECOND: u8 = 10;

const WITH_TOTAL: &str =
    "{msg} {bar:32} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}";
const WITHOUT_TOTAL: &str = "{msg} {spinner}  {binary_bytes}  {binary_bytes_per_sec}  {elapsed}";

/// How far a transfer is.
pub struct Progress {
    bar: ProgressBar,
    output: Output,
}

impl Progress {
    /// `total` bytes when they are known.
    pub fn new(output: Output, verb: &'static str, total: Option<u64>) -> Self {
        if !output.is_watched() {
            return Self { bar: ProgressBar::hidden(), output };
        }
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(None, target).with_style(style(WITHOUT_TOTAL)).with_message(verb);
        let progress = Self { bar, output };
        if let Some(total) = total {
            progress.set_total(total);
        }
        progress
    }

    /// Sets the position without counting it into the rate: bytes that are there from an earlier
    /// run.
    pub fn resume_at(&self, position: u64) {
        self.bar.set_position(position);
        self.bar.reset_eta();
    }

    /// From now on the end is known.
    pub fn set_total(&self, total: u64) {
        self.bar.set_length(total);
        self.bar.set_style(style(WITH_TOTAL));
    }

    pub fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Takes bytes back: they are sent again.
    pub fn take_back(&self, bytes: u64) {
        self.bar.dec(bytes);
    }

    /// A line above the bar, or for whoever reads standard error where there is none.
    pub fn remark(&self, text: &str) {
        // Asked before, because the bar is locked while it is suspended.
        if self.bar.is_hidden() {
            self.output.remark(text);
        } else {
            self.bar.suspend(|| say(text));
        }
    }

    /// Takes the bar off the screen; the line is free for a remark.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a fixed template").progress_chars("━╸ ")
}
