//! What holds for every row of the table: its bounds in each layer, its field, its names, its
//! words.

use std::collections::BTreeSet;

use nabu_net::http::head::{HeadLimits, HeadParser};

use super::*;
use crate::config::bounds::{
    DATA_DIRS_MAX, HEAD_BYTES_MAX, HEAD_BYTES_MIN, JOIN_MAX, LOG_FILTER_BYTES_MAX, MEMORY_DEFAULT_MAX,
    MEMORY_DEFAULT_MIN, NAME_BYTES_MAX, NAMES_MAX, PATH_BYTES_MAX, SCRUB_DAYS_MAX, TARGET_BYTES_MAX, TARGET_BYTES_MIN,
    TEXT_BYTES_MAX,
};
use crate::config::kind::Kind;
use crate::config::raw::Raw;
use crate::config::size;
use crate::config::unset::Unset;
use crate::config::values::Values;

/// A machine that bounds nothing.
const ANY_MACHINE: Machine = Machine { cores: 1, memory_bytes: None };

/// What other settings must be so that each value of one may be tried.
const COMPANIONS: [(&str, &str); 12] = [
    ("cores", "1"),
    ("limits.head_bytes_max", "64KiB"),
    ("limits.target_bytes_max", "256"),
    ("tls.cert", "/cert"),
    ("tls.key", "/key"),
    ("tls.client_ca", "/ca"),
    ("auth.jwt.keys", "/keys"),
    ("rate_limit.requests_per_second", "1"),
    ("data", "/data"),
    ("cluster.secret_file", "/secret"),
    ("cluster.node_id", "node"),
    // As many as may be waited for.
    ("cluster.join", PEERS),
];

/// The most addresses to ask.
const PEERS: &str = "[a0:1, a1:1, a2:1, a3:1, a4:1, a5:1, a6:1, a7:1, b0:1, b1:1, b2:1, b3:1, b4:1, b5:1, b6:1, b7:1, \
    c0:1, c1:1, c2:1, c3:1, c4:1, c5:1, c6:1, c7:1, d0:1, d1:1, d2:1, d3:1, d4:1, d5:1, d6:1, d7:1, e0:1, e1:1, e2:1, \
    e3:1, e4:1, e5:1, e6:1, e7:1, f0:1, f1:1, f2:1, f3:1, f4:1, f5:1, f6:1, f7:1, g0:1, g1:1, g2:1, g3:1, g4:1, g5:1, \
    g6:1, g7:1, h0:1, h1:1, h2:1, h3:1, h4:1, h5:1, h6:1, h7:1]";

/// Values at the bounds of a setting, as a variable or a flag has them, and values just beyond.
struct Edges {
    accepted: Vec<String>,
    refused: Vec<String>,
}

impl Edges {
    fn of(accepted: &[&str], refused: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self { accepted: owned(accepted), refused: owned(refused) }
    }

    /// Texts of these numbers of bytes that begin with this one.
    fn of_lengths(start: &str, accepted: [usize; 2], refused: usize) -> Self {
        let text = |length: usize| format!("{start}{}", "x".repeat(length - start.len()));
        Self { accepted: accepted.map(text).into(), refused: vec![text(refused)] }
    }
}

fn edges(kind: &Kind) -> Edges {
    match kind {
        Kind::Number(number, _) => {
            let mut edges = Edges {
                // Without a unit and, if it is a size, with one.
                accepted: [number.min, number.max].map(|bound| bound.to_string()).into(),
                refused: vec![(number.max + 1).to_string(), "-1".into(), "18446744073709551616".into(), "1.5".into()],
            };
            edges.accepted.extend([number.min, number.max].map(|bound| number.show(bound)));
            edges.refused.extend(number.min.checked_sub(1).map(|below| below.to_string()));
            if number.step > 1 {
                edges.refused.push((number.min + 1).to_string());
            }
            edges
        }
        Kind::Part(_) => Edges::of(&["0", "0.000001", "1"], &["-0.000001", "0.0000001", "1.000001", "many"]),
        Kind::Interval(_) => {
            let seconds = SCRUB_DAYS_MAX * 86_400;
            let max = [format!("{SCRUB_DAYS_MAX}d"), format!("{seconds}s")];
            let beyond = [format!("{}d", SCRUB_DAYS_MAX + 1), format!("{}s", seconds + 1)];
            Edges::of(&["off", "1s", &max[0], &max[1]], &["0s", "14", "-1s", &beyond[0], &beyond[1]])
        }
        Kind::Duration(bounds, _) => {
            let (min, max) = (bounds.seconds_min, bounds.seconds_max);
            let [accepted, refused] = [[min, max], [min - 1, max + 1]].map(|edges| edges.map(|at| format!("{at}s")));
            let mut refused: Vec<String> = refused.into();
            refused.extend(["off", "90", "-1m"].map(str::to_owned));
            Edges { accepted: accepted.into(), refused }
        }
        Kind::Switch(_) => Edges::of(&["true", "false"], &["1", "perhaps"]),
        Kind::Choice(choices) => {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            Edges::of(&words, &["perhaps", "true"])
        }
        Kind::Path(_) => Edges::of_lengths("/", [1, PATH_BYTES_MAX], PATH_BYTES_MAX + 1),
        Kind::Paths(_) => Edges::of_lengths("/", [1, PATH_BYTES_MAX], PATH_BYTES_MAX + 1),
        Kind::Listen(_) => Edges::of(&["127.0.0.1:0", "127.0.0.1:65535"], &["127.0.0.1:65536", "127.0.0.1:-1", "7070"]),
        Kind::LogFilter(_) => {
            let longest = format!("{}=info", "x".repeat(LOG_FILTER_BYTES_MAX - "=info".len()));
            Edges::of(&["off", "trace", &longest], &[&format!("x{longest}"), "loud"])
        }
        Kind::Text(_) | Kind::Texts(_) => Edges::of_lengths("x", [1, TEXT_BYTES_MAX], TEXT_BYTES_MAX + 1),
        Kind::Algorithms(_) => Edges::of(&["HS256", "EdDSA"], &["none", "RS512"]),
        Kind::NodeAddress(_) | Kind::NodeAddresses(_) => {
            Edges::of(&["a:1", "node-1.example:65535"], &["a:0", "a:65536", "a", "0.0.0.0:1", "http://a:1"])
        }
        Kind::Name(_) => {
            let mut edges = Edges::of_lengths("x", [1, NAME_BYTES_MAX], NAME_BYTES_MAX + 1);
            edges.refused.extend(["a b", "a/b", "ä"].map(str::to_owned));
            edges
        }
        Kind::Networks(_) => Edges::of(&["0.0.0.0/0", "::1", "10.0.0.0/32"], &["10.0.0.0/33", "::/129", "host"]),
    }
}

/// A configuration file of keys with dots, one a line: `limits: {head_bytes_max: 1KiB}` with each
/// group once.
fn file_of(settings: &[(&str, &str)]) -> String {
    fn write(text: &mut String, depth: usize, settings: &[(Vec<&str>, &str)]) {
        let mut done = BTreeSet::new();
        for (path, value) in settings {
            if !done.insert(path[0]) {
                continue;
            }
            text.push_str(&format!("{}{}:", "  ".repeat(depth), path[0]));
            if path.len() == 1 {
                text.push_str(&format!(" {value}\n"));
                continue;
            }
            text.push('\n');
            let below: Vec<(Vec<&str>, &str)> = settings
                .iter()
                .filter(|(other, _)| other[0] == path[0])
                .map(|(path, value)| (path[1..].to_vec(), *value))
                .collect();
            write(text, depth + 1, &below);
        }
    }
    let split: Vec<_> = settings.iter().map(|(key, value)| (key.split('.').collect(), *value)).collect();
    let mut text = String::new();
    write(&mut text, 0, &split);
    text
}

/// The layers that a setting can stand in, each with the value in it, beside the companions.
fn in_each_layer(setting: &Setting, word: &str) -> Vec<(&'static str, Given)> {
    let mut companions: Vec<(&str, &str)> =
        COMPANIONS.into_iter().filter(|(key, _)| setting.key != Some(*key)).collect();
    let beside = file_of(&companions);
    let mut layers = Vec::new();
    if let Some(key) = setting.key {
        companions.push((key, word));
        layers.push(("file", Given::file(&file_of(&companions))));
    }
    if let Some(name) = setting.variable {
        layers.push(("variable", Given::file(&beside).variable(name, word)));
    }
    if let Some(flag) = setting.flag {
        layers.push(("flag", Given::file(&beside).flag(flag.name, word)));
    }
    layers
}

fn outcome(given: &Given) -> Result<Config, String> {
    load(&given.flags, &|name| given.variables.get(name).cloned(), &ANY_MACHINE).map_err(|error| error.to_string())
}

#[test]
fn each_setting_is_taken_at_its_bounds_and_refused_beyond_them_in_every_layer() {
    // Where the file is, the file can't say; and the path of one must lead to one.
    for setting in SETTINGS.iter().filter(|setting| setting.key.is_some()) {
        let edges = edges(&setting.kind);
        assert!(!edges.accepted.is_empty() && !edges.refused.is_empty());
        for word in &edges.accepted {
            for (layer, given) in in_each_layer(setting, word) {
                let config = outcome(&given).unwrap_or_else(|error| panic!("{word} by {layer}: {error}"));
                let effective = config.effective.iter().find(|effective| effective.name == setting.name());
                let effective = effective.unwrap_or_else(|| panic!("{} by {layer}", setting.name()));
                assert_eq!(&effective.value, word, "{} by {layer}", setting.name());
                let source = effective.source.as_ref().map(|source| match source {
                    Source::File { .. } => "file",
                    Source::Environment { .. } => "variable",
                    Source::Flag { .. } => "flag",
                });
                assert_eq!(source, Some(layer), "{} by {layer}", setting.name());
            }
        }
        for word in &edges.refused {
            for (layer, given) in in_each_layer(setting, word) {
                let error = match outcome(&given) {
                    Ok(_) => panic!("{} took {word} by {layer}", setting.name()),
                    Err(error) => error,
                };
                assert_eq!(error.lines().count(), 1, "{error}");
                let named = match layer {
                    "file" => format!(": {}: must ", setting.name()),
                    "variable" => format!("{}={word}: must ", setting.variable.expect("a variable")),
                    _ if setting.kind.flag_form() == FlagForm::Repeated => {
                        format!("{}: must ", setting.flag.expect("a flag").name)
                    }
                    _ => format!("{} {word}: must ", setting.flag.expect("a flag").name),
                };
                assert!(error.contains(&named), "{named} in {error}");
                assert!(layer != "file" || error.contains("(got "), "{error}");
                if let Kind::Number(number, _) = &setting.kind
                    && word != &(number.min + 1).to_string()
                {
                    assert!(error.contains(&number.to_string()), "{number} in {error}");
                }
            }
        }
    }
}

#[test]
fn an_empty_variable_sets_nothing_and_an_empty_flag_is_wrong() {
    let expected = format!("{:?}", Given::default().config());
    for setting in SETTINGS {
        if let Some(name) = setting.variable {
            assert_eq!(format!("{:?}", Given::default().variable(name, "").config()), expected, "{name}");
        }
        if let Some(flag) = setting.flag {
            assert!(Given::default().flag(flag.name, "").load().is_err(), "{}", flag.name);
        }
    }
}

#[test]
fn an_empty_value_in_the_file_is_wrong() {
    for key in SETTINGS.iter().filter_map(|setting| setting.key) {
        for value in ["", "\"\"", "[]", "{}"] {
            let companions = COMPANIONS.into_iter().filter(|(other, _)| *other != key);
            let settings: Vec<_> = companions.chain([(key, value)]).collect();
            let error = outcome(&Given::file(&file_of(&settings))).expect_err(key);
            assert!(error.contains(&format!(": {key}: ")), "{key}: {value}: {error}");
        }
    }
}

#[test]
fn the_path_of_the_file_is_bounded_too() {
    let long = "x".repeat(PATH_BYTES_MAX + 1);
    let message = |place: String| format!("{place}: must be a path of at most {PATH_BYTES_MAX} bytes, not 4096");
    assert_eq!(Given::default().flag("--config", &long).messages(), [message(format!("--config {long}"))]);
    assert_eq!(Given::default().variable("NABU_CONFIG", &long).messages(), [message(format!("NABU_CONFIG={long}"))]);
}

#[test]
fn lists_are_bounded_too() {
    let list = |count: usize, start: &str| {
        let names: Vec<String> = (0..count).map(|number| format!("{start}{number}")).collect();
        format!("[{}]", names.join(", "))
    };
    for (key, start, max) in [
        ("data", "/", DATA_DIRS_MAX),
        ("auth.jwt.issuer", "i", NAMES_MAX),
        ("auth.jwt.audience", "a", NAMES_MAX),
        ("cluster.join", "a:1", JOIN_MAX),
    ] {
        for (count, is_taken) in [(1, true), (max, true), (max + 1, false), (0, false)] {
            let value = list(count, start);
            let settings = [("auth.jwt.keys", "/keys"), ("cluster.secret_file", "/secret"), (key, value.as_str())];
            assert_eq!(outcome(&Given::file(&file_of(&settings))).is_ok(), is_taken, "{count} of {key}");
        }
    }
    let many = (0..=DATA_DIRS_MAX).fold(Given::default(), |given, number| given.flag("--data", &format!("/{number}")));
    assert_eq!(many.messages(), ["--data: must be at most 64 directories, not 65"]);
}

/// What a row does to the values of all settings.
fn apply(values: &mut Values, setting: &Setting, word: &str) {
    let change = setting.kind.read(Raw::Word(word.as_ref())).unwrap_or_else(|error| panic!("{word}: {error}"));
    change(values);
}

#[test]
fn each_row_has_a_field_that_no_other_row_has() {
    // A value that the field does not have before.
    let other = |before: &Values, setting: &Setting| {
        let words = edges(&setting.kind).accepted;
        let changed = words.into_iter().find(|word| {
            let mut values = before.clone();
            apply(&mut values, setting, word);
            values != *before
        });
        changed.unwrap_or_else(|| panic!("{} changes nothing", setting.name()))
    };
    let unset = Values::unset();
    for one in SETTINGS {
        let mut alone = unset.clone();
        apply(&mut alone, one, &other(&unset, one));
        for another in SETTINGS.iter().filter(|another| another.name() != one.name()) {
            // In either order both must show.
            let word = other(&alone, another);
            let (mut first, mut second) = (alone.clone(), unset.clone());
            apply(&mut first, another, &word);
            apply(&mut second, another, &word);
            apply(&mut second, one, &other(&unset, one));
            assert_eq!(first, second, "{} and {}", one.name(), another.name());
        }
    }
}

#[test]
fn no_two_rows_have_a_name_in_common_and_each_says_what_it_is() {
    let mut names = BTreeSet::from(["--forget-missing"]);
    for setting in SETTINGS {
        let of_this = [setting.key, setting.variable, setting.flag.map(|flag| flag.name)];
        for name in of_this.into_iter().flatten() {
            assert!(names.insert(name), "{name} is there twice");
        }
        let (DefaultValue::Is(default) | DefaultValue::Described(default)) = setting.default;
        assert!(!default.is_empty() && !setting.help.is_empty(), "{}", setting.name());
        assert!(!setting.help.ends_with('.') && !setting.help.contains('|'), "{}", setting.name());
        assert!(setting.variable.is_none_or(|name| name.starts_with("NABU_")), "{}", setting.name());
        // A key is either a setting or a group of them.
        let is_group = |key| SETTINGS.iter().any(|other| other.key.is_some_and(|other| other.starts_with(key)));
        assert!(!is_group(&format!("{}.", setting.name())), "{}", setting.name());
    }
}

#[test]
fn the_parser_takes_heads_at_their_bounds() {
    for (head, target) in
        [(HEAD_BYTES_MIN, TARGET_BYTES_MIN), (HEAD_BYTES_MAX, TARGET_BYTES_MIN), (HEAD_BYTES_MAX, TARGET_BYTES_MAX)]
    {
        let limits = HeadLimits { head_bytes: head as usize, target_bytes: target as usize, fields: 128 };
        let mut parser = HeadParser::new(limits);
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(parser.parse(request).expect("valid").is_some(), "{limits:?}");
    }
}

#[test]
fn words_of_the_table_that_repeat_a_bound_have_it_right() {
    let row = |key: &str| SETTINGS.iter().find(|setting| setting.key == Some(key)).expect("a key");
    let memory = row("memory");
    assert!(memory.help.contains(&format!("at least {} for each core", size::exact(MEMORY_PER_CORE_MIN))));
    let DefaultValue::Described(default) = memory.default else { panic!("depends on the machine") };
    let bounds = format!("within {}..{}", size::exact(MEMORY_DEFAULT_MIN), size::exact(MEMORY_DEFAULT_MAX));
    assert!(default.ends_with(&bounds), "{default}");
}
