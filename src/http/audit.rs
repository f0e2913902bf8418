//! Who changed what, and who was refused: the target `nabu_store::audit` of the log.
//!
//! Changes are logged if `log.audit` is set. Refusals are always logged, up to
//! [`REFUSALS_PER_SECOND_MAX`]; the next event counts the others. So refused callers can't flood
//! the log.

use std::cell::Cell;

use nabu_engine::io::Instant;
use nabu_net::http::head::Method;

/// Refusals of one core that are logged in a second.
const REFUSALS_PER_SECOND_MAX: u32 = 10;
const SECOND_NS: u64 = 1_000_000_000;

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occasion {
    Change,
    /// With how many were not logged before it.
    Refusal {
        left_out: u32,
    },
}

/// What one core puts into the audit log.
pub struct Audit {
    has_changes: bool,
    /// When the second began in which refusals are counted, and how many it has.
    second: Cell<(u64, u32)>,
    left_out: Cell<u32>,
}

impl Audit {
    pub fn new(has_changes: bool) -> Self {
        Self { has_changes, second: Cell::default(), left_out: Cell::default() }
    }

    /// Whether the log wants the caller's name for such a request, if it is let in.
    pub fn wants_name(&self, method: Method) -> bool {
        self.has_changes && is_change(method)
    }

    /// Whether a request that was answered with this status goes in.
    pub fn takes(&self, method: Method, status: u16, now: Instant) -> Option<Occasion> {
        if matches!(status, 401 | 403 | 429) {
            return self.takes_refusal(now).then(|| Occasion::Refusal { left_out: self.left_out.take() });
        }
        (self.has_changes && is_change(method) && status < 300).then_some(Occasion::Change)
    }

    fn takes_refusal(&self, now: Instant) -> bool {
        let (mut began, mut count) = self.second.get();
        if now.0 - began >= SECOND_NS {
            (began, count) = (now.0, 0);
        }
        let is_taken = count < REFUSALS_PER_SECOND_MAX;
        if !is_taken {
            self.left_out.set(self.left_out.get() + 1);
        }
        self.second.set((began, count + u32::from(is_taken)));
        is_taken
    }
}

fn is_change(method: Method) -> bool {
    !matches!(method, Method::Get | Method::Head | Method::Options)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(5 * SECOND_NS);

    #[test]
    fn changes_go_in_where_they_are_wanted_and_reads_and_failures_never() {
        for wanted in [false, true] {
            let audit = Audit::new(wanted);
            for (method, status, is_change) in [
                (Method::Post, 201, true),
                (Method::Delete, 200, true),
                (Method::Put, 204, true),
                (Method::Get, 200, false),
                (Method::Head, 200, false),
                (Method::Post, 413, false),
                (Method::Delete, 404, false),
            ] {
                let expected = (wanted && is_change).then_some(Occasion::Change);
                assert_eq!(audit.takes(method, status, NOW), expected, "{method:?} {status}");
            }
        }
    }

    #[test]
    fn refusals_go_in_up_to_a_number_a_second_and_the_others_are_counted() {
        let audit = Audit::new(false);
        for _ in 0..REFUSALS_PER_SECOND_MAX {
            assert_eq!(audit.takes(Method::Get, 401, NOW), Some(Occasion::Refusal { left_out: 0 }));
        }
        for status in [401, 403, 429] {
            assert_eq!(audit.takes(Method::Post, status, Instant(NOW.0 + SECOND_NS - 1)), None);
        }
        let later = Instant(NOW.0 + SECOND_NS);
        assert_eq!(audit.takes(Method::Get, 403, later), Some(Occasion::Refusal { left_out: 3 }));
        assert_eq!(audit.takes(Method::Get, 403, later), Some(Occasion::Refusal { left_out: 0 }));
    }
}
