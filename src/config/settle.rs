//! Makes the configuration of a server out of what the layers say: fills in what depends on the
//! machine or on other settings, and checks how the values relate.

use nabu_engine::store::Missing;

use super::bounds::MEMORY_PER_CORE_MIN;
use super::cluster::{ClusterOptions, node_id_of};
use super::keys;
use super::layers::Layers;
use super::limits::Limits;
use super::machine::Machine;
use super::node_address::NodeAddress;
use super::problem::{ConfigError, Problem, Source};
use super::security::{ClientAuth, JwtAlgorithm, JwtOptions, TlsOptions};
use super::server::Config;
use super::size;

/// Where a proxy on this machine comes from, behind which many clients are.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];

/// The configuration that the layers make together.
///
/// # Errors
/// Every relation between values that does not hold.
pub fn settle(layers: Layers, forget_missing: bool, machine: &Machine) -> Result<Config, ConfigError> {
    let cores = layers.values.cores.unwrap_or_else(|| machine.cores_default());
    let mut problems = Vec::new();
    let memory_bytes = memory(&layers, cores, machine, &mut problems);
    check_head(&layers, &mut problems);
    check_ops_listen(&layers, &mut problems);
    let tls = tls(&layers, &mut problems);
    let jwt = jwt(&layers, &mut problems);
    check_rate_limit(&layers, &mut problems);
    let cluster = cluster(&layers, &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let limits = &layers.values.config.limits;
    // The other half is for others.
    let per_address = layers.values.connections_per_address_max.unwrap_or(limits.connections_max.div_ceil(2));
    let exempt_addresses = match &limits.exempt_addresses[..] {
        [] => LOOPBACK.map(|network| network.parse().expect("a network")).into(),
        given => given.to_vec(),
    };
    let limits = Limits { connections_per_address_max: per_address, exempt_addresses, ..limits.clone() };
    Ok(Config {
        cores,
        limits,
        memory_bytes,
        on_missing: match (forget_missing, layers.values.degraded) {
            (true, _) => Missing::Forget,
            (false, true) => Missing::Serve,
            (false, false) => Missing::Refuse,
        },
        tls,
        jwt,
        cluster,
        effective: layers.effective,
        ..layers.values.config
    })
}

/// The memory, which must be enough for the cores and no more than there is.
fn memory(layers: &Layers, cores: u16, machine: &Machine, problems: &mut Vec<Problem>) -> u64 {
    let floor = u64::from(cores) * MEMORY_PER_CORE_MIN;
    let (least, least_of_all) = (size::exact(MEMORY_PER_CORE_MIN), size::exact(floor));
    let too_much = |bytes: u64| machine.memory_bytes.filter(|total| bytes > *total);
    let Some(bytes) = layers.values.memory_bytes else {
        if let (Some(total), Some(source)) = (too_much(floor), layers.source("cores")) {
            let requirement = format!(
                "must be fewer: each needs at least {least} of memory, which is {least_of_all} for {cores} cores, and \
                 this process may use {total} bytes"
            );
            problems.push(Problem::new(source, requirement).got(cores));
        }
        return machine.memory_default(cores);
    };
    let source = layers.source("memory").expect("it is given, as it has no default");
    if bytes < floor {
        let requirement = format!(
            "must be at least {least} for each core, {least_of_all} for {cores} cores; give more, or fewer cores"
        );
        problems.push(Problem::new(source, requirement).got(size::exact(bytes)));
    }
    if let Some(total) = too_much(bytes) {
        let requirement = format!("must fit in the {total} bytes of memory that this process may use");
        problems.push(Problem::new(source, requirement).got(size::exact(bytes)));
    }
    bytes
}

/// Two listeners on one address would share its connections.
fn check_ops_listen(layers: &Layers, problems: &mut Vec<Problem>) {
    let config = &layers.values.config;
    if let (Some(ops), Some(source)) = (config.ops_listen, layers.source("ops_listen"))
        && ops == config.listen
        && ops.port() != 0
    {
        problems.push(Problem::new(source, "must be a different address from listen").got(ops));
    }
}

/// The target is a part of the head.
fn check_head(layers: &Layers, problems: &mut Vec<Problem>) {
    let limits = &layers.values.config.limits;
    let (target, head) = (limits.target_bytes_max, limits.head_bytes_max);
    if target >= head {
        let source = layers.source("limits.target_bytes_max").or(layers.source("limits.head_bytes_max"));
        problems.push(Problem::new(
            source.expect("the defaults hold the relation"),
            format!(
                "target_bytes_max ({target}) must be less than head_bytes_max ({head}): the target is a part of the head"
            ),
        ));
    }
}

/// TLS as the settings say together; `None` is plain HTTP.
fn tls(layers: &Layers, problems: &mut Vec<Problem>) -> Option<TlsOptions> {
    let source = layers.source("tls")?;
    let values = &layers.values;
    let mut problem = |source: &Source, message: &str| problems.push(Problem::new(source, message));
    if values.tls_cert.is_none() {
        problem(source, "TLS needs a certificate: give tls.cert, NABU_TLS_CERT or --tls-cert too");
    }
    if values.tls_key.is_none() {
        problem(source, "TLS needs a private key: give tls.key, NABU_TLS_KEY or --tls-key too");
    }
    let client_auth = match (&values.tls_client_ca, values.tls_client_auth) {
        (None, None) => ClientAuth::None,
        (Some(_), None) => ClientAuth::Required,
        (Some(_), Some(auth)) => auth,
        (None, Some(auth)) => {
            if auth != ClientAuth::None {
                problem(
                    layers.source("tls.client_auth").expect("it is given, as it has no default"),
                    "client certificates need the authorities that signed them: give tls.client_ca too",
                );
            }
            auth
        }
    };
    Some(TlsOptions {
        cert: values.tls_cert.clone()?,
        key: values.tls_key.clone()?,
        client_ca: values.tls_client_ca.clone().filter(|_| client_auth != ClientAuth::None),
        client_auth,
        kernel: values.tls_kernel,
    })
}

/// JWTs as the settings say together; `None` takes none.
fn jwt(layers: &Layers, problems: &mut Vec<Problem>) -> Option<JwtOptions> {
    let source = layers.source("auth.jwt")?;
    let values = &layers.values;
    if values.jwt_keys.is_none() {
        problems.push(Problem::new(source, "needs the keys that tokens are signed with: give auth.jwt.keys too"));
    }
    Some(JwtOptions {
        keys: values.jwt_keys.clone()?,
        algorithms: values.jwt_algorithms.clone().unwrap_or_else(|| JwtAlgorithm::ALL.to_vec()),
        issuers: values.jwt_issuers.clone(),
        audiences: values.jwt_audiences.clone(),
        role_claim: values.jwt_role_claim.clone(),
        leeway_seconds: values.jwt_leeway_seconds,
    })
}

/// A burst is one of a rate.
fn check_rate_limit(layers: &Layers, problems: &mut Vec<Problem>) {
    let source = layers.source("rate_limit.burst");
    if let (Some(source), None) = (source, layers.values.config.rate_limit.requests_per_second) {
        let message = "is the burst of a rate that isn't set: give rate_limit.requests_per_second too";
        problems.push(Problem::new(source, message));
    }
}

/// The cluster as the settings say together; `None` is a standalone node.
fn cluster(layers: &Layers, problems: &mut Vec<Problem>) -> Option<ClusterOptions> {
    let group = layers.source("cluster")?;
    let values = &layers.values;
    let Some(secret_file) = values.cluster_secret_file.clone() else {
        let given = keys::below("cluster").find_map(|key| layers.source(key));
        let message = "is for a node of a cluster, which has a secret: give cluster.secret_file, \
                       NABU_CLUSTER_SECRET_FILE or --cluster-secret-file too; `nabu-store cluster secret` makes one";
        problems.push(Problem::new(given.unwrap_or(group), message));
        return None;
    };
    check_bootstrap(layers, problems);
    check_reachable(layers, problems);
    Some(ClusterOptions {
        secret_file,
        bootstrap_expect: values.cluster_bootstrap_expect.or(values.cluster_bootstrap.then_some(1)),
        join: values.cluster_join.clone(),
        advertise: values.cluster_advertise.clone(),
        advertise_client: values.cluster_advertise_client.clone(),
        zone: values.cluster_zone.clone(),
        node_id: values.cluster_node_id.as_ref().map(|name| name.parse().expect("the same bounds, checked before")),
        allow_plaintext: values.cluster_allow_plaintext,
        out_after: values.cluster_out_after,
        stale_reads: values.cluster_stale_reads,
    })
}

/// A node that waits for more nodes than it asks would wait for ever.
fn check_bootstrap(layers: &Layers, problems: &mut Vec<Problem>) {
    let Some(source) = layers.source("cluster.bootstrap_expect") else { return };
    let values = &layers.values;
    if let (Some(bootstrap), false) = (layers.source("cluster.bootstrap"), values.cluster_bootstrap) {
        let message = "must not be false beside cluster.bootstrap_expect, which bootstraps: remove one of them";
        problems.push(Problem::new(bootstrap, message).got(false));
    }
    let (expected, asked) = (values.cluster_bootstrap_expect.unwrap_or(1), values.cluster_join.len());
    if expected > asked + 1 {
        let requirement = format!(
            "must be at most {}: this node, and {asked} to ask at cluster.join; name the others there (--join)",
            asked + 1
        );
        problems.push(Problem::new(source, requirement).got(expected));
    }
}

/// Other nodes must find the node at the address that it tells them.
fn check_reachable(layers: &Layers, problems: &mut Vec<Problem>) {
    const REMEDY: &str = "give cluster.advertise, NABU_CLUSTER_ADVERTISE or --advertise HOST:PORT, the address by \
                          which they reach this one";
    let values = &layers.values;
    if let (Some(address), None) = (&values.cluster_advertise, &values.cluster_node_id)
        && node_id_of(address).is_none()
    {
        let source = layers.source("cluster.advertise").expect("it is given, as it has no default");
        let message = "is too long to name the node after: give cluster.node_id, NABU_CLUSTER_NODE_ID or --node-id too";
        problems.push(Problem::new(source, message).got(address));
    }
    if values.cluster_advertise.is_some() {
        return;
    }
    let listen = values.config.listen;
    if let (true, Some(source)) = (listen.ip().is_unspecified(), layers.source("listen")) {
        problems.push(
            Problem::new(source, format!("is not an address that other nodes can connect to: {REMEDY}")).got(listen),
        );
    }
    let is_elsewhere = |peer: &&NodeAddress| peer.ip().is_some_and(|ip| !ip.is_loopback());
    if let (true, Some(peer), Some(source)) = (
        listen.ip().is_loopback(),
        values.cluster_join.iter().find(is_elsewhere),
        layers.source("listen").or(layers.source("cluster.join")),
    ) {
        let message = format!(
            "{peer} is on another network than {listen}, where this node listens and nobody there reaches it: \
                     listen on an address of that network, or {REMEDY}"
        );
        problems.push(Problem::new(source, message));
    }
}
