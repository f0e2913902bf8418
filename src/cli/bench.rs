//! `bench`: puts load on a server and measures it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use nabu_engine::types::BlobId;
use ureq::http::Method;

use super::address;
use super::client::{ApiOptions, Client};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::parallel;
use super::progress::Progress;
use crate::bench::mix::Mix;
use crate::bench::plan::{Extent, Pace, Plan, Reading, ServerProcesses};
use crate::bench::popularity::Popularity;
use crate::bench::report::Report;
use crate::bench::sizes::Sizes;
use crate::bench::target::{Access, Target, Template};
use crate::bench::{self, BenchError, Leftovers, RequestError, duration};
use crate::config::{machine, size};

const CONNECTIONS_MAX: u32 = 65_536;
/// Of each object in a store the id is kept.
const OBJECTS_MAX: u64 = 1 << 26;
const RATE_MAX: f64 = 1e9;
const CORES_MAX: u16 = 1_024;
/// Objects unless their number is given.
const OBJECTS_DEFAULT: u64 = 16;
/// Blobs that are removed at once after a run; their deletions share syncs.
const REMOVED_AT_ONCE: NonZeroUsize = NonZeroUsize::new(16).unwrap();
const SIZES_DEFAULT: &str = "1MiB";
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// Put load on a server and measure it
///
/// Uploads the objects first (what a store has already is skipped), warms up, measures, removes
/// from a store what it uploaded, and prints a table: requests and bytes a second, latencies of
/// each operation, errors, and CPU time of the client and of a server on this machine. Without
/// --url the server is a nabu-store at --api. With --url it is any HTTP server. Over https:// the
/// CPU time of the client includes encryption. GB are 10^9 bytes.
///
/// In a closed loop each connection sends its next request once the last one is answered. With
/// --rate requests are due at fixed times, and latencies count from these times, so a server that
/// stalls is charged for every request that it kept waiting; "service" is the time from when a
/// request was sent.
#[derive(Args)]
#[command(after_help = "\
Sizes:
  64MiB                       all the same
  4KiB,1MiB:3                 several, with weights
  lognormal:MEDIAN,SIGMA[,MAX]

Examples:
  nabu-store bench --sizes 64MiB --objects 8 --connections 4 --duration 10s
  nabu-store bench --mix get=90,put=5,head=4,range=1 --sizes lognormal:256KiB,1.5,64MiB --zipf 0.99 --verify
  nabu-store bench --rate 2000 --sizes 4KiB --connections 64 --hdr latency.hgrm
  nabu-store bench --mix put=1,delete=1 --sizes 1MiB
  nabu-store bench --url 'http://127.0.0.1:8080/files/{number}' --objects 100 --sizes 64KiB --prepare

Exit codes:
  0  done, even if requests failed
  1  a request failed, with --fail-on-error
  5  --verify found wrong content
  7  the server can't be reached
nabu-store --help lists the others.")]
pub struct Bench {
    /// The URLs of another server's objects, with the placeholders {number}, {key} and {size}; n in
    /// braces is short for {number}
    #[arg(long, value_name = "TEMPLATE", display_order = 10)]
    url: Option<String>,

    /// The method that uploads with --url: PUT or POST
    #[arg(long, value_name = "METHOD", default_value = "PUT", value_parser = parse_put_method, requires = "url", display_order = 11)]
    method_put: &'static str,

    /// The keys of the objects with --url, one per line, which also sets --objects. Without it a
    /// key is 16 hex characters
    #[arg(long, value_name = "FILE", requires = "url", conflicts_with = "objects", display_order = 12)]
    path_list: Option<PathBuf>,

    /// A header for every request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", display_order = 13)]
    headers: Vec<String>,

    /// The mix of requests, with weights: get, range, head, put, delete. A delete removes the
    /// oldest upload of this run; if there is none, it uploads
    #[arg(long, value_name = "MIX", default_value = "get", value_parser = Mix::parse, display_order = 20)]
    mix: Mix,

    /// How large objects are; see below [default: 1MiB]
    #[arg(long, value_name = "SIZES", value_parser = Sizes::parse, conflicts_with = "profile", display_order = 21)]
    sizes: Option<Sizes>,

    /// A predefined set of sizes: llm, the ten files of a published checkpoint of 16 GB
    #[arg(long, value_name = "NAME", value_parser = Sizes::profile, display_order = 22)]
    profile: Option<Sizes>,

    /// The bytes of a range
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_size, display_order = 23)]
    range_size: u64,

    /// How many objects to request [default: 16, or the files of the profile]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=OBJECTS_MAX), display_order = 24)]
    objects: Option<u64>,

    /// Request object i in proportion to 1/(i+1)^THETA; without this, all are equally likely
    #[arg(long, value_name = "THETA", value_parser = Popularity::parse_theta, display_order = 25)]
    zipf: Option<f64>,

    /// Request the objects one after the other, over and over, instead of at random
    #[arg(long, conflicts_with = "zipf", display_order = 25)]
    in_order: bool,

    /// Upload the objects first; the default without --url
    #[arg(long, overrides_with = "no_prepare", display_order = 26)]
    prepare: bool,

    /// Take the objects as uploaded by an earlier run with the same seed, sizes and number; the
    /// default with --url
    #[arg(long, display_order = 27)]
    no_prepare: bool,

    /// Leave what the run uploads in the store: the next run with the same seed, sizes and number
    /// finds its objects there
    #[arg(long, display_order = 28)]
    keep: bool,

    /// Connections, over all cores
    #[arg(long, short = 'n', value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)), display_order = 30)]
    connections: u32,

    /// Send this many requests per second, however fast the server answers: an open loop
    #[arg(long, value_name = "R", value_parser = parse_rate, display_order = 31)]
    rate: Option<f64>,

    /// How long to measure [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, conflicts_with = "requests", display_order = 32)]
    duration: Option<Duration>,

    /// How many requests to measure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), display_order = 33)]
    requests: Option<u64>,

    /// How long to run before measuring
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse, display_order = 34)]
    warmup: Duration,

    /// How long a connection may be silent
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse, display_order = 35)]
    timeout: Duration,

    /// Compare every byte of every body with what was stored, and ids and entity tags with the
    /// SHA-256. Costs the client time; uploads to a store are hashed before they are sent
    #[arg(long, conflicts_with = "discard", display_order = 40)]
    verify: bool,

    /// Let the kernel throw bodies away without copying them to the client: measures the server
    /// alone, not a transfer. Not over https://, where the client must decrypt them
    #[arg(long, display_order = 41)]
    discard: bool,

    /// The seed of contents, sizes and order. Uploads of the run itself have contents that no other
    /// run has
    #[arg(long, value_name = "N", default_value_t = 1, display_order = 42)]
    seed: u64,

    /// Threads of the client [default: one per CPU, at most one per connection]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(CORES_MAX)), conflicts_with = "cpus", display_order = 50)]
    cores: Option<u16>,

    /// The CPUs for the client, with a thread on each, such as 1 or 0,2-3
    #[arg(long, value_name = "LIST", value_parser = parse_cpus, display_order = 51)]
    cpus: Option<Cpus>,

    /// The processes of the server, whose CPU time is reported: auto (those that listen on its
    /// port), none, or numbers separated by commas
    #[arg(long, value_name = "PID", default_value = "auto", value_parser = parse_server, display_order = 52)]
    server_pid: ServerProcesses,

    /// Write the distribution of latencies in HdrHistogram's text format; several operations get a
    /// file each, with the name of the operation before the extension
    #[arg(long, value_name = "FILE", display_order = 60)]
    hdr: Option<PathBuf>,

    /// Exit with code 1 if any request failed
    #[arg(long, display_order = 61)]
    fail_on_error: bool,

    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    output: Output,
}

/// CPUs, in ascending order, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Cpus(Vec<usize>);

impl Bench {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let plan = self.plan()?;
        let leftovers = Leftovers::default();
        let result = bench::run(plan, &leftovers, self.output.is_watched()).map_err(failure);
        if !self.keep {
            self.remove(&leftovers.take());
        }
        let report = result?;
        if let Some(path) = &self.hdr {
            write_distributions(path, &report)?;
        }
        self.output.result(&report, || report.to_text())?;
        self.outcome(&report)
    }

    /// Deletes what the run uploaded. What can't be deleted is no failure of the measurement.
    fn remove(&self, ids: &[BlobId]) {
        if ids.is_empty() {
            return;
        }
        let progress = Progress::new(self.output, "removing", None);
        let client = Client::new(&self.api);
        let removed = client.and_then(|client| {
            let deleted = parallel::map(REMOVED_AT_ONCE, ids, |id| {
                match client.ask(Method::DELETE, &format!("/v1/blobs/{id}")) {
                    Err(failure) if failure.exit != Exit::NotFound => Err(failure),
                    _ => Ok(()),
                }
            });
            deleted.into_iter().collect::<Result<(), Failure>>()
        });
        if let Err(failure) = removed {
            progress.remark(&format!("blobs of this run stay in the store: {}", failure.message));
        }
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let target = self.target()?;
        if self.discard && target.tls.is_some() {
            return Err(Failure::usage(
                "--discard: what comes over https:// must be decrypted, so the kernel can't throw it away; \
                 leave --discard out",
            ));
        }
        let sizes = match (&self.sizes, &self.profile) {
            (Some(sizes), _) | (None, Some(sizes)) => sizes.clone(),
            (None, None) => Sizes::parse(SIZES_DEFAULT).expect("the default is a size"),
        };
        let objects = self.objects.or(target.keys()).or(sizes.files()).unwrap_or(OBJECTS_DEFAULT);
        let cores = match (&self.cpus, self.cores) {
            (Some(Cpus(cpus)), _) => cpus.len() as u16,
            (None, Some(cores)) => cores,
            (None, None) => machine::cores().min(self.connections as usize).min(usize::from(CORES_MAX)) as u16,
        };
        if self.connections < u32::from(cores) {
            return Err(Failure::usage(format!(
                "{cores} threads can't share {} connections: give --connections {cores} or more, or fewer \
                 --cores or --cpus",
                self.connections
            )));
        }
        if self.timeout.is_zero() {
            return Err(Failure::usage("--timeout 0s: a connection may be silent for 1ms at least"));
        }
        let extent = match (self.requests, self.duration) {
            (Some(requests), _) => Extent::Requests(requests),
            (None, duration) => Extent::Duration(duration.unwrap_or(DURATION_DEFAULT)),
        };
        if extent == Extent::Duration(Duration::ZERO) {
            return Err(Failure::usage("--duration 0s: nothing can be measured in no time; give 1s or more"));
        }
        Ok(Plan {
            prepare: self.mix.reads() && (self.prepare || target.is_store() && !self.no_prepare),
            target,
            mix: self.mix,
            sizes,
            range_size: self.range_size,
            objects,
            zipf_theta: self.zipf,
            in_order: self.in_order,
            pace: self.rate.map_or(Pace::Closed, |rate| Pace::Open { rate }),
            extent,
            warm_up: self.warmup,
            connections: self.connections,
            cores,
            cpus: self.cpus.as_ref().map(|cpus| cpus.0.clone()),
            reading: match (self.verify, self.discard) {
                (true, _) => Reading::Verify,
                (false, true) => Reading::Discard,
                (false, false) => Reading::Receive,
            },
            seed: self.seed,
            run: random_run()?,
            progress_timeout: self.timeout,
            server: self.server_pid.clone(),
        })
    }

    fn target(&self) -> Result<Target, Failure> {
        let token = self.api.token.as_deref();
        let access = Access { token: None, fields: &self.headers, cacert: self.api.cacert.as_deref() };
        let Some(url) = &self.url else {
            let base = address::check(&self.api.api)?;
            if token.is_some_and(|token| !token.trim().is_empty()) {
                address::refuse_exposed_token(&base, self.api.insecure_http)?;
            }
            return Target::store(&base, Access { token, ..access }).map_err(Failure::usage);
        };
        let keys = match &self.path_list {
            None => Vec::new(),
            Some(path) => {
                let failure = |error| Failure::io(format_args!("cannot read {}", path.display()), &error);
                let text = std::fs::read_to_string(path).map_err(failure)?;
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
        };
        if let Some(path) = self.path_list.as_ref().filter(|_| keys.is_empty()) {
            return Err(Failure::usage(format!("{} names no object: write one key a line", path.display())));
        }
        // The token of a store is nobody else's business: another server gets what --header says.
        let template = Template { put_method: self.method_put, keys, seed: self.seed };
        Target::template(url, access, template).map_err(Failure::usage)
    }

    /// What the exit code says of a run.
    fn outcome(&self, report: &Report) -> Result<(), Failure> {
        if report.wrong > 0 {
            let message = format!("{} answers had content other than what was stored", report.wrong);
            return Err(Failure::new(Exit::Verification, "wrong content", message));
        }
        let failed = report.failed + report.connect_errors;
        if report.requests == 0 && failed > 0 {
            let most = report.errors.iter().max_by_key(|(_, count)| **count).map_or("", |(kind, _)| kind.as_str());
            return Err(Failure::new(Exit::Failed, "no request succeeded", format!("no request succeeded: {most}")));
        }
        if self.fail_on_error && failed > 0 {
            return Err(Failure::new(
                Exit::Failed,
                "requests failed",
                format!("{failed} requests or connection attempts failed"),
            ));
        }
        Ok(())
    }
}

fn failure(error: BenchError) -> Failure {
    let message = error.to_string();
    match error {
        BenchError::Unreachable { .. } => Failure::new(Exit::Unreachable, "no answer", message),
        BenchError::Insecure { .. } => Failure::new(Exit::Unreachable, "TLS failed", message),
        BenchError::Cpus { .. } => Failure::usage(message),
        BenchError::Runtime(_) => Failure::new(Exit::Failed, "no ring", message),
        BenchError::Prepare(failure) => match failure.error {
            RequestError::Status(status) => {
                let hint = if status == 401 { "; set NABU_TOKEN" } else { "" };
                let exit = Exit::of_status(status);
                Failure { status: Some(status), ..Failure::new(exit, "prepare failed", format!("{message}{hint}")) }
            }
            error if error.is_wrong_content() => Failure::new(Exit::Verification, "wrong content", message),
            _ => Failure::new(Exit::Unreachable, "prepare failed", message),
        },
    }
}

fn write_distributions(path: &Path, report: &Report) -> Result<(), Failure> {
    let is_alone = report.distributions().count() <= 1;
    for (name, histogram) in report.distributions() {
        let path = if is_alone { path.to_owned() } else { path_of(path, name) };
        let failure = |error| Failure::io(format_args!("cannot write {}", path.display()), &error);
        let mut out = BufWriter::new(File::create(&path).map_err(failure)?);
        bench::write_percentiles(&mut out, histogram).and_then(|()| out.flush()).map_err(failure)?;
    }
    Ok(())
}

/// `latency.hgrm` for `get` is `latency.get.hgrm`.
fn path_of(path: &Path, operation: &str) -> PathBuf {
    match path.extension() {
        Some(extension) => path.with_extension(format!("{operation}.{}", extension.to_string_lossy())),
        None => path.with_extension(operation),
    }
}

fn random_run() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Exit::Failed, "no randomness", format!("can't get random numbers from the kernel: {error}"))
    })?;
    // Objects have the numbers below.
    Ok(u64::from_le_bytes(bytes) | 1 << 63)
}

fn parse_put_method(text: &str) -> Result<&'static str, String> {
    ["PUT", "POST"]
        .into_iter()
        .find(|method| text.eq_ignore_ascii_case(method))
        .ok_or_else(|| "uploads are made with PUT or POST".to_owned())
}

fn parse_size(text: &str) -> Result<u64, String> {
    size::parse(text)
        .filter(|size| *size > 0)
        .ok_or_else(|| "a size is a whole number of bytes, such as 64KiB".to_owned())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.trim().parse().ok().filter(|rate| (1e-3..=RATE_MAX).contains(rate));
    rate.ok_or_else(|| format!("a rate is a number of requests a second of 0.001 to {RATE_MAX}, such as 2000"))
}

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || "CPUs are numbers and ranges separated by commas, such as 1 or 0,2-3, each once".to_owned();
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last || last - first >= usize::from(CORES_MAX) {
            return Err(wrong());
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    let count = cpus.len();
    cpus.dedup();
    if count == cpus.len() && count <= usize::from(CORES_MAX) { Ok(Cpus(cpus)) } else { Err(wrong()) }
}

fn parse_server(text: &str) -> Result<ServerProcesses, String> {
    match text.trim() {
        "auto" => Ok(ServerProcesses::Find),
        "none" => Ok(ServerProcesses::Unknown),
        numbers => {
            let pids = numbers.split(',').map(|number| number.trim().parse().ok()).collect::<Option<Vec<u32>>>();
            pids.map(ServerProcesses::Given)
                .ok_or_else(|| "give auto, none, or process numbers separated by commas".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: Bench,
    }

    fn parse(args: &[&str]) -> Result<Bench, String> {
        let args = ["bench", "--api", "http://127.0.0.1:7070"].iter().chain(args);
        Line::try_parse_from(args).map(|line| line.bench).map_err(|error| error.to_string())
    }

    fn plan(args: &[&str]) -> Plan {
        parse(args)
            .and_then(|bench| bench.plan().map_err(|failure| failure.message))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn cpus_are_numbers_and_ranges() {
        assert_eq!(parse_cpus("1"), Ok(Cpus(vec![1])));
        assert_eq!(parse_cpus("4,0-2"), Ok(Cpus(vec![0, 1, 2, 4])));
        for wrong in ["", "x", "1,,2", "3-1", "1,1", "0-2,1", "-1", "0-99999"] {
            assert!(parse_cpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_store_is_prepared_and_another_server_is_not_unless_asked() {
        assert!(plan(&[]).prepare);
        assert!(!plan(&["--no-prepare"]).prepare);
        assert!(!plan(&["--mix", "put"]).prepare, "nothing is asked for");
        let url = ["--url", "http://127.0.0.1:1/{n}"];
        assert!(!plan(&url).prepare);
        assert!(plan(&[url[0], url[1], "--prepare"]).prepare);
    }

    #[test]
    fn a_profile_brings_its_number_of_objects() {
        assert_eq!(plan(&["--profile", "llm"]).objects, 10);
        assert_eq!(plan(&["--profile", "llm", "--objects", "3"]).objects, 3);
        assert_eq!(plan(&[]).objects, OBJECTS_DEFAULT);
    }

    #[test]
    fn every_core_has_a_connection() {
        let plan = plan(&["--cores", "3", "--connections", "8"]);
        assert_eq!([0, 1, 2].map(|core| plan.connections_of(core)), [3, 3, 2]);
        let failure = parse(&["--cores", "3", "--connections", "2"]).expect("parses").plan().expect_err("too few");
        assert!(failure.message.contains("--connections 3"), "{}", failure.message);
    }

    #[test]
    fn wrong_flags_name_the_value_and_the_remedy() {
        for (args, words) in [
            (&["--mix", "get=x"][..], ["get=x", "whole number"]),
            (&["--sizes", "5XB"], ["5XB", "64MiB"]),
            (&["--profile", "bert"], ["bert", "llm"]),
            (&["--rate", "0"], ["'0'", "such as 2000"]),
            (&["--zipf", "-1"], ["-1", ""]),
            (&["--duration", "fast"], ["fast", "10s"]),
            (&["--connections", "0"], ["0", "1..=65536"]),
            (&["--cpus", "a"], ["'a'", "0,2-3"]),
            (&["--server-pid", "nginx"], ["nginx", "auto"]),
            (&["--url", "http://127.0.0.1:1/{n}", "--method-put", "PATCH"], ["PATCH", "POST"]),
            (&["--duration", "1s", "--requests", "5"], ["--duration", "--requests"]),
            (&["--verify", "--discard"], ["--verify", "--discard"]),
            (&["--path-list", "x"], ["--url", ""]),
        ] {
            let error = parse(args).err().unwrap_or_else(|| panic!("{args:?} is taken"));
            assert!(words.iter().all(|word| error.contains(word)), "{args:?}: {error}");
        }
        for args in [
            &["--duration", "0s"][..],
            &["--timeout", "0s"],
            &["--url", "https://127.0.0.1/{n}", "--discard"],
            &["--url", "https://127.0.0.1/{n}", "--cacert", "/none"],
        ] {
            assert_eq!(parse(args).expect("parses").plan().expect_err("refused").exit, Exit::Usage);
        }
    }

    /// clap breaks a line where n stands in braces.
    #[test]
    fn help_shows_the_placeholders() {
        let help = <Line as clap::CommandFactory>::command().render_long_help().to_string();
        for word in ["{number}, {key}", "files/{number}' --objects"] {
            assert!(help.contains(word), "{word} in {help}");
        }
    }

    #[test]
    fn the_file_of_an_operation_keeps_its_extension() {
        assert_eq!(path_of(Path::new("a/latency.hgrm"), "get"), Path::new("a/latency.get.hgrm"));
        assert_eq!(path_of(Path::new("latency"), "put"), Path::new("latency.put"));
    }
}
