//! Cores that share a cache, in every interleaving (see [`crate::atomics`]).

use std::sync::atomic::AtomicUsize;

use loom::thread;

use super::*;
use crate::atomics::{block_on, explore};
use crate::mutant::by_test::plant;

const BYTES: usize = 100;
/// There is room for one entry of [`BYTES`].
const BUDGET_OF_ONE: usize = BYTES + ENTRY_OVERHEAD + 10;
const BUDGET_OF_MANY: usize = 10 * BUDGET_OF_ONE;

/// What the values of a cache really take. Of the standard library, so that it is no part of the
/// model: it shows what is, and not what a thread may see.
#[derive(Clone, Default)]
struct Truth {
    budget: usize,
    held: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
}

/// A part in memory.
struct Part {
    number: u32,
    truth: Truth,
    charge: Charge,
}

impl Part {
    fn new(number: u32, charge: Charge, truth: &Truth) -> Arc<Self> {
        let held = truth.held.fetch_add(charge.bytes(), Ordering::Relaxed) + charge.bytes();
        assert!(held <= truth.budget, "the budget is exceeded");
        Arc::new(Self { number, truth: truth.clone(), charge })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.truth.held.fetch_sub(self.charge.bytes(), Ordering::Relaxed);
    }
}

type Parts = Cache<Arc<Part>>;

fn key(number: u32) -> Key {
    Key { segment: SegmentId(1), offset_units: number, part: 0 }
}

/// What a core does that wants a part; `None` when readers hold the budget.
fn get(cache: &Parts, number: u32, truth: &Truth) -> Option<Arc<Part>> {
    match block_on(cache.lookup(key(number))) {
        Lookup::Found(part) => Some(part),
        Lookup::Lead(leader) => {
            truth.reads.fetch_add(1, Ordering::Relaxed);
            let part = Part::new(number, cache.reserve(BYTES)?, truth);
            leader.fill(part.clone(), BYTES);
            Some(part)
        }
    }
}

fn cache_of(budget: usize) -> (Parts, Truth) {
    (Parts::new(budget), Truth { budget, ..Truth::default() })
}

/// Nobody uses the cache any more: nothing is charged.
fn assert_all_comes_back(cache: Parts, truth: &Truth) {
    let shared = cache.0.clone();
    while cache.evict_one() {}
    assert_eq!(truth.held.load(Ordering::Relaxed), 0);
    assert_eq!(shared.charged.load(Ordering::Relaxed), 0, "a charge outlives its memory");
}

fn a_part_is_read_once() {
    explore(|| {
        let (cache, truth) = cache_of(BUDGET_OF_MANY);
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (cache, truth) = (cache.clone(), truth.clone());
                thread::spawn(move || get(&cache, 7, &truth).expect("there is room").number)
            })
            .collect();
        assert_eq!(get(&cache, 7, &truth).expect("there is room").number, 7);
        for other in others {
            assert_eq!(other.join().unwrap(), 7);
        }
        assert_eq!(truth.reads.load(Ordering::Relaxed), 1, "a part was read twice");
        assert_all_comes_back(cache, &truth);
    });
}

#[test]
fn cores_that_miss_the_same_part_read_it_once_and_all_get_it() {
    a_part_is_read_once();
}

#[test]
#[should_panic(expected = "a part was read twice")]
fn a_read_that_ends_before_its_entry_is_there_is_found_out() {
    plant(Mutant::RaceLandEarly);
    a_part_is_read_once();
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_waiter_that_is_woken_before_the_outcome_is_there_is_found_waiting() {
    plant(Mutant::RaceWakeEarly);
    a_part_is_read_once();
}

#[test]
fn when_a_core_gives_up_reading_another_one_reads() {
    explore(|| {
        let (cache, truth) = cache_of(BUDGET_OF_ONE);
        let Lookup::Lead(leader) = block_on(cache.lookup(key(7))) else { panic!("the first leads") };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (cache, truth) = (cache.clone(), truth.clone());
                thread::spawn(move || get(&cache, 7, &truth).expect("there is room").number)
            })
            .collect();
        drop(leader);
        for other in others {
            assert_eq!(other.join().unwrap(), 7);
        }
        assert_eq!(truth.reads.load(Ordering::Relaxed), 1);
        assert_all_comes_back(cache, &truth);
    });
}

fn the_budget_holds() {
    explore(|| {
        let (cache, truth) = cache_of(BUDGET_OF_ONE);
        let readers: Vec<_> = (1..=2)
            .map(|number| {
                let (cache, truth) = (cache.clone(), truth.clone());
                thread::spawn(move || {
                    if let Some(part) = get(&cache, number, &truth) {
                        assert_eq!(part.number, number, "another part");
                    }
                })
            })
            .collect();
        let (charged, budget) = cache.charged_and_budget();
        assert!(charged <= budget, "the budget is exceeded");
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_all_comes_back(cache, &truth);
    });
}

#[test]
fn the_budget_holds_whoever_reserves_at_once_and_all_of_it_comes_back() {
    the_budget_holds();
}

#[test]
#[should_panic(expected = "the budget is exceeded")]
fn two_reservations_of_the_same_room_are_found_out() {
    plant(Mutant::RaceReserveTwice);
    the_budget_holds();
}

#[test]
fn charges_that_are_made_and_end_at_once_all_count() {
    explore(|| {
        let (cache, truth) = cache_of(BUDGET_OF_MANY);
        let cores = [1, 2].map(|number| {
            let (cache, truth) = (cache.clone(), truth.clone());
            thread::spawn(move || drop(Part::new(number, cache.reserve(BYTES).expect("there is room"), &truth)))
        });
        cores.into_iter().for_each(|core| core.join().unwrap());
        assert_all_comes_back(cache, &truth);
    });
}

#[test]
fn a_part_that_is_evicted_while_it_is_read_stays_valid_and_charged() {
    explore(|| {
        let (cache, truth) = cache_of(BUDGET_OF_ONE);
        get(&cache, 1, &truth).expect("there is room");
        let evicting = thread::spawn({
            let (cache, truth) = (cache.clone(), truth.clone());
            move || get(&cache, 2, &truth).is_some()
        });
        if let Some(part) = cache.peek(&key(1)) {
            // The other core may evict it here, and has no room as long as it is held.
            thread::yield_now();
            let (charged, _) = cache.charged_and_budget();
            assert_eq!(charged, part.charge.bytes(), "its memory is given away, or charged twice");
            assert_eq!((part.number, truth.held.load(Ordering::Relaxed)), (1, charged));
        }
        let _ = evicting.join().unwrap();
        assert_all_comes_back(cache, &truth);
    });
}
