//! The control planes of a simulated cluster, under everything that may go wrong.

mod support;

#[test]
fn clusters_agree_whatever_fails_and_are_whole_again_once_it_ends() {
    for seed in 0..20 {
        support::scenario::run(seed, false);
    }
}
