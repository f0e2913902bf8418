//! Replays the committed corpus of the fuzz target `record`, then mutants of it: the short fuzz
//! that needs no nightly toolchain. Bounded by a count, not by time. `NABU_FUZZ_SEED` overrides the
//! seed; a failure prints it with the input.

mod checks;

use std::panic::catch_unwind;
use std::path::Path;

const SEED: u64 = 0x6e61_6275;
const MUTANTS_COUNT: u64 = 30_000;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/record");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    // The order of a folder is arbitrary; a seed must pick the same mutants everywhere.
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("the file can be read")).collect()
}

#[test]
fn decoders_of_the_disk_format_keep_their_properties_under_mutation() {
    let corpus = corpus();
    assert!(corpus.len() >= 10, "the corpus is there");
    let seed = std::env::var("NABU_FUZZ_SEED").map_or(SEED, |text| text.parse().expect("a number"));
    let mut random = nabu_engine::sim::Random::new(seed);
    let run = |input: &[u8]| {
        if catch_unwind(|| checks::check_record(input)).is_err() {
            panic!("NABU_FUZZ_SEED={seed}, input b\"{}\"", input.escape_ascii());
        }
    };
    corpus.iter().for_each(|input| run(input));
    for _ in 0..MUTANTS_COUNT {
        let mut input = corpus[random.index(corpus.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.index(input.len().max(1));
            match random.below(4) {
                0 if at < input.len() => input[at] ^= 1 << random.below(8),
                1 if at < input.len() => input[at] = random.below(256) as u8,
                2 => input.truncate(at),
                _ => {
                    let other = &corpus[random.index(corpus.len())];
                    input.truncate(at);
                    input.extend_from_slice(&other[at.min(other.len())..]);
                }
            }
        }
        run(&input);
    }
}
