//! The Prometheus text format, version 0.0.4: families of samples, each with its help and type.
//!
//! What breaks the rules of the format or its conventions is an assertion: all names are in the
//! code.

use std::fmt::Write as _;

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// What the name of every family begins with.
const PREFIX: &str = "nabu_";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// The value of a sample. Counts stay whole numbers, however large.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Real(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Whole(value.into())
    }
}

/// Nanoseconds in seconds, the base unit of every duration.
pub fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// The labels of a sample.
pub type Labels<'l> = &'l [(&'static str, &'l str)];

/// Text in the making.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Into<Value>) {
        self.family(Kind::Counter, name, help).sample(&[], value);
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Into<Value>) {
        self.family(Kind::Gauge, name, help).sample(&[], value);
    }

    /// Begins a family; its samples follow at once.
    pub fn family<'t>(&'t mut self, kind: Kind, name: &'t str, help: &str) -> Family<'t> {
        assert!(is_name(name) && name.starts_with(PREFIX), "{name:?} is no name for a metric of ours");
        assert_eq!(
            kind == Kind::Counter,
            name.ends_with("_total"),
            "{name}: a counter, and nothing else, ends with _total"
        );
        assert!(!help.is_empty() && !help.contains(['\\', '\n', '"']), "{name}: a help of plain words");
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.name()).expect("a string takes everything");
        Family { out: &mut self.0, name, kind }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// A family whose samples are being written.
pub struct Family<'t> {
    out: &'t mut String,
    name: &'t str,
    kind: Kind,
}

impl Family<'_> {
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Into<Value>) -> &mut Self {
        assert_ne!(self.kind, Kind::Histogram, "{}: a histogram has buckets", self.name);
        self.line("", labels, None, value.into());
        self
    }

    /// A histogram: upper bounds in the unit of its name, each with how many values were at most
    /// that, ascending.
    pub fn histogram(
        &mut self,
        labels: Labels<'_>,
        cumulated: impl IntoIterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) -> &mut Self {
        assert_eq!(self.kind, Kind::Histogram, "{}: only a histogram has buckets", self.name);
        for (bound, below) in cumulated {
            self.line("_bucket", labels, Some(&bound.to_string()), below.into());
        }
        self.line("_bucket", labels, Some("+Inf"), count.into());
        self.line("_sum", labels, None, sum.into());
        self.line("_count", labels, None, count.into());
        self
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: Value) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        for (index, (name, value)) in labels.iter().copied().chain(bound).enumerate() {
            assert!(is_name(name) && !name.contains(':') && !name.starts_with("__"), "{name:?} is no name for a label");
            self.out.push(if index == 0 { '{' } else { ',' });
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(self.out, value);
            self.out.push('"');
        }
        if !labels.is_empty() || bound.is_some() {
            self.out.push('}');
        }
        match value {
            Value::Whole(value) => writeln!(self.out, " {value}"),
            Value::Real(value) => writeln!(self.out, " {value}"),
        }
        .expect("a string takes everything");
    }
}

/// A label's value as it stands between quotes.
fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

fn is_name(name: &str) -> bool {
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    starts && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_help_type_and_samples() {
        let mut text = Text::default();
        text.counter("nabu_things_total", "Things.", u64::MAX);
        text.family(Kind::Gauge, "nabu_ratio", "A ratio.").sample(&[("core", "0")], 0.5).sample(&[("core", "1")], 2.0);
        let bounds = [(0.000025, 1), (2.5, 3)];
        text.family(Kind::Histogram, "nabu_wait_seconds", "Waits.").histogram(&[("a", "b")], bounds, 0.25, 4);
        let expected = "\
# HELP nabu_things_total Things.
# TYPE nabu_things_total counter
nabu_things_total 18446744073709551615
# HELP nabu_ratio A ratio.
# TYPE nabu_ratio gauge
nabu_ratio{core=\"0\"} 0.5
nabu_ratio{core=\"1\"} 2
# HELP nabu_wait_seconds Waits.
# TYPE nabu_wait_seconds histogram
nabu_wait_seconds_bucket{a=\"b\",le=\"0.000025\"} 1
nabu_wait_seconds_bucket{a=\"b\",le=\"2.5\"} 3
nabu_wait_seconds_bucket{a=\"b\",le=\"+Inf\"} 4
nabu_wait_seconds_sum{a=\"b\"} 0.25
nabu_wait_seconds_count{a=\"b\"} 4
";
        assert_eq!(String::from_utf8(text.into_bytes()).expect("text"), expected);
    }

    #[test]
    fn what_would_end_a_label_early_is_escaped() {
        let mut text = Text::default();
        text.family(Kind::Gauge, "nabu_x", "X.").sample(&[("v", "a\\b\"c\nd{}=,")], 1u64);
        let text = String::from_utf8(text.into_bytes()).expect("text");
        assert!(text.ends_with("nabu_x{v=\"a\\\\b\\\"c\\nd{}=,\"} 1\n"), "{text}");
    }

    #[test]
    #[should_panic = "ends with _total"]
    fn a_counter_is_named_as_one() {
        Text::default().counter("nabu_things", "Things.", 1u64);
    }
}
