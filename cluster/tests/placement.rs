//! The laws of the ring, on fresh tables and after histories of joins and leaves.
//!
//! A test that draws prints its seed with what it found. The loads of zoned and of tightly filled
//! rings are held to the shares of `placement/share.rs` in `placement/tests.rs`; here are the laws
//! that need no knowledge of it.

use std::collections::{BTreeMap, BTreeSet};

use nabu_cluster::node::NodeNumber;
use nabu_cluster::placement::{ARCS, ArcId, Candidate, DecodeError, Placement, RING_BYTES_MAX, Ring, SEATS_MAX, Seats};
use proptest::prelude::*;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % bound
    }
}

fn candidate(number: u64, weight: u32, zone: u64) -> Candidate {
    Candidate { number: NodeNumber(number), weight, zone: format!("zone {zone}") }
}

fn synced(ring: &Ring) -> Ring {
    // Nothing is left of what it moves from.
    ring.without_lost(|_| false)
}

/// A ring of these candidates that was made at once.
fn fresh(candidates: &[Candidate]) -> Ring {
    // The first node is none of them, so nothing of its table is kept.
    synced(&Ring::new(NodeNumber(u64::MAX)).with_change(candidates).unwrap())
}

/// Every arc has as many seats as there can be, and at every length of the list the zones have
/// equally many, but for those whose nodes have all a seat.
fn assert_lawful(ring: &Ring, candidates: &[Candidate]) {
    let mut names: Vec<&str> = candidates.iter().map(|candidate| candidate.zone.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let zone_of = |name: &str| names.binary_search(&name).unwrap();
    let mut sizes = vec![0; names.len()];
    candidates.iter().for_each(|candidate| sizes[zone_of(&candidate.zone)] += 1);
    let mut zones: Vec<(NodeNumber, usize)> =
        candidates.iter().map(|candidate| (candidate.number, zone_of(&candidate.zone))).collect();
    zones.sort_unstable();
    for arc in ArcId::all() {
        let nodes = ring.seats(arc).nodes();
        assert_eq!(nodes.len(), candidates.len().min(SEATS_MAX), "arc {arc}");
        assert!(nodes.iter().enumerate().all(|(seat, node)| !nodes[..seat].contains(node)), "arc {arc}: {nodes:?}");
        let mut counts = vec![0; names.len()];
        for node in nodes {
            let found = zones.binary_search_by_key(node, |&(number, _)| number);
            counts[zones[found.expect("only candidates have seats")].1] += 1;
            let open = counts.iter().zip(&sizes).filter(|(count, size)| count < size).map(|(count, _)| count);
            let least = open.min().unwrap_or(&usize::MAX);
            assert!(counts.iter().all(|count| *count <= least.saturating_add(1)), "arc {arc}: {counts:?}");
        }
    }
}

/// Every node has its part of capacity of every rank, within a tenth, in as many ranks as capacity
/// can be followed in: until some node would have to have an arc twice.
fn assert_balanced(ring: &Ring, candidates: &[Candidate]) {
    let capacity: u64 = candidates.iter().map(|candidate| u64::from(candidate.weight)).sum();
    let heaviest = candidates.iter().map(|candidate| u64::from(candidate.weight)).max().unwrap();
    let is_even = candidates.iter().all(|candidate| u64::from(candidate.weight) == heaviest);
    // Where the heaviest node has nearly every arc, there is hardly a choice left for the others.
    let followed = if is_even { SEATS_MAX } else { (capacity * 10 / (heaviest * 11)) as usize };
    for rank in 0..followed.min(candidates.len()).min(SEATS_MAX) {
        let mut loads = BTreeMap::new();
        ArcId::all().for_each(|arc| *loads.entry(ring.seats(arc).nodes()[rank]).or_default() += capacity);
        for candidate in candidates {
            let load: u64 = loads.get(&candidate.number).copied().unwrap_or_default();
            let share = ARCS as u64 * u64::from(candidate.weight);
            let nodes = candidates.len();
            assert!(
                load.abs_diff(share) * 10 <= share,
                "rank {rank} of {nodes} nodes: {load} for {share}, by {candidate:?}"
            );
        }
    }
}

/// The arcs in which a node has a seat.
fn load(ring: &Ring, node: u64) -> usize {
    ring.vnodes_of(NodeNumber(node))
}

/// At most 15 % more than a share, with room for the rounding of shares.
fn assert_moves_its_share(gained: usize, share: usize, what: &str) {
    assert!(gained * 100 <= share * 115 + 100, "{what}: {gained} seats moved for {share}");
}

#[test]
fn a_cluster_that_grows_by_one_node_at_a_time_stays_balanced_and_moves_the_share_of_each() {
    for weight_max in [1, 4] {
        let mut candidates = vec![candidate(0, 1, 0)];
        let mut ring = Ring::new(NodeNumber(0));
        for number in 1..100 {
            candidates.push(candidate(number, 1 + (number % weight_max) as u32, 0));
            let next = ring.with_change(&candidates).unwrap();
            if candidates.len() >= 3 {
                assert_balanced(&next, &candidates);
            }
            let gained = next.movement_since(&ring).gained;
            assert_moves_its_share(gained, load(&next, number), &format!("{} nodes", candidates.len()));
            ring = synced(&next);
        }
        assert_lawful(&ring, &candidates);
    }
}

#[test]
fn a_cluster_that_is_planned_at_once_is_balanced() {
    for nodes in [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16, 23, 50, 100] {
        for weight_max in [1, 4] {
            let of = |number| candidate(number, 1 + (number % weight_max) as u32, 0);
            let candidates: Vec<Candidate> = (0..nodes).map(of).collect();
            let ring = fresh(&candidates);
            assert_lawful(&ring, &candidates);
            assert_balanced(&ring, &candidates);
        }
    }
}

#[test]
fn equal_zones_share_equally() {
    for (zones, nodes) in [(2, 10), (3, 12), (3, 30), (5, 20), (5, 50), (10, 30), (20, 40)] {
        let candidates: Vec<Candidate> = (0..nodes).map(|number| candidate(number, 1, number % zones)).collect();
        let ring = fresh(&candidates);
        assert_lawful(&ring, &candidates);
        let mut had = vec![0; nodes as usize];
        for rank in 0..SEATS_MAX {
            ArcId::all().for_each(|arc| had[ring.seats(arc).nodes()[rank].0 as usize] += 1);
            let share = ARCS as u64 * (rank as u64 + 1) / nodes;
            let worst = had.iter().map(|&had: &u64| had.abs_diff(share)).max().unwrap();
            assert!(worst * 10 <= share, "{zones} zones of {nodes} nodes, {} seats: {worst} off {share}", rank + 1);
        }
    }
}

#[test]
fn a_new_zone_gets_a_seat_of_every_arc() {
    let mut candidates: Vec<Candidate> = (0..12).map(|number| candidate(number, 1, number % 2)).collect();
    let two = fresh(&candidates);
    candidates.push(candidate(12, 1, 2));
    let three = two.with_change(&candidates).unwrap();
    assert_lawful(&three, &candidates);
    assert_eq!(load(&three, 12), ARCS);
    assert!(ArcId::all().all(|arc| three.seats(arc).nodes()[..3].contains(&NodeNumber(12))));
    assert_moves_its_share(three.movement_since(&two).gained, ARCS, "a new zone");
}

#[test]
fn a_table_depends_on_the_candidates_and_not_on_their_order() {
    let mut candidates: Vec<Candidate> =
        (0..15).map(|number| candidate(number * 7 % 15, 1 + (number % 3) as u32, number % 4)).collect();
    let ring = fresh(&candidates[..13]);
    let next = ring.with_change(&candidates).unwrap();
    for _ in 0..5 {
        candidates.rotate_left(4);
        candidates.swap(0, 9);
        assert!(ring.with_change(&candidates).unwrap() == next);
    }
    assert_eq!(synced(&next).with_change(&candidates).unwrap().movement_since(&next).reseated, 0);
}

struct History {
    seed: u64,
    zones: u64,
    weight_max: u64,
    nodes_max: u64,
    steps: u64,
}

impl History {
    /// Joins and leaves at random. Every step hands `check` the nodes before and after it, the
    /// rings, and who came or went.
    fn run(&self, mut check: impl FnMut(Change<'_>)) {
        let mut random = Random(self.seed);
        let mut candidates = vec![candidate(0, 1, 0)];
        let mut ring = Ring::new(NodeNumber(0));
        for step in 1..=self.steps {
            let count = candidates.len() as u64;
            let joins = count < 3 || count < self.nodes_max && random.below(100) < 60;
            let before = candidates.clone();
            let who = if joins {
                let weight = 1 + random.below(self.weight_max) as u32;
                candidates.push(candidate(step, weight, random.below(self.zones)));
                step
            } else {
                candidates.remove(random.below(count) as usize).number.0
            };
            let next = ring.with_change(&candidates).unwrap();
            check(Change { before: &before, after: &candidates, old: &ring, new: &next, who, step });
            ring = if random.below(2) == 0 { synced(&next) } else { next };
        }
    }
}

struct Change<'a> {
    before: &'a [Candidate],
    after: &'a [Candidate],
    old: &'a Ring,
    new: &'a Ring,
    who: u64,
    step: u64,
}

impl Change<'_> {
    /// What the node that came or went has of the ring. What a ring of fewer than ten nodes loses
    /// with a node, nobody gets.
    fn share(&self) -> usize {
        match (self.after.len() > self.before.len(), self.after.len() < SEATS_MAX) {
            (true, _) => load(self.new, self.who),
            (false, true) => 0,
            (false, false) => load(self.old, self.who),
        }
    }
}

#[test]
fn equal_nodes_stay_balanced_and_move_their_share_through_any_history() {
    for seed in 0..2 {
        History { seed, zones: 1, weight_max: 1, nodes_max: 30, steps: 200 }.run(|change| {
            assert_lawful(change.new, change.after);
            if change.after.len() >= 3 {
                assert_balanced(change.new, change.after);
            }
            let gained = change.new.movement_since(change.old).gained;
            assert_moves_its_share(gained, change.share(), &format!("seed {seed}, step {}", change.step));
        });
    }
}

#[test]
fn uneven_nodes_stay_balanced_through_any_history_and_move_their_share_where_none_is_everywhere() {
    let (mut gained_all, mut share_all) = (0, 0);
    for seed in 0..2 {
        History { seed, zones: 1, weight_max: 4, nodes_max: 40, steps: 200 }.run(|change| {
            assert_lawful(change.new, change.after);
            if change.after.len() >= 3 {
                assert_balanced(change.new, change.after);
            }
            let gained = change.new.movement_since(change.old).gained;
            let is_roomy = |candidates: &[Candidate]| {
                let heaviest = candidates.iter().map(|candidate| candidate.weight).max().unwrap() as usize;
                let capacity: usize = candidates.iter().map(|candidate| candidate.weight as usize).sum();
                capacity * 10 > heaviest * SEATS_MAX * 11
            };
            if is_roomy(change.before) && is_roomy(change.after) {
                assert_moves_its_share(gained, change.share(), &format!("seed {seed}, step {}", change.step));
            }
            (gained_all, share_all) = (gained_all + gained, share_all + change.share());
        });
    }
    assert_moves_its_share(gained_all, share_all, "all steps");
}

#[test]
fn zones_are_spread_through_any_history_which_moves_the_shares_of_its_steps() {
    for (seed, zones, weight_max) in [(0, 3, 1), (1, 3, 4), (2, 5, 1), (3, 5, 4), (4, 20, 4)] {
        let (mut gained, mut share) = (0, 0);
        History { seed, zones, weight_max, nodes_max: 30, steps: 200 }.run(|change| {
            assert_lawful(change.new, change.after);
            gained += change.new.movement_since(change.old).gained;
            share += change.share();
        });
        println!("{zones} zones, weights to {weight_max}: {gained} seats moved for {share}");
        assert_moves_its_share(gained, share, &format!("{zones} zones, weights to {weight_max}"));
    }
}

#[test]
fn an_arc_that_moves_keeps_its_last_whole_seats_through_any_history() {
    let mut whole: Vec<Seats> = Vec::new();
    History { seed: 11, zones: 2, weight_max: 2, nodes_max: 14, steps: 100 }.run(|change| {
        for arc in ArcId::all() {
            if change.old.from(arc).is_none() {
                whole.resize(ARCS, *change.old.seats(arc));
                whole[arc.index()] = *change.old.seats(arc);
            }
            let (placement, whole) = (change.new.placement(arc), whole[arc.index()]);
            assert_eq!(placement.from.unwrap_or(placement.seats), whole, "arc {arc} at step {}", change.step);
        }
        assert!(Ring::decode(&change.new.encode()).unwrap() == *change.new);
    });
}

#[test]
fn a_node_has_its_tenure_for_as_long_as_an_arc_counts_on_it() {
    let mut tenures: Vec<BTreeMap<NodeNumber, u64>> = vec![BTreeMap::new(); ARCS];
    let mut gained = 0;
    History { seed: 12, zones: 2, weight_max: 2, nodes_max: 14, steps: 100 }.run(|change| {
        for arc in ArcId::all() {
            let (old, new) = (change.old.placement(arc), change.new.placement(arc));
            let nodes = |placement: &Placement| {
                let from = placement.from.iter().flat_map(|from| from.nodes().to_vec());
                placement.seats.nodes().iter().copied().chain(from).collect::<BTreeSet<NodeNumber>>()
            };
            // What its nodes had after the last step, less those that the arc no longer counts on.
            let known = &mut tenures[arc.index()];
            let counted_on = nodes(old);
            if known.is_empty() {
                *known = counted_on.iter().map(|node| (*node, 1)).collect();
            }
            known.retain(|node, _| counted_on.contains(node));
            for node in nodes(new) {
                let expected = known.get(&node).copied().unwrap_or(new.since);
                gained += usize::from(known.insert(node, expected).is_none());
                assert_eq!(new.tenure(node), Some(expected), "arc {arc}, {node}, step {}", change.step);
            }
        }
    });
    assert!(gained > ARCS);
}

#[test]
fn an_arc_stands_still_when_everybody_has_reported_who_is_there() {
    let nodes = |numbers: &[u64]| numbers.iter().map(|number| candidate(*number, 1, 0)).collect::<Vec<_>>();
    let three = synced(&Ring::new(NodeNumber(1)).with_change(&nodes(&[1, 2, 3])).unwrap());
    // Four takes the seat of one of the three in most arcs.
    let moving = three.with_change(&nodes(&[1, 2, 3, 4])).unwrap();
    let arc = moving.moving().find(|arc| moving.seats(*arc).nodes().len() > 3).unwrap();
    let since = moving.placement(arc).since;
    let all_there = |_: NodeNumber| true;
    let report = |ring: &Ring, node: u64| ring.with_report(NodeNumber(node), since, [arc], all_there);
    let mut ring = moving.clone();
    let seated: Vec<u64> = moving.seats(arc).nodes().iter().map(|node| node.0).collect();
    for node in &seated {
        assert!(ring.from(arc).is_some() && ring.placement(arc).awaits(NodeNumber(*node)));
        ring = report(&ring, *node).unwrap();
        assert!(Ring::decode(&ring.encode()).unwrap() == ring);
        assert_eq!(report(&ring, *node), None, "it has said so");
    }
    assert_eq!(ring.from(arc), None);
    assert_eq!(ring.moving().count(), moving.moving().count() - 1);
    assert_eq!(moving.with_report(NodeNumber(4), since - 1, [arc], all_there), None, "about other seats");
    assert_eq!(report(&moving, 9), None, "a node that has no say");
    // Who is to lose its seat has to know that, unless it is not there.
    let left = three.with_change(&nodes(&[1, 2])).unwrap();
    let since = left.placement(arc).since;
    let one = left.with_report(NodeNumber(1), since, [arc], all_there).unwrap();
    let two = one.with_report(NodeNumber(2), since, [arc], all_there).unwrap();
    assert!(two.from(arc).is_some() && two.placement(arc).awaits(NodeNumber(3)));
    assert_eq!(two.with_report(NodeNumber(3), since, [arc], all_there).unwrap().from(arc), None);
    assert_eq!(two.settled(|node| node != NodeNumber(3)).unwrap().moving().count(), ARCS - 1);
    assert_eq!(two.settled(all_there), None);
    assert_eq!(one.settled(|node| node != NodeNumber(2)), None, "a seat that is away has not pulled");
    // A majority of what held everything is left, or it isn't.
    assert_eq!(two.without_lost(|node| node != NodeNumber(3)), two);
    let lost = two.without_lost(|node| node == NodeNumber(1));
    assert_eq!(lost.from(arc).unwrap().nodes(), [NodeNumber(1)]);
    assert!(lost.placement(arc).awaits(NodeNumber(2)), "what was pulled before says nothing");
}

/// A ring that has seen joins, leaves, weights and zones, and of which a part still moves.
fn example() -> Ring {
    let mut candidates: Vec<Candidate> =
        (1..=12).map(|number| candidate(number, 1 + (number % 4) as u32, number % 3)).collect();
    let mut ring = Ring::new(NodeNumber(1)).grown(NodeNumber(2)).unwrap().grown(NodeNumber(3)).unwrap();
    ring = synced(&ring.with_change(&candidates).unwrap());
    candidates.push(candidate(1 << 40, 3, 3));
    ring = synced(&ring.with_change(&candidates).unwrap());
    candidates.remove(5);
    ring.with_change(&candidates).unwrap()
}

/// FNV-1a of 64 bits.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn the_table_of_the_example_never_changes() {
    let ring = example();
    let bytes = ring.encode();
    assert!(Ring::decode(&bytes).unwrap() == ring);
    assert_eq!(ring.version(), 8);
    assert_eq!((bytes.len(), fingerprint(&bytes)), (192_680, 17_829_737_169_678_264_931));
}

#[test]
fn the_bytes_of_a_ring_never_change() {
    let ring = Ring::new(NodeNumber(0x0807_0605_0403_0201)).grown(NodeNumber(0x09)).unwrap();
    let bytes = ring.encode();
    let number = |number: u64| number.to_le_bytes();
    let head = [[2, 0, 2, 0].as_slice(), &[2, 0, 0, 0], &number(2), &number(9), &[1, 2, 3, 4, 5, 6, 7, 8]].concat();
    let versions = [number(1), number(2)].concat();
    // The arc has its seats, and the new node its tenure, since version 2.
    let (seats, from, reported) = ([1, 0, 0, 1], [1, 0], [0; 4]);
    let arc = [[2, 1, 1].as_slice(), &seats, &from, &reported].concat();
    assert_eq!(bytes, [head, versions, arc.repeat(ARCS)].concat());
    assert!(bytes.len() <= RING_BYTES_MAX);
}

#[test]
fn bytes_that_are_no_ring_are_refused_with_the_reason() {
    let ring = Ring::new(NodeNumber(1)).grown(NodeNumber(2)).unwrap();
    let bytes = ring.encode();
    let with = |changes: &[(usize, u8)]| {
        let mut bytes = bytes.clone();
        changes.iter().for_each(|&(offset, byte)| bytes[offset] = byte);
        Ring::decode(&bytes).unwrap_err()
    };
    let arc = DecodeError::BadArc(ArcId::new(0).unwrap());
    for length in [0, 1, 15, 31, 47, 48, bytes.len() - 1] {
        assert_eq!(Ring::decode(&bytes[..length]).unwrap_err(), DecodeError::Truncated, "{length} bytes");
    }
    assert_eq!(Ring::decode(&[&bytes[..], &[0, 0]].concat()).unwrap_err(), DecodeError::Trailing(2));
    assert_eq!(with(&[(0, 1)]), DecodeError::UnknownFormat(1));
    assert_eq!(with(&[(16, 2)]), DecodeError::BadNodes, "a number twice");
    assert_eq!(with(&[(16, 3)]), DecodeError::BadNodes, "numbers that descend");
    assert_eq!(with(&[(32, 2)]), DecodeError::BadVersions, "a version twice");
    assert_eq!(with(&[(7, 1)]), DecodeError::BadVersions, "more versions than there can be");
    assert_eq!(with(&[(48, 0)]), arc, "no seats");
    assert_eq!(with(&[(48, 11)]), arc, "too many seats");
    assert_eq!(with(&[(8, 1)]), arc, "seats of a later version");
    assert_eq!(with(&[(50, 2)]), arc, "seats of no version");
    assert_eq!(with(&[(50, 0)]), arc, "a tenure after the last change of seats");
    assert_eq!(with(&[(51, 2)]), arc, "a seat of no node");
    assert_eq!(with(&[(51, 0), (53, 0)]), arc, "a node with two seats");
    assert_eq!(with(&[(52, 1)]), arc, "a node with two tenures");
    assert_eq!(with(&[(57, 8)]), arc, "a report of nobody");
    let one = Ring::new(NodeNumber(1)).encode();
    let unused = [&one[..2], &[2, 0], &one[4..24], &[9, 0, 0, 0, 0, 0, 0, 0], &one[24..]].concat();
    assert_eq!(Ring::decode(&unused).unwrap_err(), DecodeError::BadNodes, "a node without a seat");
    let unused = [&one[..4], &[2, 0, 0, 0], &one[8..32], &[9, 0, 0, 0, 0, 0, 0, 0], &one[32..]].concat();
    assert_eq!(Ring::decode(&unused).unwrap_err(), DecodeError::BadVersions, "a version that gave nothing");
    for error in [with(&[(0, 1)]), with(&[(32, 2)]), with(&[(48, 0)])] {
        assert!(error.to_string().contains("a ring") && !error.to_string().ends_with('.'), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_too_few_for_a_ring_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Ring::decode(&bytes).is_err());
    }

    #[test]
    fn a_damaged_ring_is_another_ring_or_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        length in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let ring = Ring::new(NodeNumber(1)).grown(NodeNumber(2)).unwrap().grown(NodeNumber(3)).unwrap();
        let mut bytes = ring.encode();
        for (offset, byte) in damage {
            // Half of the damage strikes the head and the first arcs.
            let range = if byte % 2 == 0 { bytes.len() } else { 100 };
            bytes[offset.index(range)] = byte;
        }
        if is_cut {
            bytes.truncate(length.index(bytes.len()));
        }
        if let Ok(ring) = Ring::decode(&bytes) {
            prop_assert!(ring.encode() == bytes);
        }
    }
}
