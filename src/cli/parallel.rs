//! Requests of one command side by side, a bounded number at a time.

use std::num::NonZeroUsize;
use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Calls `work` for each item on at most `threads_max` threads, and gives what it returned in the
/// items' order.
pub fn map<T: Sync, R: Send>(threads_max: NonZeroUsize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<R>>> = Mutex::new(items.iter().map(|_| None).collect());
    let run = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            let result = work(item);
            done.lock().expect("no holder panics")[index] = Some(result);
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (1..threads_max.get().min(items.len())).map(|_| scope.spawn(run)).collect();
        run();
        for thread in threads {
            if let Err(panic) = thread.join() {
                panic::resume_unwind(panic);
            }
        }
    });
    let done = done.into_inner().expect("no holder panics");
    done.into_iter().map(|result| result.expect("every item was worked on")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_and_no_more_run_at_once_than_may() {
        let items: Vec<usize> = (0..200).collect();
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let doubled = map(NonZeroUsize::new(3).unwrap(), &items, |item| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            item * 2
        });
        assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(map(NonZeroUsize::new(3).unwrap(), &[0; 0], |item| *item), [0; 0]);
    }
}
