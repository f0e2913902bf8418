//! Layers, and the exact words of every message. Bounds are the matter of `rows`.

mod cluster;
mod rows;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use nabu_engine::store::Missing;

use super::bounds::MEMORY_PER_CORE_MIN;
use super::*;

const MACHINE: Machine = Machine { cores: 8, memory_bytes: Some(16 << 30) };

/// What a test gives to [`load`].
#[derive(Default)]
struct Given {
    flags: Flags,
    variables: HashMap<&'static str, OsString>,
    file: Option<tempfile::NamedTempFile>,
}

impl Given {
    fn file(text: &str) -> Self {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("written");
        let mut given = Self { file: Some(file), ..Self::default() };
        let path = given.file.as_ref().expect("just made").path().to_owned();
        given.flags.give("--config", path);
        given
    }

    fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.into());
        self
    }

    fn flag(mut self, name: &'static str, value: &str) -> Self {
        self.flags.give(name, value);
        self
    }

    fn load(&self) -> Result<Config, ConfigError> {
        load(&self.flags, &|name| self.variables.get(name).cloned(), &MACHINE)
    }

    fn config(&self) -> Config {
        self.load().expect("a valid configuration")
    }

    /// The messages, with the path of the file as `FILE`.
    fn messages(&self) -> Vec<String> {
        let text = self.load().expect_err("an invalid configuration").to_string();
        let path = self.file.as_ref().map_or_else(|| "no file".to_owned(), |file| file.path().display().to_string());
        text.lines().map(|line| line.replace(&path, "FILE")).collect()
    }
}

/// The keys in a group, each once, as messages list them.
fn keys_below(group: &str) -> String {
    let keys = SETTINGS.iter().filter_map(|setting| setting.key?.strip_prefix(group));
    let mut keys: Vec<&str> = keys.map(|key| key.split('.').next().expect("a key")).collect();
    keys.dedup();
    keys.join(", ")
}

fn loopback() -> Vec<Network> {
    ["127.0.0.0/8", "::1"].map(|network| network.parse().expect("a network")).into()
}

#[test]
fn with_nothing_given_every_value_has_its_default() {
    let config = Given::default().config();
    assert_eq!(config.data, [Path::new("./nabu-data")]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:7070");
    assert_eq!(config.ops_listen, None);
    assert_eq!((config.cores, config.memory_bytes), (8, 4 << 30));
    assert_eq!((config.token_file, config.segment_size), (None, None));
    assert_eq!(config.scrub_interval, Some(Duration::from_secs(14 * 86_400)));
    assert_eq!(config.on_missing, Missing::Refuse);
    let limits = &config.limits;
    assert_eq!(limits.connections_max, 65_536);
    assert_eq!(limits.connections_per_address_max, 32_768);
    assert_eq!(limits.failed_logins_per_minute, 10);
    assert_eq!(limits.exempt_addresses, loopback());
    assert_eq!(limits.head_bytes_max, 16 << 10);
    assert_eq!(limits.target_bytes_max, 8 << 10);
    assert_eq!(limits.json_bytes_max, 64 << 20);
    assert_eq!(limits.blob_bytes_max, 5 << 40);
    assert_eq!(limits.head_timeout_ms, 10_000);
    assert_eq!(limits.idle_timeout_ms, 75_000);
    assert_eq!(limits.progress_timeout_ms, 30_000);
    assert_eq!(limits.shutdown_timeout_ms, 30_000);
    assert_eq!(limits.disk_timeout_ms, 30_000);
    let access = AccessOptions { enabled: false, sample: SAMPLE_ALWAYS };
    let log =
        LogOptions { level: "info".into(), format: LogFormat::Text, access, audit: false, slow_request_ms: 1_000 };
    assert_eq!(config.log, log);
}

#[test]
fn default_memory_is_a_quarter_within_bounds_and_enough_for_the_cores() {
    for (cores, memory_bytes, expected) in [
        (2, Some(8 << 30), 2 << 30),
        (2, Some(512 << 20), 256 << 20),
        (2, Some(1 << 40), 64 << 30),
        (64, Some(1 << 30), 64 * MEMORY_PER_CORE_MIN),
        (2, None, 256 << 20),
    ] {
        let machine = Machine { cores, memory_bytes };
        let config = load(&Flags::default(), &|_| None, &machine).expect("defaults are valid");
        assert_eq!(config.memory_bytes, expected, "{machine:?}");
    }
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let check_log = |log: &LogOptions, level: &str, format, enabled, sample, slow_request_ms| {
        assert_eq!((&*log.level, log.format, log.slow_request_ms), (level, format, slow_request_ms));
        assert_eq!(log.access, AccessOptions { enabled, sample });
    };
    let file = "cores: 1\nlisten: 127.0.0.1:1\nmemory: 64MiB\ndata: /file\ntoken_file: /file.tokens\nlog: {level: warn, format: json, access: {enabled: true, sample: 0.25}, slow_request_ms: 0}\n";
    let given = Given::file(file);
    let config = given.config();
    assert_eq!((config.cores, config.listen.port(), config.memory_bytes), (1, 1, 64 << 20));
    check_log(&config.log, "warn", LogFormat::Json, true, 250_000, 0);

    let given = given
        .variable("NABU_CORES", "2")
        .variable("NABU_LISTEN", "127.0.0.1:2")
        .variable("NABU_MEMORY", "128MiB")
        .variable("NABU_DATA", "/env/a:/env/b")
        .variable("NABU_TOKEN_FILE", "/env.tokens")
        .variable("NABU_LOG", "debug")
        .variable("NABU_ACCESS_LOG", "false")
        .variable("NABU_ACCESS_LOG_SAMPLE", "1")
        .variable("NABU_SLOW_REQUEST_MS", "20");
    let config = given.config();
    assert_eq!((config.cores, config.listen.port(), config.memory_bytes), (2, 2, 128 << 20));
    assert_eq!(config.data, [Path::new("/env/a"), Path::new("/env/b")]);
    assert_eq!(config.token_file.as_deref(), Some(Path::new("/env.tokens")));
    check_log(&config.log, "debug", LogFormat::Json, false, 1_000_000, 20);

    let config = given
        .flag("--cores", "3")
        .flag("--listen", "127.0.0.1:3")
        .flag("--memory", "256M")
        .flag("--data", "/flag:with colon")
        .flag("--token-file", "/flag.tokens")
        .flag("--log-level", "trace")
        .flag("--log-format", "text")
        .flag("--access-log", "true")
        .flag("--access-log-sample", "0.00001")
        .flag("--slow-request-ms", "30")
        .config();
    assert_eq!((config.cores, config.listen.port(), config.memory_bytes), (3, 3, 256 << 20));
    assert_eq!(config.data, [Path::new("/flag:with colon")]);
    assert_eq!(config.token_file.as_deref(), Some(Path::new("/flag.tokens")));
    check_log(&config.log, "trace", LogFormat::Text, true, 10, 30);
}

#[test]
fn a_file_may_set_everything() {
    let config = Given::file(
        "data:\n  - /srv/a\n  - /srv/b\nlisten: \"[::1]:8080\"\nsegment_size: 256MiB\nscrub_interval: 30d\nlimits:\n  connections_max: 10\n  \
         head_bytes_max: 32KiB\n  target_bytes_max: 4096\n  json_bytes_max: 1M\n  blob_bytes_max: 1GiB\n  head_timeout_ms: 100\n  \
         idle_timeout_ms: 200\n  progress_timeout_ms: 300\n  shutdown_timeout_ms: 0\n  disk_timeout_ms: 1000\nlog:\n  level: warn,nabu_store::node=trace\n",
    )
    .config();
    assert_eq!(config.data, [Path::new("/srv/a"), Path::new("/srv/b")]);
    assert_eq!(config.listen.to_string(), "[::1]:8080");
    assert_eq!(config.segment_size, Some(256 << 20));
    assert_eq!(config.scrub_interval, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(Given::file("scrub_interval: off\n").config().scrub_interval, None);
    assert_eq!(Given::file("degraded: true\n").config().on_missing, Missing::Serve);
    let mut given = Given::file("degraded: true\n");
    given.flags.forget_missing = true;
    assert_eq!(given.config().on_missing, Missing::Forget);
    let limits = &config.limits;
    assert_eq!(limits.connections_max, 10);
    assert_eq!(limits.connections_per_address_max, 5);
    assert_eq!(limits.exempt_addresses, loopback());
    assert_eq!(limits.head_bytes_max, 32 << 10);
    assert_eq!(limits.target_bytes_max, 4096);
    assert_eq!(limits.json_bytes_max, 1 << 20);
    assert_eq!(limits.blob_bytes_max, 1 << 30);
    assert_eq!(limits.head_timeout_ms, 100);
    assert_eq!(limits.idle_timeout_ms, 200);
    assert_eq!(limits.progress_timeout_ms, 300);
    assert_eq!(limits.shutdown_timeout_ms, 0);
    assert_eq!(limits.disk_timeout_ms, 1000);
    assert_eq!(config.log.level, "warn,nabu_store::node=trace");
}

#[test]
fn an_empty_file_and_an_empty_variable_set_nothing() {
    assert_eq!(Given::file("").config().cores, 8);
    assert_eq!(Given::file("# nothing yet\n").variable("NABU_CORES", "").config().cores, 8);
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let mut given = Given::file("cores: 5\n");
    let path = given.file.as_ref().expect("made above").path().to_owned();
    given.flags = Flags::default();
    given.variables.insert("NABU_CONFIG", path.into());
    assert_eq!(given.config().cores, 5);
}

#[test]
fn host_names_and_both_families_are_accepted() {
    for (listen, expected) in [
        ("localhost:7070", "127.0.0.1:7070"),
        ("[::1]:7070", "[::1]:7070"),
        ("0.0.0.0:0", "0.0.0.0:0"),
        ("10.1.2.3:65535", "10.1.2.3:65535"),
    ] {
        let config = Given::default().variable("NABU_LISTEN", listen).config();
        assert_eq!(config.listen.to_string(), expected);
    }
}

#[test]
fn messages_about_a_file_name_file_line_key_value_and_remedy() {
    const LISTEN: &str = "must be HOST:PORT, such as 127.0.0.1:7070, localhost:7070 or \"[::1]:7070\"";
    for (text, message) in [
        ("# c\nlimits:\n  head_timeout_ms: 5\n", "FILE:3: limits.head_timeout_ms: must be 100..600000 (got 5)".to_owned()),
        ("limits:\n  connections_max: -1\n", "FILE:2: limits.connections_max: must be 1..1048576 (got -1)".into()),
        ("limits: {connections_max: many}\n", "FILE:1: limits.connections_max: must be a whole number, 1..1048576 (got \"many\")".into()),
        ("limits: {idle_timeout_ms: 1.5}\n", "FILE:1: limits.idle_timeout_ms: must be a whole number, 100..86400000 (got 1.5)".into()),
        ("limits: {head_bytes_max: 2MiB}\n", "FILE:1: limits.head_bytes_max: must be 1KiB..64KiB (got \"2MiB\")".into()),
        ("limits: 5\n", "FILE:1: limits: must be a map of keys below it (got 5)".into()),
        ("\nlimits:\n  conections_max: 5\n", "FILE:3: limits.conections_max: unknown key; did you mean connections_max?".into()),
        ("head_bytes_max: 1KiB\n", "FILE:1: head_bytes_max: unknown key; did you mean head_bytes_max below limits?".into()),
        ("limits.head_bytes_max: 1KiB\n", "FILE:1: limits.head_bytes_max: unknown key; did you mean head_bytes_max below limits?".into()),
        (
            "limits: {requests: 5}\n",
            format!("FILE:1: limits.requests: unknown key; known keys are {}", keys_below("limits.")),
        ),
        ("port: 7070\n", format!("FILE:1: port: unknown key; known keys are {}", keys_below(""))),
        ("log:\n  colour: true\n", format!("FILE:2: log.colour: unknown key; known keys are {}", keys_below("log."))),
        ("log:\n  access: true\n", "FILE:2: log.access: must be a map of keys below it (got true)".into()),
        (
            "log:\n  access:\n    rate: 1\n",
            "FILE:3: log.access.rate: unknown key; known keys are enabled, sample".into(),
        ),
        ("log: {access: {enabled: 1}}\n", "FILE:1: log.access.enabled: must be true or false (got 1)".into()),
        ("log: {access: {sample: 1.5}}\n", "FILE:1: log.access.sample: must be a number from 0 to 1, such as 0.01 for one request in a hundred (got 1.5)".into()),
        ("log: {access: {sample: 0.0000001}}\n", "FILE:1: log.access.sample: must be 0, or at least 0.000001: one request in a million (got 0.0000001)".into()),
        ("log: {slow_request_ms: -1}\n", "FILE:1: log.slow_request_ms: must be 0..3600000 (got -1)".into()),
        ("log: {level: loud}\n", "FILE:1: log.level: must be one of off, error, warn, info, debug, trace, or a list such as warn,nabu_store=debug (got \"loud\")".into()),
        ("log: {format: xml}\n", "FILE:1: log.format: must be text or json (got \"xml\")".into()),
        ("cores: 0\n", "FILE:1: cores: must be 1..1024 (got 0)".into()),
        ("cores: \"4\"\n", "FILE:1: cores: must be a whole number, 1..1024 (got \"4\")".into()),
        ("cores:\n", "FILE:1: cores: has no value; give it one or remove the line".into()),
        ("cores: 18446744073709551615\n", "FILE:1: cores: must be 1..1024 (got 18446744073709551615)".into()),
        ("memory: 1MiB\n", "FILE:1: memory: must be 16MiB..64TiB (got \"1MiB\")".into()),
        ("memory: lots\n", "FILE:1: memory: must be a size such as 512MiB or 2G, 16MiB..64TiB (got \"lots\")".into()),
        ("cores: 4\nmemory: 32MiB\n", "FILE:2: memory: must be at least 16MiB for each core, 64MiB for 4 cores; give more, or fewer cores (got 32MiB)".into()),
        ("cores: 1024\nmemory: 1GiB\n", "FILE:2: memory: must be at least 16MiB for each core, 16GiB for 1024 cores; give more, or fewer cores (got 1GiB)".into()),
        ("memory: 1TiB\n", "FILE:1: memory: must fit in the 17179869184 bytes of memory that this process may use (got 1TiB)".into()),
        ("segment_size: 1048575\n", "FILE:1: segment_size: must be 1MiB..1GiB (got 1048575)".into()),
        ("segment_size: 20000000\n", "FILE:1: segment_size: must be a multiple of 1MiB (got 20000000)".into()),
        (
            "scrub_interval: 14\n",
            "FILE:1: scrub_interval: must be off, or 1s..365d with s, m, h or d after the number, such as 14d (got \
             14)".into(),
        ),
        (
            "scrub_interval: 366d\n",
            "FILE:1: scrub_interval: must be off, or 1s..365d with s, m, h or d after the number, such as 14d (got \
             \"366d\")".into(),
        ),
        ("listen: 7070\n", format!("FILE:1: listen: {LISTEN} (got 7070)")),
        ("listen: localhost\n", format!("FILE:1: listen: {LISTEN} (got \"localhost\")")),
        ("listen: \":7070\"\n", format!("FILE:1: listen: {LISTEN}; 0.0.0.0:7070 listens on all addresses (got \":7070\")")),
        ("listen: \"::1:7070\"\n", format!("FILE:1: listen: {LISTEN} (got \"::1:7070\")")),
        ("listen: \"localhost:70700\"\n", format!("FILE:1: listen: {LISTEN} (got \"localhost:70700\")")),
        ("data: []\n", "FILE:1: data: must be a path or a list of paths, none of them empty (got a list)".into()),
        ("data: 5\n", "FILE:1: data: must be a path or a list of paths, none of them empty (got 5)".into()),
        ("data: [/a, 5]\n", "FILE:1: data: must be a path or a list of paths, none of them empty (got a list)".into()),
        ("data: [/a, /b, /a]\n", "FILE:1: data: must name each directory once; /a appears twice (got a list)".into()),
        ("token_file: {}\n", "FILE:1: token_file: must be a path (got a map)".into()),
        ("limits:\n  head_bytes_max: 4096\n", "FILE:2: limits.head_bytes_max: target_bytes_max (8192) must be less than head_bytes_max (4096): the target is a part of the head".into()),
        ("- a\n", "FILE:1: must be a map of keys such as `listen: 127.0.0.1:7070` (got a list)".into()),
    ] {
        assert_eq!(Given::file(text).messages(), [message], "{text:?}");
    }
}

#[test]
fn a_file_may_say_who_may_connect_and_how_often() {
    let config = Given::file(
        "tls:\n  cert: /c\n  key: /k\n  client_ca: /ca\n  kernel: off\nauth:\n  jwt:\n    keys: /jwks\n    algorithms: [RS256, EdDSA]\n    \
         issuer: https://idp\n    audience: [a, b]\n    role_claim: roles\n    leeway_seconds: 0\nrate_limit: {requests_per_second: 10, bytes_per_second: 1GiB}\n",
    )
    .config();
    let tls = config.tls.expect("TLS");
    assert_eq!((tls.cert.as_path(), tls.key.as_path()), (Path::new("/c"), Path::new("/k")));
    assert_eq!((tls.client_ca.as_deref(), tls.client_auth), (Some(Path::new("/ca")), ClientAuth::Required));
    assert!(!tls.kernel);
    let jwt = config.jwt.expect("JWTs");
    assert_eq!(jwt.algorithms, [JwtAlgorithm::Rs256, JwtAlgorithm::EdDsa]);
    assert_eq!((jwt.issuers, jwt.audiences), (vec!["https://idp".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!((jwt.role_claim.as_str(), jwt.leeway_seconds), ("roles", 0));
    let expected = RateLimit { requests_per_second: Some(10), burst: None, bytes_per_second: Some(1 << 30) };
    assert_eq!(config.rate_limit, expected);
}

#[test]
fn without_a_word_there_is_neither_tls_nor_a_jwt_nor_a_limit() {
    let config = Given::default().config();
    assert_eq!((config.tls, config.jwt, config.rate_limit.is_off()), (None, None, true));
}

#[test]
fn the_two_ports_have_different_addresses() {
    let config = Given::file("ops_listen: 127.0.0.1:7071\n").config();
    assert_eq!(config.ops_listen, Some("127.0.0.1:7071".parse().expect("an address")));
    for taken in ["listen: 127.0.0.1:1\nops_listen: 127.0.0.1:1\n", "\nops_listen: 127.0.0.1:7070\n"] {
        let messages = Given::file(taken).messages();
        assert!(
            messages[0].starts_with("FILE:2: ops_listen: must be a different address from listen (got "),
            "{messages:?}"
        );
    }
    Given::file("listen: 127.0.0.1:0\nops_listen: 127.0.0.1:0\n").config();
}

#[test]
fn tls_may_be_set_by_flags_over_variables_over_the_file() {
    let given = Given::file("tls: {cert: /file, key: /file.key, client_ca: /ca, client_auth: none}\n");
    let tls = given.config().tls.expect("TLS");
    assert_eq!((tls.client_ca, tls.client_auth, tls.kernel), (None, ClientAuth::None, true));
    let given = given.variable("NABU_TLS_CERT", "/variable").variable("NABU_TLS_CLIENT_AUTH", "optional");
    let tls = given.config().tls.expect("TLS");
    assert_eq!((tls.cert.as_path(), tls.key.as_path()), (Path::new("/variable"), Path::new("/file.key")));
    assert_eq!((tls.client_ca.as_deref(), tls.client_auth), (Some(Path::new("/ca")), ClientAuth::Optional));
    let tls = given.flag("--tls-cert", "/flag").config().tls.expect("TLS");
    assert_eq!(tls.cert, Path::new("/flag"));
}

#[test]
fn settings_of_security_that_miss_their_other_half_are_named() {
    for (text, message) in [
        ("tls: {cert: /c}\n", "FILE:1: tls: TLS needs a private key: give tls.key, NABU_TLS_KEY or --tls-key too"),
        ("tls:\n  key: /k\n", "FILE:1: tls: TLS needs a certificate: give tls.cert, NABU_TLS_CERT or --tls-cert too"),
        (
            "tls: {cert: /c, key: /k,\n  client_auth: optional}\n",
            "FILE:2: tls.client_auth: client certificates need the authorities that signed them: give tls.client_ca too",
        ),
        ("tls: {client_auth: maybe}\n", "FILE:1: tls.client_auth: must be none, optional or required (got \"maybe\")"),
        ("tls: {kernel: always}\n", "FILE:1: tls.kernel: must be auto or off (got \"always\")"),
        (
            "tls: {certificate: /c}\n",
            "FILE:1: tls.certificate: unknown key; known keys are cert, key, client_ca, client_auth, kernel",
        ),
        ("auth: {jwt: {}}\n", "FILE:1: auth.jwt: needs the keys that tokens are signed with: give auth.jwt.keys too"),
        ("auth: {oidc: 1}\n", "FILE:1: auth.oidc: unknown key; known keys are jwt"),
        (
            "auth: {jwt: {keys: /k, algorithms: [none]}}\n",
            "FILE:1: auth.jwt.algorithms: must be one of HS256, RS256, ES256, EdDSA, or a list of them (got a list)",
        ),
        (
            "auth: {jwt: {keys: /k, issuer: []}}\n",
            "FILE:1: auth.jwt.issuer: must be a string or a list of 1..64 strings, none of them empty (got a list)",
        ),
        (
            "auth: {jwt: {keys: /k, leeway_seconds: 4000}}\n",
            "FILE:1: auth.jwt.leeway_seconds: must be 0..3600 (got 4000)",
        ),
        (
            "rate_limit: {burst: 5}\n",
            "FILE:1: rate_limit.burst: is the burst of a rate that isn't set: give rate_limit.requests_per_second too",
        ),
        (
            "rate_limit: {requests_per_second: 0}\n",
            "FILE:1: rate_limit.requests_per_second: must be 1..1000000 (got 0)",
        ),
        ("rate_limit: {bytes_per_second: 1}\n", "FILE:1: rate_limit.bytes_per_second: must be 64KiB..1TiB (got 1)"),
    ] {
        assert_eq!(Given::file(text).messages(), [message], "{text:?}");
    }
    assert_eq!(
        Given::default().variable("NABU_TLS_KEY", "/k").messages(),
        ["NABU_TLS_KEY=/k: TLS needs a certificate: give tls.cert, NABU_TLS_CERT or --tls-cert too"]
    );
}

#[test]
fn a_file_that_is_no_yaml_is_refused_with_its_line() {
    for (text, line) in
        [("cores: 4\nlisten: [1,\n", "FILE:"), ("cores: 1\ncores: 2\n", "FILE:2: "), ("a: b: c\n", "FILE:1: ")]
    {
        let messages = Given::file(text).messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].starts_with(line) && messages[0].contains("not valid YAML: "), "{messages:?}");
    }
}

#[test]
fn messages_about_variables_and_flags_show_name_and_value() {
    let cases = [
        ("NABU_CORES", "abc", "NABU_CORES=abc: must be a whole number, 1..1024"),
        ("NABU_CORES", "0", "NABU_CORES=0: must be 1..1024"),
        ("NABU_MEMORY", "12X", "NABU_MEMORY=12X: must be a size such as 512MiB or 2G, 16MiB..64TiB"),
        (
            "NABU_MEMORY",
            "16MiB",
            "NABU_MEMORY=16MiB: must be at least 16MiB for each core, 128MiB for 8 cores; give more, or fewer cores",
        ),
        ("NABU_DATA", "/a::/b", "NABU_DATA=/a::/b: must be a path or a list of paths, none of them empty"),
        ("NABU_LOG_FORMAT", "xml", "NABU_LOG_FORMAT=xml: must be text or json"),
        ("NABU_CONFIG", "/no/such", "NABU_CONFIG=/no/such: cannot be opened: No such file or directory (os error 2)"),
    ];
    for (name, value, message) in cases {
        assert_eq!(Given::default().variable(name, value).messages(), [message]);
    }
    let given = Given::default()
        .flag("--cores", "many")
        .flag("--memory", "-5")
        .flag("--data", "/a")
        .flag("--data", "/a")
        .flag("--config", "/no/such");
    assert_eq!(
        given.messages(),
        [
            "--data: must name each directory once; /a appears twice",
            "--cores many: must be a whole number, 1..1024",
            "--memory -5: must be 16MiB..64TiB",
            "--config /no/such: cannot be opened: No such file or directory (os error 2)",
        ]
    );
}

#[test]
fn a_wrong_value_is_reported_also_where_a_higher_layer_overrides_it() {
    let given = Given::file("cores: 0\nmemory: 5\n").variable("NABU_CORES", "no").flag("--cores", "1");
    assert_eq!(
        given.messages(),
        [
            "NABU_CORES=no: must be a whole number, 1..1024",
            "FILE:1: cores: must be 1..1024 (got 0)",
            "FILE:2: memory: must be 16MiB..64TiB (got 5)",
        ]
    );
}

#[test]
fn cores_that_would_need_more_memory_than_there_is_are_refused() {
    let machine = Machine { cores: 2, memory_bytes: Some(100 << 20) };
    let given = Given::default().flag("--cores", "7");
    let error = load(&given.flags, &|_| None, &machine).expect_err("too many");
    assert_eq!(
        error.to_string(),
        "--cores 7: must be fewer: each needs at least 16MiB of memory, which is 112MiB for 7 cores, and this process \
         may use 104857600 bytes"
    );
    let given = Given::default().flag("--cores", "6");
    assert_eq!(load(&given.flags, &|_| None, &machine).expect("they fit").cores, 6);
}

#[test]
fn a_server_can_say_what_each_setting_is_and_by_what() {
    let given = Given::file("cores: 3\ndata: [/a, /b]\n").variable("NABU_LOG", "warn").flag("--memory", "1GiB");
    let path = given.file.as_ref().expect("made above").path().display().to_string();
    let lines: Vec<String> = given.config().effective.iter().map(|setting| setting.to_string()).collect();
    for line in [
        format!("cores is 3, by {path}:1"),
        format!("data is /a, /b, by {path}:2"),
        "log.level is warn, by NABU_LOG".to_owned(),
        "memory is 1GiB, by --memory".to_owned(),
        "limits.head_bytes_max is 16KiB, by default".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line} in {lines:?}");
    }
}

#[test]
fn a_host_without_an_address_is_named() {
    let messages = Given::default().variable("NABU_LISTEN", "no-such-host.invalid:7070").messages();
    assert!(
        messages[0]
            .starts_with("NABU_LISTEN=no-such-host.invalid:7070: the host \"no-such-host.invalid\" has no address"),
        "{messages:?}"
    );
}
