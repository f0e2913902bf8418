//! The table of settings: one row says everything about one. The file, the environment and the
//! flags are read by it, messages, `--help` and `docs/configuration.md` are made from it.
//!
//! To add a setting, add its row here and the field of [`Config`](super::server::Config) that holds
//! its value, or of `Values` where the value depends on others (`settle` resolves it then). This
//! renews the documentation: `NABU_UPDATE_DOCS=1 cargo test -p nabu-store --lib config`.
//!
//! Rows of a group stand together, in the order of the documentation. Bounds are what the code can
//! keep: `bounds` has those with a reason.

use nabu_engine::store::BLOB_SIZE_MAX;

use super::bounds::{
    ANSWER_RATE_MIN_MAX, CORES_MAX, DAY_MS, HEAD_BYTES_MAX, HEAD_BYTES_MIN, HOUR_MS, JOIN_MAX, MEMORY_MAX,
    MEMORY_PER_CORE_MIN, OUT_AFTER, SECOND_MS, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN, SEGMENT_SIZE_STEP, TARGET_BYTES_MAX,
    TARGET_BYTES_MIN,
};
use super::cluster::StaleReads;
use super::kind::Kind;
use super::log::LogFormat;
use super::number::Number;
use super::security::{BYTES, ClientAuth, REQUESTS};
use super::setting::Setting;

pub static SETTINGS: &[Setting] = &[
    Setting::outside_the_file(Kind::Path(|values| &mut values.config_file))
        .variable("NABU_CONFIG")
        .flag("--config", "FILE")
        .default_described("no file is read")
        .help("The configuration file, in YAML, at most 1MiB"),
    Setting::new("data", Kind::Paths(|values| &mut values.config.data))
        .variable("NABU_DATA")
        .flag("--data", "DIR")
        .default("./nabu-data")
        .help(
            "A data directory, created if it doesn't exist; use one for each disk. For several, repeat the flag, \
             put `:` between them in the variable, or give a list in the file",
        ),
    Setting::new("listen", Kind::Listen(|values| &mut values.config.listen))
        .variable("NABU_LISTEN")
        .flag("--listen", "HOST:PORT")
        .default("127.0.0.1:7070")
        .help(
            "The address to listen on. A name stands for its first IPv4 address, or for its first address if it has \
             no IPv4 one",
        ),
    Setting::new("ops_listen", Kind::Listen(|values| &mut values.config.ops_listen))
        .variable("NABU_OPS_LISTEN")
        .flag("--ops-listen", "HOST:PORT")
        .default_described("none")
        .help("A second address, for health and metrics only, with its own limit on connections"),
    Setting::new("cores", Kind::count(1, CORES_MAX as u64, |values| &mut values.cores))
        .variable("NABU_CORES")
        .flag("--cores", "N")
        .default_described("all that the process may use")
        .help("Cores to use, with one thread on each"),
    Setting::new("memory", Kind::bytes(MEMORY_PER_CORE_MIN, MEMORY_MAX, |values| &mut values.memory_bytes))
        .variable("NABU_MEMORY")
        .flag("--memory", "SIZE")
        .default_described("a quarter of the memory that the process may use, within 256MiB..64GiB")
        .help(
            "Memory for the cache and for buffers: at least 16MiB for each core, and no more than the machine \
             or the control group allows",
        ),
    Setting::new("token_file", Kind::Path(|values| &mut values.config.token_file))
        .variable("NABU_TOKEN_FILE")
        .flag("--token-file", "FILE")
        .default_described("an admin token in `admin.token` in the first data directory")
        .help("A file with one token per line: `ROLE SHA256HEX [NAME]`, as `nabu-store token new` prints it"),
    Setting::new(
        "segment_size",
        Kind::Number(Number::bytes(SEGMENT_SIZE_MIN, SEGMENT_SIZE_MAX).in_steps_of(SEGMENT_SIZE_STEP), |values| {
            &mut values.config.segment_size
        }),
    )
    .default_described("depends on the size of the file system")
    .help("The size of new segments"),
    Setting::new("scrub_interval", Kind::Interval(|values| &mut values.config.scrub_interval))
        .default("14d")
        .help("How often everything stored is reread and compared with its checksums and hashes"),
    Setting::new("degraded", Kind::Switch(|values| &mut values.degraded))
        .variable("NABU_DEGRADED")
        .flag("--degraded", "BOOL")
        .default("false")
        .help("Start even if data directories are missing, and serve what the others hold"),
    Setting::new("limits.connections_max", Kind::count(1, 1 << 20, |values| &mut values.config.limits.connections_max))
        .default("65536")
        .help("The most open connections, over all cores; further ones are answered with `503`"),
    Setting::new(
        "limits.connections_per_address_max",
        Kind::count(1, 1 << 20, |values| &mut values.connections_per_address_max),
    )
    .default_described("half of `limits.connections_max`")
    .help("The most open connections from one address, or one /64 of IPv6; further ones are answered with `503`"),
    Setting::new(
        "limits.failed_logins_per_minute",
        Kind::count(1, 1_000_000, |values| &mut values.config.limits.failed_logins_per_minute),
    )
    .default("10")
    .help(
        "The most wrong tokens per minute, and at once, from one address or one /64 of IPv6; after that its \
         requests are answered with `429`, and their tokens aren't checked",
    ),
    Setting::new("limits.exempt_addresses", Kind::Networks(|values| &mut values.config.limits.exempt_addresses))
        .default_described("the loopback addresses")
        .help("Addresses that no limit per address applies to, such as that of a proxy in front of the server"),
    Setting::new(
        "limits.head_bytes_max",
        Kind::bytes(HEAD_BYTES_MIN, HEAD_BYTES_MAX, |values| &mut values.config.limits.head_bytes_max),
    )
    .default("16KiB")
    .help("The largest request line and headers together; more is answered with `431`"),
    Setting::new(
        "limits.target_bytes_max",
        Kind::bytes(TARGET_BYTES_MIN, TARGET_BYTES_MAX, |values| &mut values.config.limits.target_bytes_max),
    )
    .default("8KiB")
    .help("The longest request target; more is answered with `414`. Must be less than `limits.head_bytes_max`"),
    Setting::new(
        "limits.json_bytes_max",
        Kind::bytes(1 << 10, 1 << 30, |values| &mut values.config.limits.json_bytes_max),
    )
    .default("64MiB")
    .help("The largest JSON body; more is answered with `413`"),
    Setting::new(
        "limits.blob_bytes_max",
        Kind::bytes(1, BLOB_SIZE_MAX, |values| &mut values.config.limits.blob_bytes_max),
    )
    .default("5TiB")
    .help("The largest blob; more is answered with `413`"),
    Setting::new(
        "limits.head_timeout_ms",
        Kind::milliseconds(100, 600 * SECOND_MS, |values| &mut values.config.limits.head_timeout_ms),
    )
    .default("10000")
    .help("How long a request's head may take to arrive, and a TLS handshake in all"),
    Setting::new(
        "limits.idle_timeout_ms",
        Kind::milliseconds(100, DAY_MS, |values| &mut values.config.limits.idle_timeout_ms),
    )
    .default("75000")
    .help("How long a connection may wait for its next request"),
    Setting::new(
        "limits.progress_timeout_ms",
        Kind::milliseconds(100, HOUR_MS, |values| &mut values.config.limits.progress_timeout_ms),
    )
    .default("30000")
    .help("How long a body may make no progress, in either direction"),
    Setting::new(
        "limits.answer_bytes_per_second_min",
        Kind::bytes(1, ANSWER_RATE_MIN_MAX, |values| &mut values.config.limits.answer_bytes_per_second_min),
    )
    .default("4KiB")
    .help(
        "The lowest rate, in bytes per second, at which a client must read an answer. One that falls behind it by \
         more than `limits.progress_timeout_ms` is cut off",
    ),
    Setting::new(
        "limits.shutdown_timeout_ms",
        Kind::milliseconds(0, HOUR_MS, |values| &mut values.config.limits.shutdown_timeout_ms),
    )
    .default("30000")
    .help("How long requests in flight may take after SIGTERM or SIGINT"),
    Setting::new(
        "limits.disk_timeout_ms",
        Kind::milliseconds(SECOND_MS, HOUR_MS, |values| &mut values.config.limits.disk_timeout_ms),
    )
    .default("30000")
    .help("How long a disk operation may take; after that its data directory is taken out of service"),
    Setting::new("log.level", Kind::LogFilter(|values| &mut values.config.log.level))
        .variable("NABU_LOG")
        .flag("--log-level", "LEVEL")
        .default("info")
        .help("What to log"),
    Setting::new(
        "log.format",
        Kind::Choice(&[
            ("text", |values| values.config.log.format = LogFormat::Text),
            ("json", |values| values.config.log.format = LogFormat::Json),
        ]),
    )
    .variable("NABU_LOG_FORMAT")
    .flag("--log-format", "FORMAT")
    .default("text")
    .help("How to log, on standard error"),
    Setting::new("log.access.enabled", Kind::Switch(|values| &mut values.config.log.access.enabled))
        .variable("NABU_ACCESS_LOG")
        .flag("--access-log", "BOOL")
        .default("false")
        .help("Log every request, or a sample of them"),
    Setting::new("log.access.sample", Kind::Part(|values| &mut values.config.log.access.sample))
        .variable("NABU_ACCESS_LOG_SAMPLE")
        .flag("--access-log-sample", "FRACTION")
        .default("1")
        .help("The fraction of requests to log; answers of 500 and above are always logged"),
    Setting::new("log.audit", Kind::Switch(|values| &mut values.config.log.audit))
        .variable("NABU_AUDIT_LOG")
        .flag("--audit-log", "BOOL")
        .default("false")
        .help("Log every change and who made it; refusals are always logged"),
    Setting::new(
        "log.slow_request_ms",
        Kind::milliseconds(0, HOUR_MS, |values| &mut values.config.log.slow_request_ms),
    )
    .variable("NABU_SLOW_REQUEST_MS")
    .flag("--slow-request-ms", "MS")
    .default("1000")
    .help(
        "Log requests on which the server itself spends this long, plus a second for each 100 MB, and where the \
         time went; 0 logs all",
    ),
    Setting::new("tls.cert", Kind::Path(|values| &mut values.tls_cert))
        .variable("NABU_TLS_CERT")
        .flag("--tls-cert", "FILE")
        .default_described("plain HTTP")
        .help("The certificate for HTTPS, followed by any intermediate ones, in PEM; SIGHUP rereads it"),
    Setting::new("tls.key", Kind::Path(|values| &mut values.tls_key))
        .variable("NABU_TLS_KEY")
        .flag("--tls-key", "FILE")
        .default_described("plain HTTP")
        .help("The private key of the certificate, in PEM"),
    Setting::new("tls.client_ca", Kind::Path(|values| &mut values.tls_client_ca))
        .variable("NABU_TLS_CLIENT_CA")
        .flag("--tls-client-ca", "FILE")
        .default_described("no client certificates")
        .help("The CAs that sign client certificates, in PEM"),
    Setting::new(
        "tls.client_auth",
        Kind::Choice(&[
            ("none", |values| values.tls_client_auth = Some(ClientAuth::None)),
            ("optional", |values| values.tls_client_auth = Some(ClientAuth::Optional)),
            ("required", |values| values.tls_client_auth = Some(ClientAuth::Required)),
        ]),
    )
    .variable("NABU_TLS_CLIENT_AUTH")
    .flag("--tls-client-auth", "WHETHER")
    .default_described("required with `tls.client_ca`, else none")
    .help("Whether clients show certificates"),
    Setting::new(
        "tls.kernel",
        Kind::Choice(&[("auto", |values| values.tls_kernel = true), ("off", |values| values.tls_kernel = false)]),
    )
    .default("auto")
    .help("Whether the kernel encrypts, where it can"),
    Setting::new("auth.jwt.keys", Kind::Path(|values| &mut values.jwt_keys))
        .default_described("no JWTs are accepted")
        .help("A file with a JWKS, or with public keys in PEM"),
    Setting::new("auth.jwt.algorithms", Kind::Algorithms(|values| &mut values.jwt_algorithms))
        .default_described("those that there are keys for")
        .help("The signature algorithms to accept"),
    Setting::new("auth.jwt.issuer", Kind::Texts(|values| &mut values.jwt_issuers))
        .default_described("any")
        .help("The issuers to accept (`iss`)"),
    Setting::new("auth.jwt.audience", Kind::Texts(|values| &mut values.jwt_audiences))
        .default_described("only tokens without one")
        .help("The audiences to accept (`aud`)"),
    Setting::new("auth.jwt.role_claim", Kind::Text(|values| &mut values.jwt_role_claim))
        .default("role")
        .help("The claim that holds `read`, `write` or `admin`, or a list with one of them"),
    Setting::new("auth.jwt.leeway_seconds", Kind::seconds(0, 3600, |values| &mut values.jwt_leeway_seconds))
        .default("60")
        .help("How far clocks may differ"),
    Setting::new(
        "rate_limit.requests_per_second",
        Kind::Number(REQUESTS, |values| &mut values.config.rate_limit.requests_per_second),
    )
    .default_described("off")
    .help("Requests per second for each token; more are answered with `429`"),
    Setting::new("rate_limit.burst", Kind::Number(REQUESTS, |values| &mut values.config.rate_limit.burst))
        .default_described("as many as in a second")
        .help("Requests that each token may send at once"),
    Setting::new(
        "rate_limit.bytes_per_second",
        Kind::Number(BYTES, |values| &mut values.config.rate_limit.bytes_per_second),
    )
    .default_described("off")
    .help("Bytes per second for each token, in both directions"),
    Setting::new("cluster.secret_file", Kind::Path(|values| &mut values.cluster_secret_file))
        .variable("NABU_CLUSTER_SECRET_FILE")
        .flag("--cluster-secret-file", "FILE")
        .default_described("the server runs standalone")
        .help(
            "The file with the secret that the nodes of a cluster share, as `nabu-store cluster secret` prints it. \
             Setting it makes the server a node of a cluster; SIGHUP rereads it",
        ),
    Setting::new("cluster.bootstrap", Kind::Switch(|values| &mut values.cluster_bootstrap))
        .variable("NABU_CLUSTER_BOOTSTRAP")
        .flag("--bootstrap", "BOOL")
        .default("false")
        .help(
            "Found a cluster if neither this node nor any node in `cluster.join` belongs to one. A node that \
             belongs to one already stays in it",
        ),
    Setting::new(
        "cluster.bootstrap_expect",
        Kind::count(1, JOIN_MAX as u64, |values| &mut values.cluster_bootstrap_expect),
    )
    .variable("NABU_CLUSTER_BOOTSTRAP_EXPECT")
    .flag("--bootstrap-expect", "N")
    .default_described("1 with `cluster.bootstrap`")
    .help(
        "For machines that all have the same settings: once this many nodes, this one included, have said that they \
         belong to no cluster, one of them founds it and the others join",
    ),
    Setting::new("cluster.join", Kind::NodeAddresses(|values| &mut values.cluster_join))
        .variable("NABU_CLUSTER_JOIN")
        .flag("--join", "HOST:PORT")
        .default_described("none")
        .help(
            "Other nodes of the cluster to contact at the start; a few are enough. For several, repeat the flag, \
             put `,` between them in the variable, or give a list in the file. Names are looked up at each attempt \
             to connect",
        ),
    Setting::new("cluster.advertise", Kind::NodeAddress(|values| &mut values.cluster_advertise))
        .variable("NABU_CLUSTER_ADVERTISE")
        .flag("--advertise", "HOST:PORT")
        .default_described("the address that it listens on")
        .help("The address at which other nodes reach this one. Required if it listens on all addresses"),
    Setting::new("cluster.advertise_client", Kind::NodeAddress(|values| &mut values.cluster_advertise_client))
        .variable("NABU_CLUSTER_ADVERTISE_CLIENT")
        .flag("--advertise-client", "HOST:PORT")
        .default_described("where other nodes reach it")
        .help("The address at which clients reach this node, if it isn't the one for other nodes"),
    Setting::new("cluster.zone", Kind::Name(|values| &mut values.cluster_zone))
        .variable("NABU_CLUSTER_ZONE")
        .flag("--zone", "NAME")
        .default("default")
        .help("The failure domain of this node, such as a rack or a power supply. The ring spreads over zones"),
    Setting::new("cluster.node_id", Kind::Name(|values| &mut values.cluster_node_id))
        .variable("NABU_CLUSTER_NODE_ID")
        .flag("--node-id", "NAME")
        .default_described("its address for other nodes, with `-` for what a name can't hold: `10.0.0.1-7070`")
        .help("The name of this node. It must be unique in the cluster and must never change"),
    Setting::new("cluster.allow_plaintext", Kind::Switch(|values| &mut values.cluster_allow_plaintext))
        .variable("NABU_CLUSTER_ALLOW_PLAINTEXT")
        .flag("--cluster-allow-plaintext", "BOOL")
        .default("false")
        .help(
            "Let nodes talk without TLS on networks other than loopback, where anybody in between can read and \
             change everything",
        ),
    Setting::new("cluster.out_after", Kind::Duration(OUT_AFTER, |values| &mut values.cluster_out_after))
        .variable("NABU_CLUSTER_OUT_AFTER")
        .flag("--cluster-out-after", "TIME")
        .default("15m")
        .help("How long a node may be away before others take its place"),
    Setting::new(
        "cluster.stale_reads",
        Kind::Choice(&[
            ("serve", |values| values.cluster_stale_reads = StaleReads::Serve),
            ("refuse", |values| values.cluster_stale_reads = StaleReads::Refuse),
        ]),
    )
    .variable("NABU_CLUSTER_STALE_READS")
    .flag("--stale-reads", "WHETHER")
    .default("serve")
    .help(
        "Whether a node that can't reach a majority serves what it holds itself, with `Warning: 110`, or answers `503`",
    ),
];
