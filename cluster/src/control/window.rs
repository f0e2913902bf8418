//! Outcomes of the latest commands of a node, so that a command that comes twice counts once.
//!
//! Invariants: only commands of one incarnation are remembered, none below the floor, and at most
//! [`COMMANDS_IN_FLIGHT_MAX`]. A node says with each command below which one it sends none again
//! (RIFL, Lee et al., SOSP 2015).

use std::collections::BTreeMap;

use super::command::{COMMANDS_IN_FLIGHT_MAX, Outcome};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Window {
    pub floor: u64,
    pub outcomes: BTreeMap<u64, Outcome>,
}

/// What a window knows of a command.
#[derive(PartialEq, Eq, Debug)]
pub enum Known<'window> {
    /// It has not been applied.
    New,
    Applied(&'window Outcome),
    /// Its node gave it up, so it must not happen any more.
    GivenUp,
    /// There is no room to remember another.
    Full,
}

impl Window {
    /// Forgets what the node has given up: the sequences that are forgotten, if the floor rises.
    pub fn raise(&mut self, floor: u64) -> Option<Vec<u64>> {
        if floor <= self.floor {
            return None;
        }
        self.floor = floor;
        let kept = self.outcomes.split_off(&floor);
        Some(std::mem::replace(&mut self.outcomes, kept).into_keys().collect())
    }

    /// What is known of a command.
    pub fn look(&self, sequence: u64) -> Known<'_> {
        if sequence < self.floor {
            return Known::GivenUp;
        }
        match self.outcomes.get(&sequence) {
            Some(outcome) => Known::Applied(outcome),
            None if self.outcomes.len() >= COMMANDS_IN_FLIGHT_MAX => Known::Full,
            None => Known::New,
        }
    }

    pub fn remember(&mut self, sequence: u64, outcome: Outcome) {
        self.outcomes.insert(sequence, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_new_once_and_never_again_below_the_floor() {
        let mut window = Window::default();
        assert_eq!(window.raise(3), Some(vec![]));
        assert_eq!(window.look(4), Known::New);
        window.remember(4, Outcome::Set { version: 9 });
        assert_eq!(window.look(4), Known::Applied(&Outcome::Set { version: 9 }));
        assert_eq!(window.look(2), Known::GivenUp);
        assert_eq!(window.raise(5), Some(vec![4]));
        assert_eq!(window.look(6), Known::New);
        assert_eq!(window.raise(3), None, "an older floor does not lower it");
        assert_eq!(window.look(4), Known::GivenUp);
    }

    #[test]
    fn a_window_is_bounded() {
        let mut window = Window::default();
        for sequence in 0..COMMANDS_IN_FLIGHT_MAX as u64 {
            assert_eq!(window.look(sequence), Known::New);
            window.remember(sequence, Outcome::Set { version: 1 });
        }
        assert_eq!(window.look(COMMANDS_IN_FLIGHT_MAX as u64), Known::Full);
        window.raise(1);
        assert_eq!(window.look(COMMANDS_IN_FLIGHT_MAX as u64), Known::New);
    }
}
