use std::pin::{Pin, pin};
use std::task::Context;

use super::*;

type Value = Arc<(u32, Charge)>;

fn key(number: u32) -> Key {
    Key { segment: SegmentId(number / 100), offset_units: number % 100, part: 0 }
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Looks a key up; who is to lead enters `number`.
fn get(cache: &Cache<Value>, number: u32, bytes: usize) -> Option<Value> {
    match poll_once(pin!(cache.lookup(key(number)))) {
        Poll::Ready(Lookup::Found(value)) => Some(value),
        Poll::Ready(Lookup::Lead(leader)) => {
            let charge = cache.reserve(bytes)?;
            let value = Arc::new((number, charge));
            leader.fill(value.clone(), bytes);
            Some(value)
        }
        Poll::Pending => panic!("nobody reads"),
    }
}

#[test]
fn everybody_who_asks_during_a_read_gets_what_it_brings() {
    let cache: Cache<Value> = Cache::new(1 << 20);
    let Poll::Ready(Lookup::Lead(leader)) = poll_once(pin!(cache.lookup(key(1)))) else { panic!("the first leads") };
    let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(cache.lookup(key(1)))).collect();
    assert!(waiting.iter_mut().all(|lookup| poll_once(lookup.as_mut()).is_pending()));
    let value = Arc::new((1, cache.reserve(10).unwrap()));
    leader.fill(value.clone(), 10);
    for mut lookup in waiting {
        let Poll::Ready(Lookup::Found(found)) = poll_once(lookup.as_mut()) else { panic!("it is there") };
        assert!(Arc::ptr_eq(&found, &value));
    }
    let status = cache.status();
    assert_eq!((status.misses, status.waits, status.hits), (1, 10, 0));
}

#[test]
fn when_a_reader_fails_the_next_one_reads() {
    let cache: Cache<Value> = Cache::new(1 << 20);
    let Poll::Ready(Lookup::Lead(leader)) = poll_once(pin!(cache.lookup(key(1)))) else { panic!("the first leads") };
    let mut second = Box::pin(cache.lookup(key(1)));
    let mut third = Box::pin(cache.lookup(key(1)));
    assert!(poll_once(second.as_mut()).is_pending() && poll_once(third.as_mut()).is_pending());
    drop(leader);
    let Poll::Ready(Lookup::Lead(leader)) = poll_once(second.as_mut()) else { panic!("the second leads") };
    assert!(poll_once(third.as_mut()).is_pending());
    leader.fill(Arc::new((1, cache.reserve(10).unwrap())), 10);
    assert!(matches!(poll_once(third.as_mut()), Poll::Ready(Lookup::Found(_))));
}

#[test]
fn the_budget_holds_whatever_is_asked_for() {
    let cache: Cache<Value> = Cache::new(100_000);
    for round in 0..10 {
        for number in 0..500 {
            assert_eq!(
                get(&cache, number, 100 + (number as usize + round) % 3000).expect("nobody holds memory").0,
                number
            );
            assert!(cache.status().charged_bytes <= 100_000);
        }
    }
    let status = cache.status();
    assert!(status.evictions > 0 && status.bypasses == 0, "{status:?}");
}

#[test]
fn memory_that_is_still_read_counts_after_its_eviction() {
    let cache: Cache<Value> = Cache::new(100_000);
    let held: Vec<Value> = (0..1000).map_while(|number| get(&cache, number, 1000)).collect();
    assert!(held.len() < 100, "{} fit", held.len());
    assert_eq!(cache.status().bypasses, 1);
    assert!(cache.reserve(1000).is_none(), "readers hold it all");
    drop(held);
    assert!(cache.reserve(1000).is_some());
}

#[test]
fn an_entry_larger_than_the_budget_evicts_nothing() {
    let cache: Cache<Value> = Cache::new(10_000);
    get(&cache, 1, 1000).unwrap();
    assert!(cache.reserve(10_001).is_none());
    assert!(cache.peek(&key(1)).is_some());
}

#[test]
fn threads_that_ask_for_the_same_keys_read_each_once() {
    let cache: Cache<Value> = Cache::new(64 << 20);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..2000 {
                    loop {
                        // A thread that must wait comes again: what it tests is who leads.
                        let lookup = poll_once(pin!(cache.lookup(key(number))));
                        match lookup {
                            Poll::Ready(Lookup::Found(value)) => {
                                assert_eq!(value.0, number);
                                break;
                            }
                            Poll::Ready(Lookup::Lead(leader)) => {
                                leader.fill(Arc::new((number, cache.reserve(100).unwrap())), 100);
                            }
                            Poll::Pending => std::thread::yield_now(),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(cache.status().misses, 2000);
}

#[test]
fn nothing_is_evicted_while_the_budget_has_room() {
    const LARGE: usize = 2 << 20;
    let entries = 64;
    let cache: Cache<Value> = Cache::new(entries * (LARGE + ENTRY_OVERHEAD));
    for number in 0..entries as u32 {
        get(&cache, number, LARGE).expect("nobody holds memory");
    }
    let status = cache.status();
    assert_eq!((status.evictions, status.entries), (0, entries as u64));
    assert!((0..entries as u32).all(|number| cache.peek(&key(number)).is_some()));
}

#[test]
fn a_large_entry_among_thousands_of_small_ones_finds_its_room_in_turns() {
    let cache: Cache<Value> = Cache::new(4 << 20);
    for number in 0..8000 {
        get(&cache, number, 300).expect("nobody holds memory");
    }
    let mut turns = 0;
    let charge = loop {
        let before = cache.status().evictions;
        let reserved = cache.try_reserve(2 << 20);
        turns += 1;
        assert!(cache.status().evictions - before <= EVICTIONS_MAX as u64);
        match reserved {
            Reserved::Charged(charge) => break charge,
            Reserved::NotYet => {}
            Reserved::Full => panic!("nobody holds memory"),
        }
    };
    assert!(charge.bytes() >= 2 << 20);
    assert!(turns > 10, "{turns} turns");
}
