//! Replays the committed fuzz corpora through the properties that the fuzz targets check, then
//! mutants of them: the short fuzz that needs no nightly toolchain. Bounded by a count, not by
//! time, so that a slow machine tests as much as a fast one.
//!
//! `NABU_FUZZ_SEED` and `NABU_FUZZ_COUNT` override the seed and the number of mutants; a failure
//! prints both the seed and the input.

mod checks;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

const SEED: u64 = 0x6e61_6275;
const MUTANTS_COUNT: u64 = 30_000;
const MUTATIONS_MAX: u64 = 4;
const INPUT_BYTES_MAX: usize = 4_096;

/// What the grammars turn on.
const TOKENS: [&[u8]; 34] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b": ",
    b",",
    b";",
    b"=",
    b"-",
    b"%",
    b"%2F",
    b"*",
    b"\"",
    b"W/\"a3f2\"",
    b"#",
    b"?",
    b"0",
    b"0\r\n\r\n",
    b"ffffffffffffffff",
    b"18446744073709551616",
    b"\x7f",
    b"\x80",
    b"http://a:1",
    b" HTTP/1.0",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 1\r\n",
    b"Connection: close\r\n",
    b"Host: a\r\n",
    b"bytes=",
];

/// A xorshift generator: good enough to pick mutations, and the same everywhere.
struct Generator(u64);

impl Generator {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound.max(1)
    }

    /// A range of `input` of at most 32 bytes.
    fn span(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(input.len() + 1);
        start..input.len().min(start + self.below(33))
    }
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], generator: &mut Generator) {
    let at = generator.below(input.len() + 1);
    match generator.below(7) {
        0 if !input.is_empty() => {
            let index = generator.below(input.len());
            input[index] ^= 1 << generator.below(8);
        }
        1 if !input.is_empty() => {
            let index = generator.below(input.len());
            input[index] = generator.below(256) as u8;
        }
        2 => drop(input.drain(generator.span(input))),
        3 => {
            let copy = input[generator.span(input)].to_vec();
            drop(input.splice(at..at, copy));
        }
        4 => {
            let other = &corpus[generator.below(corpus.len())];
            input.truncate(at);
            input.extend_from_slice(&other[generator.below(other.len() + 1)..]);
        }
        5 => input.truncate(at),
        _ => drop(input.splice(at..at, TOKENS[generator.below(TOKENS.len())].iter().copied())),
    }
    input.truncate(INPUT_BYTES_MAX);
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn load(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    // The order of a folder is arbitrary; a seed must pick the same mutants everywhere.
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("the file can be read")).collect()
}

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = load(target);
    assert!(corpus.len() >= 10, "the corpus of {target} is there");
    let seed = number_from_environment("NABU_FUZZ_SEED", SEED);
    let run = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(input))) {
            eprintln!("target {target}, NABU_FUZZ_SEED={seed}, input b\"{}\"", input.escape_ascii());
            resume_unwind(panic);
        }
    };
    corpus.iter().for_each(|input| run(input));
    let mut generator = Generator(seed.max(1));
    for _ in 0..number_from_environment("NABU_FUZZ_COUNT", MUTANTS_COUNT) {
        let mut input = corpus[generator.below(corpus.len())].clone();
        for _ in 0..=generator.below(MUTATIONS_MAX as usize) {
            mutate(&mut input, &corpus, &mut generator);
        }
        run(&input);
    }
}

#[test]
fn request_heads_keep_their_properties_under_mutation() {
    replay("request_head", checks::check_request_head);
}

#[test]
fn chunked_bodies_keep_their_properties_under_mutation() {
    replay("chunked", checks::check_chunked);
}

#[test]
fn values_keep_their_properties_under_mutation() {
    replay("values", checks::check_values);
}

#[test]
fn frames_keep_their_properties_under_mutation() {
    replay("peer_frame", checks::check_peer_frame);
}

#[test]
fn handshakes_keep_their_properties_under_mutation() {
    replay("peer_handshake", checks::check_peer_handshake);
}
