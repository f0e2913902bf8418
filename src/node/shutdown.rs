//! How a server stops: the signals, and the steps that all cores take together.
//!
//! The first SIGTERM or SIGINT asks every core to stop; a second one ends the process at once,
//! which the store survives as it survives a crash. SIGHUP has files read again, on the thread that
//! waits for signals. A write over the limit on the size of files is a failed write, not the end:
//! its signal is caught too.

use std::future::poll_fn;
use std::io;
use std::sync::Mutex;
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

/// The thread that waits for signals.
pub struct SignalThread {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl SignalThread {
    /// Calls `stop` on the first signal to end, and `reload` on each SIGHUP.
    pub fn start(stop: impl Fn() + Send + 'static, reload: impl Fn() + Send + 'static) -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGXFSZ])?;
        let handle = signals.handle();
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let (mut stopping, mut limited) = (false, false);
            for signal in signals.forever() {
                if signal == SIGHUP {
                    if !stopping {
                        reload();
                    }
                    continue;
                }
                if signal == SIGXFSZ {
                    // The write that met the limit reports it to whoever waits for it. Said once:
                    // every further write meets it.
                    if !std::mem::replace(&mut limited, true) {
                        tracing::error!("the limit on the size of files is below that of a segment: raise it (ulimit -f, LimitFSIZE=)");
                    }
                    continue;
                }
                if stopping {
                    tracing::warn!("second signal: ending at once");
                    // The status that a shell reports for a process that this signal ended.
                    std::process::exit(128 + signal);
                }
                stopping = true;
                tracing::info!("shutting down; a second signal ends at once");
                stop();
            }
        })?;
        Ok(Self { handle, thread })
    }

    pub fn end(self) {
        self.handle.close();
        if self.thread.join().is_err() {
            tracing::error!("the signal thread panicked");
        }
    }
}

/// How far the cores have come. Every core reports one of `opened` and `abandoned`, and later
/// `drained`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Steps {
    /// Cores whose shard is open.
    pub opened: u16,
    /// Cores that stop without an open shard.
    pub abandoned: u16,
    /// Cores whose last connection has ended.
    pub drained: u16,
    /// Whether the control plane runs; `None` before that is known.
    pub clustered: Option<bool>,
}

/// Where the cores wait for one another.
#[derive(Default)]
pub struct Gate(Mutex<GateState>);

#[derive(Default)]
struct GateState {
    steps: Steps,
    waiting: Vec<Waker>,
}

impl Gate {
    /// Takes a step and wakes who waits; returns the steps taken so far.
    pub fn step(&self, step: impl FnOnce(&mut Steps)) -> Steps {
        let mut state = self.0.lock().expect("no holder of this lock panics");
        step(&mut state.steps);
        let (steps, waiting) = (state.steps, std::mem::take(&mut state.waiting));
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        steps
    }

    /// Waits until `reached` holds.
    pub async fn wait(&self, reached: impl Fn(&Steps) -> bool) -> Steps {
        poll_fn(|context| {
            let mut state = self.0.lock().expect("no holder of this lock panics");
            if reached(&state.steps) {
                return Poll::Ready(state.steps);
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_step_wakes_who_waits_for_it() {
        let gate = Gate::default();
        let wakes = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(wakes.clone());
        let mut context = Context::from_waker(&waker);
        let mut wait = pin!(gate.wait(|steps| steps.drained == 2));
        assert!(wait.as_mut().poll(&mut context).is_pending());
        gate.step(|steps| steps.drained += 1);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(wait.as_mut().poll(&mut context).is_pending());
        gate.step(|steps| steps.drained += 1);
        assert!(wait.as_mut().poll(&mut context).is_ready());
    }
}
