//! What of the machine a node of a demo gets.

/// The least memory that a node takes for each of its cores, and what it gets at most: a demo is no
/// load test.
const MEMORY_PER_CORE_MIN: u64 = 16 << 20;
const MEMORY_MAX: u64 = 256 << 20;
/// The cache and the buffers of all nodes together take such a part of the memory.
const MEMORY_DIVISOR: u64 = 4;
const MEMORY_STEP: u64 = 1 << 20;

/// What one node gets.
#[derive(PartialEq, Eq, Debug)]
pub struct Share {
    /// Each is for one core of the node.
    pub cpus: Vec<usize>,
    pub memory_bytes: u64,
}

/// Divides CPUs and memory among nodes. With fewer CPUs than nodes, nodes share one.
pub fn shares(nodes: usize, cpus: &[usize], memory_bytes: Option<u64>) -> Vec<Share> {
    let cores = (cpus.len() / nodes).max(1);
    let least = MEMORY_PER_CORE_MIN * cores as u64;
    let share = memory_bytes.unwrap_or(0) / MEMORY_DIVISOR / nodes as u64 / MEMORY_STEP * MEMORY_STEP;
    let memory_bytes = share.clamp(least, MEMORY_MAX.max(least));
    let cpus_of =
        |node: usize| cpus.iter().cycle().skip(node * cores % cpus.len().max(1)).take(cores).copied().collect();
    (0..nodes).map(|node| Share { cpus: cpus_of(node), memory_bytes }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus_of(nodes: usize, cpus: &[usize]) -> Vec<Vec<usize>> {
        shares(nodes, cpus, None).into_iter().map(|share| share.cpus).collect()
    }

    #[test]
    fn each_node_has_cpus_of_its_own_as_long_as_there_are_enough() {
        assert_eq!(cpus_of(3, &[0, 1, 2, 3, 4, 5, 6]), [[0, 1], [2, 3], [4, 5]]);
        assert_eq!(cpus_of(3, &[4, 9]), [[4], [9], [4]]);
        assert_eq!(cpus_of(1, &[2, 3]), [[2, 3]]);
        assert_eq!(cpus_of(2, &[]), [[0; 0], [0; 0]], "then the nodes may run anywhere");
    }

    #[test]
    fn memory_is_divided_within_what_a_node_needs_and_a_demo_is_worth() {
        let memory = |nodes, total| shares(nodes, &[0, 1], total)[0].memory_bytes;
        assert_eq!(memory(3, Some(12 << 30)), 256 << 20);
        assert_eq!(memory(3, Some((1 << 30) + 12_345)), 85 << 20);
        assert_eq!(memory(1, Some(1 << 20)), 32 << 20);
        assert_eq!(memory(3, None), 16 << 20);
    }
}
