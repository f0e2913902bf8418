//! How much an arc prefers a node: weighted rendezvous, in integers.
//!
//! Arc and node give a hash *h*, uniform in 1 to 2^64. The distance `-log2(h / 2^64) / weight` is
//! exponentially distributed with a rate that is proportional to the weight, so of any set of nodes
//! each is the nearest with a probability that is proportional to its weight, and that does not
//! depend on who else is a candidate.
//!
//! The logarithm is found bit by bit, by squaring (Knuth, TAOCP volume 1, section 1.2.2, exercise
//! 25). It is never above the true one, and below it by less than 2^-[`FRACTION_BITS`] + 2^-60 (a
//! test holds it to that): the first term is the bits that are left out, the second what squaring
//! drops. So of two nodes of equal weight the farther is taken for the nearer only if their hashes
//! differ by less than one part in 2^32.

use super::arc::ArcId;
use crate::node::NodeNumber;

/// The bits after the point of a logarithm.
const FRACTION_BITS: u32 = 32;
/// The bits by which a logarithm is shifted before it is divided by a weight.
const WEIGHT_SHIFT: u32 = 25;

// A logarithm is at most 64, and with both shifts it fits 64 bits.
const _: () = assert!(7 + FRACTION_BITS + WEIGHT_SHIFT == u64::BITS);

/// The distance of a node from an arc: the smaller, the better.
pub fn distance(arc: ArcId, node: NodeNumber, weight: u32) -> u64 {
    let hash = mix(mix(node.0).wrapping_add(arc.index() as u64));
    (negated_log2(hash) << WEIGHT_SHIFT) / u64::from(weight)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
/// 2014) behind its increment.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// `-log2((hash + 1) / 2^64)`, rounded up to [`FRACTION_BITS`] bits after the point.
fn negated_log2(hash: u64) -> u64 {
    let Some(hash) = hash.checked_add(1) else { return 0 };
    let whole = u64::from(hash.ilog2());
    // From here on 1 <= mantissa < 2, with 63 bits after the point.
    let mut mantissa = hash << hash.leading_zeros();
    let mut fraction = 0;
    for _ in 0..FRACTION_BITS {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let is_two = square >> 127 != 0;
        mantissa = (square >> if is_two { 64 } else { 63 }) as u64;
        fraction = fraction << 1 | u64::from(is_two);
    }
    (64 << FRACTION_BITS) - (whole << FRACTION_BITS | fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_exact_at_powers_of_two_and_within_its_bound_elsewhere() {
        let one = 1 << FRACTION_BITS;
        for power in 0..64 {
            assert_eq!(negated_log2((1 << power) - 1), (64 - power) * one);
        }
        assert_eq!(negated_log2(u64::MAX), 0);
        for step in 0..10_000 {
            let hash = mix(step) >> (step % 64);
            let logarithm = 64.0 - ((hash as f64) + 1.0).log2();
            let found = negated_log2(hash) as f64 / one as f64;
            // A double itself errs by 2^-46 here.
            assert!((-1e-13..2.4e-10).contains(&(found - logarithm)), "{hash}: {found} is not {logarithm}");
        }
    }

    #[test]
    fn a_node_is_nearest_as_often_as_its_weight_says() {
        let weights = [1, 2, 3, 4];
        let mut nearest = [0; 4];
        for round in 0..16 {
            for arc in ArcId::all() {
                let far = |&index: &usize| distance(arc, NodeNumber(round * 4 + index as u64), weights[index]);
                nearest[(0..4).min_by_key(far).unwrap()] += 1;
            }
        }
        let arcs: i32 = nearest.iter().sum();
        for (count, weight) in nearest.into_iter().zip(weights) {
            let expected = arcs * weight as i32 / 10;
            assert!((count - expected).abs() < expected / 20, "{count} of {arcs} with weight {weight}");
        }
    }

    #[test]
    fn distances_never_change() {
        let of = |arc: u16, node, weight| distance(ArcId::new(arc).unwrap(), NodeNumber(node), weight);
        assert_eq!(
            [of(0, 1, 1), of(4095, 1, 1), of(0, u64::MAX, 7)],
            [207739096318083072, 23686124148883456, 29834530515695323]
        );
    }
}
