//! The checker of the simulation's clients: histories written by hand that a store may have, and
//! such that it may not.

use crate::support::history::{History, Kind, Start};

/// `put a+` acknowledges a put that began as `a` as created, `-` as not; the same for delete and
/// get. `a?` fails it, `a!` ends it without effect, and `crash` cuts off what is under way.
fn history(script: &str) -> History {
    let mut history = History::default();
    let mut begun: Vec<(String, usize)> = Vec::new();
    let mut number_of = |history: &mut History, word: &str, kind: Option<Kind>| {
        if let Some(kind) = kind {
            begun.push((word.into(), history.begin(kind, false)));
        }
        begun.iter().rev().find(|(name, _)| name == word).expect("begun before").1
    };
    for step in script.split(';').map(str::trim).filter(|step| !step.is_empty()) {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        let kind = match word {
            "put" => Some(Kind::Put),
            "delete" => Some(Kind::Delete),
            "get" => Some(Kind::Read),
            _ => None,
        };
        match word {
            "crash" => history.crash(),
            "start" => history.start(Start::Decided),
            "start-undecided" => history.start(Start::Undecided),
            "start-incomplete" => history.start(Start::Incomplete),
            _ => {
                let name = rest.trim_end_matches(['+', '-', '?', '!']);
                let number = number_of(&mut history, name, kind);
                match rest.strip_prefix(name).expect("its start") {
                    "+" => history.done(number, true),
                    "-" => history.done(number, false),
                    "?" => history.in_doubt(number),
                    "!" => history.without_effect(number),
                    _ => {}
                }
            }
        }
    }
    history
}

#[track_caller]
fn may_be(script: &str) {
    if let Err(why) = history(script).check() {
        panic!("{script}: {why}");
    }
}

#[track_caller]
fn may_not_be(script: &str) {
    assert!(history(script).check().is_err(), "{script}");
}

#[test]
fn what_happens_one_after_another_is_what_is_seen() {
    may_be("get a-; put b+; get c+; put d-; delete e+; get f-; delete g-; put h+");
    may_not_be("get a+");
    may_not_be("put a+; get b-");
    may_not_be("put a-");
    may_not_be("put a+; put b+");
    may_not_be("put a+; delete b+; get c+");
    may_not_be("put a+; delete b-");
    may_not_be("delete a+");
}

#[test]
fn what_overlaps_may_have_happened_in_either_order() {
    for last in ["get x+", "get x-"] {
        may_be(&format!("put a; delete b; end a+; end b{}; {last}", if last == "get x-" { '+' } else { '-' }));
    }
    may_be("put a; get b-; get c+; end a+");
    may_be("put a+; delete b; get c+; get d-; end b+");
}

#[test]
fn reads_agree_on_the_order_of_what_overlaps() {
    // The old bookkeeping took what overlaps for either, whatever had been seen.
    may_not_be("put a; get b+; get c-; end a+");
    may_not_be("put a+; delete b; get c-; get d+; end b+");
    may_not_be("put a; delete b; end a+; end b-; get c-");
    may_not_be("put a; delete b; end a+; end b+; get c+");
    may_not_be("put a+; delete b; put c; get d-; get e+; get f-; end b+; end c+");
    may_be("put a+; delete b; put c; get d-; get e+; end b+; end c+");
}

#[test]
fn an_acknowledged_upload_is_not_lost_when_a_second_one_of_it_is_cut_off() {
    may_not_be("put a+; put b; crash; start; get c-");
    may_not_be("put a+; put b?; get c-");
    may_be("put a+; put b; crash; start; get c+");
    may_not_be("put a+; delete b+; delete c; crash; start; get d+");
}

#[test]
fn what_is_cut_off_happens_before_the_next_start_or_never() {
    for seen in ["+", "-"] {
        may_be(&format!("put a; crash; start; get b{seen}; get c{seen}"));
        may_be(&format!("put a+; delete b; crash; start; get c{seen}; crash; start; get d{seen}"));
    }
    may_not_be("put a; crash; start; get b-; get c+");
    may_not_be("put a; crash; start; get b+; crash; start; get c-");
    may_not_be("put a; crash; start; get b-; crash; start; get c+");
    // What was seen of it has happened.
    may_not_be("put a+; delete b; get c-; crash; start; get d+");
    may_not_be("put a; get b+; crash; start; get c-");
}

#[test]
fn what_failed_is_in_doubt_until_the_next_start() {
    for seen in ["+", "-"] {
        may_be(&format!("put a?; get b-; crash; start; get c{seen}"));
        may_be(&format!("put a+; delete b?; get c+; crash; start; get d{seen}"));
    }
    may_not_be("put a?; crash; start; get b-; crash; start; get c+");
    may_not_be("put a?; get b+; get c-");
}

#[test]
fn what_is_acknowledged_later_overrules_what_failed_before() {
    may_not_be("put a?; delete b-; crash; start; get c+");
    may_not_be("put a+; delete b?; put c+; crash; start; get d-");
    may_not_be("put a+; delete b?; put c-; crash; start; get d-");
    may_not_be("put a?; put b?; delete c-; get d+");
    // But not what fails while it is under way.
    may_be("put a; delete b; end b-; end a?; crash; start; get c+");
    // Nor what fails after it.
    may_be("put a?; delete b-; put c?; crash; start; get d+");
}

#[test]
fn a_failure_happens_once() {
    may_not_be("put a?; get b+; delete c+; crash; start; get d+");
    may_be("put a?; put b; delete c; get d+; get e-; get f+; end c+; end b?");
    may_not_be("put a; delete c; get d+; get e-; get f+; end c+; end a+");
}

#[test]
fn a_start_that_could_not_read_everything_shows_anything_and_loses_nothing() {
    may_be("put a+; crash; start-incomplete; get b-; crash; start; get c+");
    may_not_be("put a+; crash; start-incomplete; get b-; crash; start; get c-");
    may_not_be("put a+; crash; start-incomplete; get b-; get c+");
    may_not_be("put a+; crash; start-incomplete; delete b-; crash; start; get c+");
    may_be("put a; crash; start-incomplete; get b+; crash; start; get c-; get d-");
    may_not_be("put a; crash; start-incomplete; delete b+; crash; start; get c+");
}

#[test]
fn a_start_that_made_nothing_durable_shows_what_is_possible_and_decides_nothing() {
    for seen in ["+", "-"] {
        may_be(&format!("put a; crash; start-undecided; get b+; crash; start; get c{seen}"));
    }
    may_not_be("put a; crash; start-undecided; get b+; get c-");
    may_not_be("put a+; crash; start-undecided; get b-");
    may_not_be("crash; start-undecided; get b+");
}

#[test]
fn many_failures_are_checked_quickly() {
    let mut script = String::from("put a+;");
    for number in 0..50 {
        script += &format!("delete d{number}?; put p{number}?;");
    }
    may_be(&format!("{script} get b+; get c-; get d+; crash; start; get e-"));
}
