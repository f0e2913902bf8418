//! The register of an id under every order of events that three seats allow: requests come late,
//! doubled or never, operations end in doubt at any point, tombstones are collected. The code is
//! that of the product; the world around it is a state, and its steps are tried one after the other
//! (small worlds: all of them) or at random (large ones).

mod history;
mod world;

use std::collections::HashSet;
use std::rc::Rc;

use world::{Kind, Scenario, Step, World};

/// A way back to the beginning, to be told when something is wrong.
struct Path(Option<(Rc<Path>, Step)>);

impl Path {
    fn tell(&self) -> String {
        let mut steps = Vec::new();
        let mut path = self;
        while let Some((before, step)) = &path.0 {
            steps.push(step.to_string());
            path = before;
        }
        steps.reverse();
        steps.join("\n")
    }
}

/// Tries every step after every other until there is nothing new, or so many states were seen; how
/// many there are if that was all.
fn explore(scenario: &Scenario, states_max: usize) -> Option<usize> {
    let (first, mut events) = (World::new(scenario), world::Events::default());
    let mut seen = HashSet::from([first.clone()]);
    let mut todo = vec![(first, Rc::new(Path(None)))];
    while !todo.is_empty() {
        let mut next = Vec::new();
        for (world, path) in todo {
            for step in world.steps(scenario) {
                let mut after = world.clone();
                if let Err(problem) = after.take(scenario, step, &mut events) {
                    panic!("{}: {problem}\n{}", scenario.name, Path(Some((path, step))).tell());
                }
                if seen.insert(after.clone()) {
                    next.push((after, Rc::new(Path(Some((path.clone(), step))))));
                }
            }
            if seen.len() > states_max {
                return None;
            }
        }
        todo = next;
    }
    Some(seen.len())
}

/// Takes steps at random until there is none, from each of these seeds; what was met.
///
/// Each seed has likings of its own (swarm testing): it hurries some kinds of steps, some seats and
/// some operations, and puts others off, so that one is long over when another begins.
fn walk(scenario: &Scenario, seeds: std::ops::Range<u64>) -> world::Events {
    let mut events = world::Events::default();
    for seed in seeds {
        let mut random = history::Random::new(seed);
        let likings: Vec<u64> = (0..LIKINGS).map(|_| LIKING_LEVELS[random.below(LIKING_LEVELS.len())]).collect();
        let (mut world, mut path) = (World::new(scenario), Vec::new());
        for _ in 0..STEPS_MAX {
            let steps = world.steps(scenario);
            let weights: Vec<u64> = steps.iter().map(|step| weight(*step, &likings)).collect();
            let total: u64 = weights.iter().sum();
            if total == 0 {
                break;
            }
            let mut drawn = random.below(total as usize) as u64;
            let chosen = weights.iter().position(|weight| {
                let is_it = drawn < *weight;
                drawn = drawn.wrapping_sub(*weight);
                is_it
            });
            let step = steps[chosen.expect("one of them is drawn")];
            path.push(step.to_string());
            if let Err(problem) = world.take(scenario, step, &mut events) {
                panic!("{}, seed {seed}: {problem}\n{}", scenario.name, path.join("\n"));
            }
        }
    }
    events
}

/// How many likings a seed has: for kinds of steps, and for who meets whom.
const LIKINGS: usize = 64;
const LIKING_LEVELS: [u64; 4] = [1, 4, 20, 100];

/// How much a seed with these likings wants a step.
fn weight(step: Step, likings: &[u64]) -> u64 {
    let (kind, pair) = step.traits();
    likings[kind] * likings[world::KINDS + pair % (LIKINGS - world::KINDS)]
}

/// The most states of a small world.
const STATES_MAX: usize = 250_000;
/// Late requests may come for ever.
const STEPS_MAX: usize = 120;

fn scenarios() -> Vec<Scenario> {
    use Kind::{Delete, Put};
    let of = |name, operations: &[Kind]| Scenario::new(name, operations);
    vec![
        of("two uploads and a delete", &[Put, Put, Delete]),
        of("a delete between uploads", &[Put, Delete, Put]).after(2, &[1]),
        of("two uploads and two deletes", &[Put, Put, Delete, Delete]),
        of("in doubt", &[Put, Put, Delete, Delete]).ends(),
        of("in doubt, then a delete, then an upload", &[Put, Delete, Put, Delete]).ends().after(1, &[0]).after(2, &[1]),
        of("asking first", &[Put, Put, Delete, Delete]).ends().asking().after(1, &[2]),
        of("an upload in doubt between deletes", &[Put, Put, Delete, Delete])
            .end(&[1, 2])
            .asking()
            .after(1, &[2])
            .after(2, &[0])
            .after(3, &[1]),
        of("one of three is offline", &[Put, Put, Delete]).offline(2),
        of("collected while uploads are late", &[Put, Delete, Delete]).ends().collecting(),
        of("an upload and a delete", &[Put, Delete]),
        of("collected under a higher promise", &[Put, Delete, Delete, Put])
            .end(&[2])
            .asking()
            .collecting()
            .after(1, &[0])
            .after(2, &[1])
            .after(3, &[2]),
        of("collected, then stored again", &[Put, Delete, Put]).collecting().after(2, &[1]),
    ]
}

#[test]
fn small_worlds_hold_nothing_that_is_not_linearizable() {
    use Kind::{Delete, Put};
    let of = Scenario::new;
    let worlds = [
        of("one seat, an upload between deletes", &[Put, Delete, Put]).seats(1).ends().collecting(),
        of("two seats, an upload and a delete", &[Put, Delete]).seats(2),
        of("three seats, two uploads", &[Put, Put]),
        of("three seats, of which one is offline", &[Put, Delete]).offline(2),
    ];
    for scenario in worlds {
        let scenario = scenario.small();
        assert!(explore(&scenario, STATES_MAX).is_some(), "{} is not small", scenario.name);
    }
}

#[test]
fn random_orders_are_linearizable_and_meet_what_they_are_there_for() {
    let mut events = world::Events::default();
    for scenario in scenarios() {
        events.add(&walk(&scenario, 0..seeds()));
    }
    assert_eq!(events.never_met(), Vec::<&str>::new(), "{events:?}");
}

/// `NABU_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("NABU_SEEDS").map_or(2_000, |text| text.parse().expect("NABU_SEEDS is a number"))
}

/// Courses of events that random orders seldom meet, by hand.
mod forced {
    use nabu_cluster::node::NodeNumber;
    use nabu_cluster::register::cell::Offered;
    use nabu_cluster::register::delete::DeleteAsk;
    use nabu_cluster::register::put::PutAsk;
    use nabu_cluster::register::{Cell, Delete, Electorate, Mark, Put, Standing, Version};

    const NONE: Version = Version::ABSENT;

    fn mark() -> Mark {
        Mark { policy: 3, node: NodeNumber(1), upload: 1 }
    }

    fn electorate() -> Electorate {
        Electorate::new(&[1, 2, 3].map(NodeNumber), None, |_| false)
    }

    #[test]
    fn an_upload_that_a_seat_got_twice_tries_no_other_version() {
        let (electorate, mut put, mut cell) = (electorate(), Put::guessing(mark(), NONE), Cell::default());
        let Some(PutAsk::Offer(record)) = put.ask(&electorate, 0) else { panic!("it has a version") };
        (0..3).for_each(|seat| put.sent(&electorate, seat));
        // Taken, and the answer is lost. A reader may see it now, and a delete bury it.
        assert_eq!(cell.offer(NONE, record), Offered::Held);
        cell.bury(Version(3));
        put.sent(&electorate, 0);
        for seat in 0..3 {
            assert_eq!(cell.offer(NONE, record), Offered::Refused);
            put.offered(&electorate, seat, record.version, Offered::Refused);
        }
        assert_eq!(put.ask(&electorate, 0), None, "it would act again after the delete");
        assert!(put.is_in_doubt(&electorate));
    }

    #[test]
    fn an_upload_that_every_seat_has_refused_asks_for_another_version() {
        let (electorate, mut put) = (electorate(), Put::guessing(mark(), NONE));
        (0..3).for_each(|seat| put.sent(&electorate, seat));
        for seat in 0..3 {
            assert_ne!(put.ask(&electorate, seat), Some(PutAsk::Version));
            put.offered(&electorate, seat, Version::FIRST, Offered::Refused);
        }
        assert_eq!(put.ask(&electorate, 0), Some(PutAsk::Version));
    }

    #[test]
    fn a_collected_tombstone_leaves_the_higher_promise_of_a_delete_that_was_given_up() {
        let mut cell = Cell::default();
        let mut floor = NONE;
        cell.bury(Version(3));
        assert_eq!(cell.promise(Version(3), Version(5)).tombstone, Version(5));
        cell.collect(&mut floor, Version(3));
        assert_eq!((floor, cell.standing), (Version(3), Standing::default()));
        assert_eq!(cell.upload_version(floor), Version(6), "another seat may hold that tombstone");
        assert_eq!(cell.offer(floor, Standing::blob(Version(4), mark())), Offered::Refused);
        assert_eq!(cell.normal(Version(5)).promised, NONE, "the floor says as much");
    }

    #[test]
    fn a_delete_waits_for_the_promise_of_every_seat_that_is_there() {
        let (electorate, mut delete, mut cells) = (electorate(), Delete::default(), [Cell::default(); 3]);
        cells[2].offer(NONE, Standing::blob(Version::FIRST, mark()));
        for (seat, cell) in cells.iter_mut().enumerate() {
            let Some(DeleteAsk::Promise(tombstone)) = delete.ask(seat) else { panic!("no promise of {seat}") };
            delete.promised(&electorate, seat, cell.promise(NONE, tombstone));
        }
        assert_eq!(delete.outcome(), None);
        assert_eq!(delete.ask(0), Some(DeleteAsk::Promise(Version(3))), "it has learned of the blob");
    }
}
