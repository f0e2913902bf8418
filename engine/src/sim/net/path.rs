//! The directions between machines, and what blocks them.
//!
//! Each ordered pair of machines is a path, which all of their connections share. A path is blocked
//! by cuts, by a clog, and by the want of power of the machine at its end. What is due on a blocked
//! path stays where it is, and is listed here, so that nobody looks for it when the path opens.

use std::collections::BTreeMap;
use std::fmt;

use super::wire::EndId;
use crate::sim::event::EventId;
use crate::sim::random::Random;

/// Which directions between machines a partition blocks. What is sent in them stays on its way and
/// no dial succeeds, as both directions are needed for that; the rest goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// From and to.
    directions: Vec<(u16, u16)>,
}

/// Names a cut that was made, to heal it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CutId(u64);

impl Cut {
    /// Machines against others, in both directions.
    pub fn between(some: &[u16], others: &[u16]) -> Self {
        let mut cut = Self::one_way(some, others);
        cut.directions.extend(Self::one_way(others, some).directions);
        cut
    }

    /// What machines send to others.
    pub fn one_way(from: &[u16], to: &[u16]) -> Self {
        let directions = from.iter().flat_map(|from| to.iter().map(|to| (*from, *to)));
        Self { directions: directions.filter(|(from, to)| from != to).collect() }
    }

    /// Single pairs of machines, in both directions.
    pub fn pairs(pairs: &[(u16, u16)]) -> Self {
        let directions = pairs.iter().flat_map(|(one, other)| [(*one, *other), (*other, *one)]);
        Self { directions: directions.collect() }
    }

    /// One for a seed that blocks something: two sides, some pairs, or one way.
    ///
    /// # Panics
    /// With fewer than two machines.
    pub fn draw(random: &mut Random, nodes: u16) -> Self {
        assert!(nodes > 1, "nothing lies between fewer than two machines");
        let mut mixed: Vec<u16> = (0..nodes).collect();
        random.shuffle(&mut mixed);
        let (some, others) = mixed.split_at(1 + random.index(mixed.len() - 1));
        match random.below(4) {
            0 | 1 => Self::between(some, others),
            2 => Self::one_way(some, others),
            _ => {
                let share = random.below(101) as f64 / 100.0;
                let all = (0..nodes).flat_map(|one| (one + 1..nodes).map(move |other| (one, other)));
                let mut pairs: Vec<(u16, u16)> = all.filter(|_| random.chance(share)).collect();
                if pairs.is_empty() {
                    pairs.push((some[0], others[0]));
                }
                Self::pairs(&pairs)
            }
        }
    }

    pub fn directions(&self) -> &[(u16, u16)] {
        &self.directions
    }
}

/// As `n0>n1 n1>n0`.
impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (from, to) in &self.directions {
            write!(formatter, "{separator}n{from}>n{to}")?;
            separator = " ";
        }
        Ok(())
    }
}

impl fmt::Display for CutId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cut {}", self.0)
    }
}

#[derive(Clone, Default)]
struct Path {
    /// Cuts that block it, and machines without power.
    blocks: u32,
    clog: Option<Clog>,
    stalled: Vec<EndId>,
}

/// What ends a clog.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clog {
    /// The test that made it.
    ByCall,
    ByEvent(EventId),
}

/// All paths.
pub struct Paths {
    nodes: usize,
    /// By the machines from which and to which they lead.
    paths: Vec<Path>,
    cuts: BTreeMap<CutId, Cut>,
    cut_next: u64,
}

impl Paths {
    pub fn new(nodes: usize) -> Self {
        Self { nodes, paths: vec![Path::default(); nodes * nodes], cuts: BTreeMap::new(), cut_next: 0 }
    }

    /// Whether connections are made and kept along a path. A clog doesn't hinder that.
    pub fn is_cut(&self, from: u16, to: u16) -> bool {
        self.path(from, to).blocks > 0
    }

    /// Whether bytes stay behind.
    pub fn is_blocked(&self, from: u16, to: u16) -> bool {
        self.is_cut(from, to) || self.path(from, to).clog.is_some()
    }

    /// Lists the pipe of an end for when the path opens.
    pub fn stall(&mut self, from: u16, to: u16, end: EndId) {
        self.path_mut(from, to).stalled.push(end);
    }

    pub fn cut(&mut self, cut: Cut) -> (CutId, &Cut) {
        let id = CutId(self.cut_next);
        self.cut_next += 1;
        for (from, to) in cut.directions() {
            self.block(*from, *to);
        }
        (id, self.cuts.entry(id).or_insert(cut))
    }

    /// Heals a cut; `None` if that was done before, else the ends whose pipes may go on.
    pub fn heal(&mut self, id: CutId) -> Option<Vec<EndId>> {
        let cut = self.cuts.remove(&id)?;
        Some(cut.directions().iter().flat_map(|(from, to)| self.unblock(*from, *to)).collect())
    }

    /// The cuts that are not healed.
    pub fn cuts(&self) -> Vec<CutId> {
        self.cuts.keys().copied().collect()
    }

    pub fn block(&mut self, from: u16, to: u16) {
        self.path_mut(from, to).blocks += 1;
    }

    /// Takes one block away; returns the ends whose pipes may go on.
    pub fn unblock(&mut self, from: u16, to: u16) -> Vec<EndId> {
        self.path_mut(from, to).blocks -= 1;
        self.take_stalled(from, to)
    }

    /// Clogs a path; the clog that was there is over.
    pub fn clog(&mut self, from: u16, to: u16, clog: Clog) {
        self.path_mut(from, to).clog = Some(clog);
    }

    pub fn clogged_by(&self, from: u16, to: u16) -> Option<Clog> {
        self.path(from, to).clog
    }

    /// Ends a clog; returns the ends whose pipes may go on.
    pub fn unclog(&mut self, from: u16, to: u16) -> Vec<EndId> {
        self.path_mut(from, to).clog = None;
        self.take_stalled(from, to)
    }

    /// The paths that are clogged.
    pub fn clogged(&self) -> Vec<(u16, u16)> {
        let places = (0..self.nodes as u16).flat_map(|from| (0..self.nodes as u16).map(move |to| (from, to)));
        places.filter(|(from, to)| self.path(*from, *to).clog.is_some()).collect()
    }

    fn take_stalled(&mut self, from: u16, to: u16) -> Vec<EndId> {
        if self.is_blocked(from, to) { Vec::new() } else { std::mem::take(&mut self.path_mut(from, to).stalled) }
    }

    fn path(&self, from: u16, to: u16) -> &Path {
        &self.paths[self.place(from, to)]
    }

    fn path_mut(&mut self, from: u16, to: u16) -> &mut Path {
        let place = self.place(from, to);
        &mut self.paths[place]
    }

    fn place(&self, from: u16, to: u16) -> usize {
        let (from, to) = (usize::from(from), usize::from(to));
        assert!(from < self.nodes && to < self.nodes, "there are {} machines", self.nodes);
        from * self.nodes + to
    }
}
