//! The thread that watches a run: it draws the line of progress, and reads the processes' CPU times
//! at both ends of the window.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::gauges::{Gauge, Gauges};
use super::plan::Extent;
use super::prepare::Preparation;
use super::server_cpu;
use super::worker::Load;
use crate::metrics::process::seconds_of;

/// How often the line is drawn.
const REDRAW: Duration = Duration::from_millis(500);
/// A wait without an end, as far as a run is concerned.
const FOREVER: Duration = Duration::from_secs(1 << 32);

/// The processes of the server.
pub struct ServerCpu {
    pids: Vec<u32>,
}

impl ServerCpu {
    pub fn new(pids: Vec<u32>) -> Self {
        Self { pids }
    }

    fn seconds(&self) -> Option<f64> {
        if self.pids.is_empty() { None } else { server_cpu::seconds_of_all(&self.pids) }
    }
}

/// What was used within the window.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Usage {
    pub window_s: f64,
    pub client_cpu_s: f64,
    /// `None` when the server is not beside us.
    pub server_cpu_s: Option<f64>,
    pub received: u64,
    pub sent: u64,
}

struct Sample {
    at: Duration,
    client: f64,
    server: Option<f64>,
}

pub struct Monitor<'l> {
    load: &'l Load,
    server: ServerCpu,
    bar: ProgressBar,
    /// Requests that had ended, and bytes that had moved, when the line was drawn last; and when
    /// that was.
    drawn: (u64, u64, Duration),
}

impl<'l> Monitor<'l> {
    pub fn new(load: &'l Load, server: ServerCpu, is_watched: bool) -> Self {
        Self { load, server, bar: line(is_watched), drawn: (0, 0, Duration::ZERO) }
    }

    /// Watches to the end of the run.
    pub fn watch(mut self) -> Usage {
        let gauges = &self.load.gauges;
        let from = self.load.plan.warm_up;
        let mut ended = self.watch_until(from);
        let first = self.sample();
        let to = match self.load.plan.extent {
            Extent::Duration(duration) => from + duration,
            Extent::Requests(_) => FOREVER,
        };
        if !ended {
            ended = self.watch_until(to);
        }
        let last = self.sample();
        let usage = Usage {
            window_s: last.at.saturating_sub(first.at).as_secs_f64(),
            client_cpu_s: last.client - first.client,
            server_cpu_s: first.server.zip(last.server).map(|(first, last)| last - first),
            received: gauges.sum(|gauge| &gauge.received_in_window),
            sent: gauges.sum(|gauge| &gauge.sent_in_window),
        };
        if !ended {
            // Requests that were sent in time may end late.
            self.watch_until(FOREVER);
        }
        self.bar.finish_and_clear();
        usage
    }

    fn sample(&self) -> Sample {
        Sample {
            at: self.load.gauges.epoch.elapsed(),
            client: seconds_of(std::process::id()).unwrap_or(0.0),
            server: self.server.seconds(),
        }
    }

    /// Draws until a time of the run, or the end; whether it is the end.
    fn watch_until(&mut self, until: Duration) -> bool {
        loop {
            let now = self.load.gauges.epoch.elapsed();
            let next = if self.bar.is_hidden() { until } else { until.min(now + REDRAW) };
            if self.load.gauges.wait_for_end(next) {
                return true;
            }
            if !self.bar.is_hidden() {
                self.draw();
            }
            if self.load.gauges.epoch.elapsed() >= until {
                return false;
            }
        }
    }

    fn draw(&mut self) {
        let gauges = &self.load.gauges;
        let now = gauges.epoch.elapsed();
        let (ended, moved) = (gauges.sum(|gauge| &gauge.ended), gauges.sum(|gauge| &gauge.moved));
        let failed = gauges.sum(|gauge: &Gauge| &gauge.failed);
        let seconds = now.saturating_sub(self.drawn.2).as_secs_f64().max(1e-3);
        let phase = if now < self.load.plan.warm_up { "warming up" } else { "measuring" };
        self.bar.set_message(format!(
            "{phase} {:.0} s  {:.0} requests/s  {:.3} GB/s  {failed} failed",
            now.as_secs_f64(),
            (ended - self.drawn.0) as f64 / seconds,
            (moved - self.drawn.1) as f64 / seconds / 1e9,
        ));
        self.bar.tick();
        self.drawn = (ended, moved, now);
    }
}

/// Draws how far the preparation is, until it ends.
pub fn watch_preparation(preparation: &Preparation) {
    let gauges: &Gauges = &preparation.gauges;
    let total = preparation.total();
    let bar = line(true);
    while !gauges.wait_for_end(gauges.epoch.elapsed() + REDRAW) {
        let moved = gauges.sum(|gauge| &gauge.moved);
        let rate = moved as f64 / gauges.epoch.elapsed().as_secs_f64().max(1e-3) / 1e9;
        let percent = if total == 0 { 100.0 } else { moved as f64 * 100.0 / total as f64 };
        bar.set_message(format!(
            "preparing {} objects  {percent:.0}%  {:.3} of {:.3} GB  {rate:.3} GB/s",
            preparation.plan.objects,
            moved as f64 / 1e9,
            total as f64 / 1e9,
        ));
        bar.tick();
    }
    bar.finish_and_clear();
}

fn line(is_watched: bool) -> ProgressBar {
    if !is_watched {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg}").expect("a fixed template");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}
