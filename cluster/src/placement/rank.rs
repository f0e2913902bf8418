//! Who has seat *rank* of every arc, given who has the seats before it.
//!
//! An arc keeps the node that it has, unless the node is gone, has an earlier seat, or lies in a
//! zone whose turn it is not. What is open then goes to a node that the arc has anyway and that
//! would otherwise lose it, then to the nearest that the arc does not have. Last, loads are brought
//! within bounds around the quota, by [`Rank::raise`] and [`Rank::lower`]: directly, from a node
//! above its quota to one below, and where that is not possible along the shortest chain of arcs,
//! as in any flow.
//!
//! All ties are broken by distance, arc and node, so the outcome depends on nothing else.

use super::arc::{ARCS, ArcId};
use super::members::Members;
use super::score::distance;
use super::seats::SEATS_MAX;
use super::share::{Shares, UNIT};

/// Bits of a word of a set of nodes.
const WORD_BITS: usize = u64::BITS as usize;

/// The seats of an arc before the change: `None` where the node is no member any more.
pub type OldSeats = [Option<u16>; SEATS_MAX];

/// How a node that is to be seated stands to the arc, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// The arc has it, but its seat is taken or is no more.
    Displaced,
    /// The arc does not have it, and it has too few arcs.
    Wanted,
    /// It has a later seat, which would then be open.
    Later,
    /// The arc does not have it, and it has arcs enough.
    Spare,
    /// It would push out the node of its zone that has a later seat of the round.
    Rival,
}

pub struct Rank<'a> {
    members: &'a Members,
    shares: &'a Shares,
    old: &'a [OldSeats],
    rank: usize,
    /// The members that may have the seat: `words` words for each arc.
    allowed: Vec<u64>,
    /// Those of them that are no rivals.
    gentle: Vec<u64>,
    words: usize,
    /// By arc.
    seated: Vec<Option<u16>>,
    /// By member, as all that follows: the arcs in which it has the seat.
    loads: Vec<i64>,
    quotas: Vec<i64>,
    lows: Vec<i64>,
    highs: Vec<i64>,
    /// The arcs that it should have, and would not have if all later seats stayed as they are.
    lacks: Vec<i64>,
}

impl<'a> Rank<'a> {
    /// Gives the seat of every arc. `before` are the seats that have been given, by arc.
    pub fn assign(members: &'a Members, shares: &'a Shares, old: &'a [OldSeats], before: &[Vec<u16>]) -> Vec<u16> {
        let rank = before[0].len();
        let mut this = Self {
            members,
            shares,
            old,
            rank,
            allowed: Vec::new(),
            gentle: Vec::new(),
            words: members.count().div_ceil(WORD_BITS),
            seated: vec![None; ARCS],
            loads: vec![0; members.count()],
            quotas: Vec::new(),
            lows: Vec::new(),
            highs: Vec::new(),
            lacks: Vec::new(),
        };
        this.set_quotas(before);
        this.set_lacks(before);
        this.set_allowed(before);
        this.keep();
        this.fill();
        this.raise();
        this.lower();
        this.seated.into_iter().map(|seated| seated.expect("every arc has a seat of each rank")).collect()
    }

    /// What is due now is the share of all seats up to this one, less what the seats before gave:
    /// so misses don't add up.
    fn set_quotas(&mut self, before: &[Vec<u16>]) {
        let mut had = vec![0u64; self.members.count()];
        for &member in before.iter().flatten() {
            had[usize::from(member)] += UNIT;
        }
        let shares = &self.shares.nodes[self.rank + 1];
        let due: Vec<u64> = shares.iter().zip(&had).map(|(share, had)| share.saturating_sub(*had)).collect();
        self.quotas = rounded(&due);
        for (member, &due) in due.iter().enumerate() {
            let slack = self.shares.slack(self.rank, member);
            let (low, high) = (due.saturating_sub(slack).div_ceil(UNIT), (due + slack) / UNIT);
            self.lows.push((low.min(due / UNIT) as i64).min(self.quotas[member]));
            self.highs.push((high.max(due.div_ceil(UNIT)) as i64).max(self.quotas[member]));
        }
    }

    fn set_lacks(&mut self, before: &[Vec<u16>]) {
        self.lacks = self.shares.nodes[self.shares.ranks].iter().map(|share| share.div_ceil(UNIT) as i64).collect();
        for (before, old) in before.iter().zip(self.old) {
            let later = old[self.rank..self.shares.ranks].iter().flatten().filter(|later| !before.contains(later));
            before.iter().chain(later).for_each(|&member| self.lacks[usize::from(member)] -= 1);
        }
    }

    fn set_allowed(&mut self, before: &[Vec<u16>]) {
        let round = self.shares.round(self.rank);
        let zone_sets: Vec<Vec<u64>> = (0..self.members.zone_sizes.len())
            .map(|zone| self.set_of(|member| self.members.zones[member] == zone))
            .collect();
        let everyone = self.set_of(|_| true);
        let demands = self.demands(&zone_sets);
        self.allowed.reserve(ARCS * self.words);
        self.gentle.reserve(ARCS * self.words);
        let round_end = self.shares.seats_in(round + 1).min(self.shares.ranks);
        let mut zone_counts = vec![0; zone_sets.len()];
        for (before, old) in before.iter().zip(self.old) {
            let mut row = everyone.clone();
            for &member in before {
                let zone = self.members.zones[usize::from(member)];
                remove(&mut row, usize::from(member));
                zone_counts[zone] += 1;
                if zone_counts[zone] > round {
                    row.iter_mut().zip(&zone_sets[zone]).for_each(|(word, zone)| *word &= !zone);
                }
            }
            before.iter().for_each(|&member| zone_counts[self.members.zones[usize::from(member)]] = 0);
            demands.iter().for_each(|demand| demand.restrict(&mut row));
            self.allowed.extend_from_slice(&row);
            for later in old[self.rank + 1..round_end].iter().flatten().map(|&later| usize::from(later)) {
                if contains(&row, later) {
                    row.iter_mut().zip(&zone_sets[self.members.zones[later]]).for_each(|(word, zone)| *word &= !zone);
                    add(&mut row, later);
                }
            }
            self.gentle.extend_from_slice(&row);
        }
    }

    fn set_of(&self, belongs: impl Fn(usize) -> bool) -> Vec<u64> {
        let mut set = vec![0; self.words];
        (0..self.members.count()).filter(|&member| belongs(member)).for_each(|member| add(&mut set, member));
        set
    }

    /// What arcs must see to now, since soon they could not: by some later seat every arc has
    /// certain nodes, or nodes of certain zones, and there are just as many seats until then.
    fn demands(&self, zone_sets: &[Vec<u64>]) -> Vec<Demand> {
        let (shares, rank) = (self.shares, self.rank);
        let round = shares.round(rank);
        let mut demands = Vec::new();
        for seats in rank + 1..shares.seats_in(round + 1).min(shares.ranks) {
            let full: Vec<Vec<u64>> = (0..zone_sets.len())
                .filter(|&zone| shares.zone_seats(seats, zone) > round && shares.is_zone_even(seats, zone))
                .map(|zone| zone_sets[zone].clone())
                .collect();
            let within = self.set_of(|_| true);
            demands.push(Demand { within, groups: full, seats: seats - rank });
        }
        for (zone, within) in zone_sets.iter().enumerate() {
            for seats in rank + 1..=shares.ranks {
                let is_due = |member| self.members.zones[member] == zone && shares.is_everywhere(seats, member);
                let due: Vec<usize> = (0..self.members.count()).filter(|&member| is_due(member)).collect();
                let alone = |member: &usize| self.set_of(|other| other == *member);
                let seats = shares.zone_seats(seats, zone).saturating_sub(round);
                if due.len() < self.members.zone_sizes[zone] {
                    demands.push(Demand { within: within.clone(), groups: due.iter().map(alone).collect(), seats });
                }
            }
        }
        demands.retain(|demand| !demand.groups.is_empty());
        demands
    }

    fn keep(&mut self) {
        for arc in 0..ARCS {
            if let Some(member) = self.old[arc][self.rank].filter(|&member| self.is_allowed(arc, member.into())) {
                self.seat(arc, member.into());
            }
        }
    }

    fn fill(&mut self) {
        for arc in ArcId::all().filter(|arc| self.seated[arc.index()].is_none()).collect::<Vec<_>>() {
            let rank_of = |&member: &usize| {
                let load = self.loads[member];
                let is_over = load >= self.highs[member];
                let is_due = load < self.quotas[member];
                (is_over, self.standing(arc.index(), member), !is_due, self.distance(arc, member), member)
            };
            let best = elements(self.row(arc.index())).min_by_key(rank_of);
            self.seat(arc.index(), best.expect("some zone has a node that the arc does not have"));
        }
    }

    /// Gives seats to those that have too few.
    fn raise(&mut self) {
        let mut low: Vec<usize> = (0..self.loads.len()).filter(|&node| self.loads[node] < self.lows[node]).collect();
        low.sort_by_key(|&node| self.loads[node] - self.quotas[node]);
        for &node in &low {
            self.take_directly(node);
        }
        for &node in &low {
            while self.loads[node] < self.lows[node] {
                let target = self.set_of(|member| member == node);
                let above_quota = self.set_of(|member| self.loads[member] > self.quotas[member]);
                let above_low = self.set_of(|member| self.loads[member] > self.lows[member]);
                let Some(chain) = self.chain([(&above_quota, &target), (&above_low, &target)]) else { break };
                self.follow(&chain);
            }
        }
    }

    /// Takes seats from those that have too many.
    fn lower(&mut self) {
        for node in 0..self.loads.len() {
            while self.loads[node] > self.highs[node] {
                let source = self.set_of(|member| member == node);
                let below_quota = self.set_of(|member| self.loads[member] < self.quotas[member]);
                let below_high = self.set_of(|member| self.loads[member] < self.highs[member]);
                let Some(chain) = self.chain([(&source, &below_quota), (&source, &below_high)]) else { break };
                self.follow(&chain);
            }
        }
    }

    /// Gives a node the seats of those above their quota, up to its own quota.
    fn take_directly(&mut self, node: usize) {
        let from = |this: &Self, arc: usize| this.seated[arc].map(usize::from).filter(|&from| from != node);
        let is_above = |this: &Self, from: usize| this.loads[from] > this.quotas[from];
        let mut arcs: Vec<ArcId> = ArcId::all()
            .filter(|arc| self.is_allowed(arc.index(), node))
            .filter(|arc| from(self, arc.index()).is_some_and(|from| is_above(self, from)))
            .collect();
        arcs.sort_by_cached_key(|&arc| (self.standing(arc.index(), node), self.distance(arc, node)));
        for arc in arcs {
            if self.loads[node] >= self.quotas[node] {
                return;
            }
            if from(self, arc.index()).is_some_and(|from| is_above(self, from)) {
                self.seat(arc.index(), node);
            }
        }
    }

    /// A chain between the first of these sources and targets that has one, preferably without
    /// rivals.
    fn chain(&self, ends: [(&[u64], &[u64]); 2]) -> Option<Vec<(usize, usize)>> {
        let search = |rows| ends.into_iter().find_map(|(sources, targets)| self.search(rows, sources, targets));
        search(&self.gentle).or_else(|| search(&self.allowed))
    }

    /// The shortest chain of arcs from one of the sources to one of the targets. Each arc is to
    /// give its seat to the node beside it; that node's seat in the arc before it goes to the node
    /// there, and so on to the target. Breadth first.
    fn search(&self, rows: &[u64], sources: &[u64], targets: &[u64]) -> Option<Vec<(usize, usize)>> {
        let mut seen = sources.to_vec();
        let mut layer = sources.to_vec();
        let mut givers: Vec<Option<usize>> = vec![None; self.loads.len()];
        while layer.iter().any(|&word| word != 0) {
            let mut next = vec![0; self.words];
            for arc in 0..ARCS {
                if !self.seated[arc].is_some_and(|member| contains(&layer, member.into())) {
                    continue;
                }
                let row = row_of(rows, self.words, arc);
                for word in 0..self.words {
                    let fresh = row[word] & !seen[word];
                    seen[word] |= fresh;
                    next[word] |= fresh;
                    let is_target = fresh & targets[word];
                    let mut rest = fresh;
                    while rest != 0 {
                        givers[word * WORD_BITS + rest.trailing_zeros() as usize] = Some(arc);
                        rest &= rest - 1;
                    }
                    if is_target != 0 {
                        let target = word * WORD_BITS + is_target.trailing_zeros() as usize;
                        return Some(self.links(target, &givers));
                    }
                }
            }
            layer = next;
        }
        None
    }

    fn links(&self, target: usize, givers: &[Option<usize>]) -> Vec<(usize, usize)> {
        let mut chain = Vec::new();
        let mut node = target;
        while let Some(arc) = givers[node] {
            chain.push((arc, node));
            node = self.seated[arc].map_or(node, usize::from);
        }
        chain
    }

    fn follow(&mut self, chain: &[(usize, usize)]) {
        chain.iter().for_each(|&(arc, node)| self.seat(arc, node));
    }

    fn seat(&mut self, arc: usize, member: usize) {
        if let Some(before) = self.seated[arc].replace(member as u16) {
            self.loads[usize::from(before)] -= 1;
        }
        self.loads[member] += 1;
        if !self.old[arc].contains(&Some(member as u16)) {
            self.lacks[member] -= 1;
        }
    }

    fn standing(&self, arc: usize, member: usize) -> Standing {
        match self.old[arc].iter().position(|&old| old == Some(member as u16)) {
            None if !contains(row_of(&self.gentle, self.words, arc), member) => Standing::Rival,
            None if self.lacks[member] > 0 => Standing::Wanted,
            None => Standing::Spare,
            Some(seat) if seat > self.rank && seat < self.shares.ranks => Standing::Later,
            Some(_) => Standing::Displaced,
        }
    }

    fn distance(&self, arc: ArcId, member: usize) -> u64 {
        distance(arc, self.members.numbers[member], self.members.weights[member])
    }

    fn row(&self, arc: usize) -> &[u64] {
        row_of(&self.allowed, self.words, arc)
    }

    fn is_allowed(&self, arc: usize, member: usize) -> bool {
        contains(self.row(arc), member)
    }
}

/// Every arc gets one node of each group within `seats` seats, of those that go to `within`.
struct Demand {
    within: Vec<u64>,
    groups: Vec<Vec<u64>>,
    seats: usize,
}

impl Demand {
    /// Leaves only nodes of the groups that an arc lacks, if it lacks as many as it has seats.
    fn restrict(&self, allowed: &mut [u64]) {
        let mut wanted = vec![0; allowed.len()];
        let mut lacking = 0;
        for group in &self.groups {
            let here = group.iter().zip(&*allowed).map(|(group, allowed)| group & allowed);
            if here.clone().any(|word| word != 0) {
                lacking += 1;
                wanted.iter_mut().zip(here).for_each(|(wanted, here)| *wanted |= here);
            }
        }
        if lacking > 0 && lacking >= self.seats {
            let words = allowed.iter_mut().zip(&wanted).zip(&self.within);
            words.for_each(|((allowed, wanted), within)| *allowed &= wanted | !within);
        }
    }
}

/// Whole arcs, [`ARCS`] in all, by largest remainder.
fn rounded(due: &[u64]) -> Vec<i64> {
    let mut quotas: Vec<i64> = due.iter().map(|due| (due / UNIT) as i64).collect();
    let mut order: Vec<usize> = (0..due.len()).collect();
    order.sort_by_key(|&member| (UNIT - due[member] % UNIT, member));
    let mut missing = ARCS as i64 - quotas.iter().sum::<i64>();
    for &member in order.iter().cycle() {
        match missing.signum() {
            0 => break,
            sign if quotas[member] + sign >= 0 => {
                quotas[member] += sign;
                missing -= sign;
            }
            _ => {}
        }
    }
    quotas
}

fn row_of(rows: &[u64], words: usize, arc: usize) -> &[u64] {
    &rows[arc * words..][..words]
}

fn add(set: &mut [u64], element: usize) {
    set[element / WORD_BITS] |= 1 << (element % WORD_BITS);
}

fn remove(set: &mut [u64], element: usize) {
    set[element / WORD_BITS] &= !(1 << (element % WORD_BITS));
}

fn contains(set: &[u64], element: usize) -> bool {
    set[element / WORD_BITS] >> (element % WORD_BITS) & 1 != 0
}

fn elements(set: &[u64]) -> impl Iterator<Item = usize> {
    set.iter().enumerate().flat_map(|(index, &word)| {
        (0..WORD_BITS).filter(move |bit| word >> bit & 1 != 0).map(move |bit| index * WORD_BITS + bit)
    })
}
