//! A strict reader of the Prometheus text format: what breaks a rule, or a convention of ours, is a
//! panic that shows the line.
//!
//! Beyond the format itself: every family has a help and a type and comes once, its samples follow
//! at once and differ in their labels, buckets ascend to `+Inf` and agree with `_count`, and
//! counters and histograms are finite and not negative.

use std::collections::{BTreeMap, BTreeSet};

/// One family.
#[derive(Clone, Debug)]
pub struct Family {
    pub kind: String,
    pub samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// With the suffix that samples of histograms have.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A whole scrape, by the names of its families.
#[derive(Clone, Debug)]
pub struct Exposition(pub BTreeMap<String, Family>);

impl Exposition {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (name, help) = words(line, "# HELP ");
            assert!(is_name(name) && !help.trim().is_empty(), "{line}");
            assert!(!help.replace("\\\\", "").replace("\\n", "").contains('\\'), "a bad escape in {line}");
            let line = lines.next().unwrap_or_default();
            let (typed, kind) = words(line, "# TYPE ");
            assert_eq!(typed, name, "the type of another family follows the help");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let mut samples = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                samples.push(Sample::parse(line));
            }
            let family = Family { kind: kind.to_owned(), samples };
            family.check(name);
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} comes twice");
        }
        Self(families)
    }

    /// The value of the sample of this name with exactly these labels, if there is one.
    #[track_caller]
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        let family = self.0.get(name).or(self.0.get(family)).unwrap_or_else(|| panic!("no family {name}"));
        let labels: BTreeMap<String, String> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut found = family.samples.iter().filter(|sample| sample.name == name && sample.labels == labels);
        found.next().map(|sample| sample.value)
    }

    /// The same, and 0 when there is none.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or(0.0)
    }

    /// The sum over all samples of a family.
    #[track_caller]
    pub fn sum(&self, name: &str) -> f64 {
        self.0.get(name).unwrap_or_else(|| panic!("no family {name}")).samples.iter().map(|sample| sample.value).sum()
    }
}

fn words<'l>(line: &'l str, prefix: &str) -> (&'l str, &'l str) {
    let rest = line.strip_prefix(prefix).unwrap_or_else(|| panic!("{prefix:?} was expected, not {line:?}"));
    rest.split_once(' ').unwrap_or_else(|| panic!("{line:?}"))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "_:".contains(character))
}

impl Sample {
    fn parse(line: &str) -> Self {
        let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line:?}"));
        let (name, mut rest) = line.split_at(end);
        assert!(is_name(name), "{line:?}");
        let mut labels = BTreeMap::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line:?}"));
                assert!(is_name(label) && !label.contains(':') && !label.starts_with("__"), "{line:?}");
                let (value, after) = quoted(after).unwrap_or_else(|| panic!("{line:?}"));
                assert!(labels.insert(label.to_owned(), value).is_none(), "{label} twice in {line:?}");
                rest = after;
                match rest.chars().next() {
                    Some(',') => rest = &rest[1..],
                    Some('}') => break rest = &rest[1..],
                    _ => panic!("{line:?}"),
                }
            }
        }
        let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line:?}"));
        assert!(!value.contains(' '), "neither a second space nor a timestamp: {line:?}");
        Self { name: name.to_owned(), labels, value: value.parse().unwrap_or_else(|_| panic!("{line:?}")) }
    }
}

/// The text up to its closing quote, without escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('\\' | '"') => value.push(escaped),
                _ => return None,
            },
            other => value.push(other),
        }
    }
    None
}

impl Family {
    fn check(&self, name: &str) {
        let mut seen = BTreeSet::new();
        for sample in &self.samples {
            let key = (sample.name.clone(), sample.labels.clone());
            assert!(seen.insert(key), "{sample:?} comes twice");
            assert!(self.kind == "gauge" || (sample.value >= 0.0 && sample.value.is_finite()), "{sample:?}");
            if self.kind != "histogram" {
                assert_eq!(sample.name, name, "a sample of another family");
                assert!(!sample.labels.contains_key("le"), "{sample:?}");
            }
        }
        if self.kind == "histogram" {
            self.check_histograms(name);
        }
    }

    fn check_histograms(&self, name: &str) {
        let mut rest = self.samples.as_slice();
        while !rest.is_empty() {
            let buckets = rest.iter().take_while(|sample| sample.name == format!("{name}_bucket")).count();
            assert!(buckets > 0 && rest.len() >= buckets + 2, "buckets, then a sum and a count: {rest:?}");
            let (this, others) = rest.split_at(buckets + 2);
            let mut labels = this[0].labels.clone();
            labels.remove("le");
            let (mut last_bound, mut last_count) = (f64::NEG_INFINITY, 0.0);
            for bucket in &this[..buckets] {
                let bound: f64 = bucket.labels["le"].parse().unwrap_or_else(|_| panic!("{bucket:?}"));
                assert!(bound > last_bound && bucket.value >= last_count, "{bucket:?} does not ascend");
                let mut own = bucket.labels.clone();
                own.remove("le");
                assert_eq!(own, labels, "buckets of two histograms are mixed");
                (last_bound, last_count) = (bound, bucket.value);
            }
            assert_eq!(last_bound, f64::INFINITY, "the last bucket of {name} is not +Inf");
            let [sum, count] = [&this[buckets], &this[buckets + 1]];
            assert_eq!((&sum.name, &sum.labels), (&format!("{name}_sum"), &labels));
            assert_eq!((&count.name, &count.labels), (&format!("{name}_count"), &labels));
            assert_eq!(count.value, last_count, "the count is not that of the last bucket");
            rest = others;
        }
    }
}

/// The families that `docs/operations.md` lists, each with its type and the names of its labels.
pub fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = include_str!("../../docs/operations.md");
    let mut families = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `nabu_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else { panic!("four cells were expected in {row:?}") };
        assert!(!meaning.is_empty(), "{row:?}");
        let labels = labels.split(", ").filter(|label| *label != "–").map(|label| label.trim_matches('`').to_owned());
        let name = name.trim_matches('`').to_owned();
        assert!(families.insert(name, (kind.to_owned(), labels.collect())).is_none(), "documented twice: {row:?}");
    }
    families
}

/// What the families of a node of a cluster begin with.
const CLUSTER_PREFIX: &str = "nabu_cluster_";

/// Checks that a scrape and the documentation name the same families, types and labels. Either all
/// families of a cluster are there, or none is.
#[track_caller]
pub fn check_documented(exposition: &Exposition) {
    let documented = documented();
    let is_clustered = exposition.0.keys().any(|name| name.starts_with(CLUSTER_PREFIX));
    for name in documented.keys().filter(|name| is_clustered || !name.starts_with(CLUSTER_PREFIX)) {
        assert!(exposition.0.contains_key(name), "docs/operations.md lists {name}, which is not there");
    }
    for (name, family) in &exposition.0 {
        let Some((kind, labels)) = documented.get(name) else { panic!("{name} is missing in docs/operations.md") };
        assert_eq!(&family.kind, kind, "{name}");
        for sample in &family.samples {
            let has: BTreeSet<String> = sample.labels.keys().filter(|label| *label != "le").cloned().collect();
            assert_eq!(&has, labels, "the labels of {name}");
        }
    }
}
