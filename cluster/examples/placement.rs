//! Prints how well rings of several sizes are balanced, what a join and a leave move, and how long
//! a plan takes: the tables of `docs/cluster.md`.
//!
//! ```text
//! cargo run --release -p nabu-cluster --example placement
//! ```

use std::time::Instant;

use nabu_cluster::node::NodeNumber;
use nabu_cluster::placement::{ARCS, ArcId, Candidate, Ring};

fn main() {
    for (title, zones, weights) in [
        ("One zone, equal nodes", 1, 1),
        ("One zone, weights 1 to 4", 1, 4),
        ("Three zones, equal nodes", 3, 1),
        ("Three zones, weights 1 to 4", 3, 4),
        ("Five zones, equal nodes", 5, 1),
    ] {
        println!("{title}\n");
        println!(
            "| nodes | worst rank | worst first seats | join: moved, reseated | leave: moved, reseated | join takes |"
        );
        println!("| --- | --- | --- | --- | --- | --- |");
        for nodes in [3, 6, 10, 12, 15, 30, 60, 99] {
            row(nodes, zones, weights);
        }
        println!();
    }
}

fn candidates(nodes: u64, zones: u64, weights: u64) -> Vec<Candidate> {
    let of = |number| Candidate {
        number: NodeNumber(number),
        weight: 1 + (number % weights) as u32,
        zone: (number % zones).to_string(),
    };
    (1..=nodes).map(of).collect()
}

/// Of a ring that grew by one node at a time.
fn row(nodes: u64, zones: u64, weights: u64) {
    let mut ring = Ring::new(NodeNumber(1));
    for nodes in 2..=nodes {
        ring = ring.with_change(&candidates(nodes, zones, weights)).expect("sound candidates");
    }
    let before = candidates(nodes, zones, weights);
    let (rank, first) = misses(&ring, &before);

    let started = Instant::now();
    let joined = ring.with_change(&candidates(nodes + 1, zones, weights)).expect("sound candidates");
    let took = started.elapsed();
    let joiner = joined.vnodes_of(NodeNumber(nodes + 1));

    let mut after = before.clone();
    let leaver = after.remove(nodes as usize / 2).number;
    let left = ring.with_change(&after).expect("sound candidates");
    println!(
        "| {nodes} | {rank:.1} % | {first:.1} % | {} | {} | {:.1} ms |",
        moved(&joined, &ring, joiner),
        moved(&left, &ring, ring.vnodes_of(leaver)),
        took.as_secs_f64() * 1e3,
    );
}

/// The worst misses of capacity's share, in percent: of one rank, and of the first seats.
fn misses(ring: &Ring, candidates: &[Candidate]) -> (f64, f64) {
    let capacity: u32 = candidates.iter().map(|candidate| candidate.weight).sum();
    let (mut of_rank, mut of_first) = (0f64, 0f64);
    for candidate in candidates {
        let share = ARCS as f64 * f64::from(candidate.weight) / f64::from(capacity);
        let mut had = 0;
        for rank in 0..candidates.len().min(10) {
            let has_it = |&arc: &ArcId| ring.seats(arc).nodes()[rank] == candidate.number;
            let load = ArcId::all().filter(has_it).count();
            had += load;
            of_rank = of_rank.max((load as f64 / share - 1.0).abs() * 100.0);
            of_first = of_first.max((had as f64 / share / (rank as f64 + 1.0) - 1.0).abs() * 100.0);
        }
    }
    (of_rank, of_first)
}

/// What moved, in shares of the node that came or went.
fn moved(new: &Ring, old: &Ring, share: usize) -> String {
    let movement = new.movement_since(old);
    let of_share = |moved: usize| moved as f64 / share as f64;
    format!("{:.2}, {:.2}", of_share(movement.gained), of_share(movement.reseated))
}
