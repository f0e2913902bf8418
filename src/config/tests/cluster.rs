//! The settings of a cluster: what they make together, and the words of their messages.

use super::*;

const SECRET: &str = "--cluster-secret-file";

fn node() -> Given {
    Given::default().flag(SECRET, "/secret")
}

fn cluster(given: &Given) -> ClusterOptions {
    given.config().cluster.expect("a node of a cluster")
}

fn addresses(texts: &[&str]) -> Vec<NodeAddress> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

#[test]
fn without_a_word_a_node_stands_alone_and_with_a_secret_it_is_one_of_many() {
    assert_eq!(Given::default().config().cluster, None);
    let expected = ClusterOptions {
        secret_file: "/secret".into(),
        bootstrap_expect: None,
        join: Vec::new(),
        advertise: None,
        advertise_client: None,
        zone: "default".into(),
        node_id: None,
        allow_plaintext: false,
        out_after: Duration::from_secs(15 * 60),
        stale_reads: StaleReads::Serve,
    };
    assert_eq!(cluster(&node()), expected);
}

#[test]
fn a_file_may_say_all_of_it() {
    let given = Given::file(
        "cluster:\n  secret_file: /secret\n  bootstrap_expect: 3\n  join: [node-1:7070, Node-2:7070, \"[fd00::3]:7070\"]\n  \
         advertise: node-1:7070\n  advertise_client: store.example.org:443\n  zone: rack-7\n  node_id: node_1\n  \
         allow_plaintext: true\n  out_after: 2h\n  stale_reads: refuse\n",
    );
    let expected = ClusterOptions {
        secret_file: "/secret".into(),
        bootstrap_expect: Some(3),
        join: addresses(&["node-1:7070", "node-2:7070", "[fd00::3]:7070"]),
        advertise: addresses(&["node-1:7070"]).pop(),
        advertise_client: addresses(&["store.example.org:443"]).pop(),
        zone: "rack-7".into(),
        node_id: Some("node_1".parse().expect("an id")),
        allow_plaintext: true,
        out_after: Duration::from_secs(7200),
        stale_reads: StaleReads::Refuse,
    };
    assert_eq!(cluster(&given), expected);
    let one = Given::file("cluster: {secret_file: /secret, join: node-1:7070}\n");
    assert_eq!(cluster(&one).join, addresses(&["node-1:7070"]));
}

#[test]
fn flags_win_over_variables_and_both_may_name_many_to_ask() {
    let given = Given::default()
        .variable("NABU_CLUSTER_SECRET_FILE", "/variable")
        .variable("NABU_CLUSTER_JOIN", "a:1, b:2")
        .variable("NABU_CLUSTER_ZONE", "left")
        .variable("NABU_CLUSTER_BOOTSTRAP", "true");
    let of_variables = cluster(&given);
    assert_eq!(of_variables.join, addresses(&["a:1", "b:2"]));
    assert_eq!((of_variables.zone.as_str(), of_variables.bootstrap_expect), ("left", Some(1)));
    let given = given.flag("--join", "c:3").flag("--join", "d:4,e:5").flag("--bootstrap", "false");
    let of_flags = cluster(&given);
    assert_eq!(of_flags.join, addresses(&["c:3", "d:4", "e:5"]));
    assert_eq!((of_flags.secret_file.as_path(), of_flags.bootstrap_expect), (Path::new("/variable"), None));
}

#[test]
fn one_bootstraps_or_so_many_as_are_expected() {
    for (flags, expected) in [
        (&[][..], None),
        (&[("--bootstrap", "false")], None),
        (&[("--bootstrap", "true")], Some(1)),
        (&[("--bootstrap-expect", "2")], Some(2)),
        (&[("--bootstrap", "true"), ("--bootstrap-expect", "3")], Some(3)),
    ] {
        let given = node().flag("--join", "a:1").flag("--join", "b:1");
        let given = flags.iter().fold(given, |given, (flag, value)| given.flag(flag, value));
        assert_eq!(cluster(&given).bootstrap_expect, expected, "{flags:?}");
    }
}

#[test]
fn a_key_of_a_cluster_without_a_secret_is_named_with_the_remedy() {
    const REMEDY: &str = "is for a node of a cluster, which has a secret: give cluster.secret_file, \
                          NABU_CLUSTER_SECRET_FILE or --cluster-secret-file too; `nabu-store cluster secret` makes one";
    for setting in SETTINGS {
        let Some(name) = setting.key.and_then(|key| key.strip_prefix("cluster.")) else { continue };
        if name == "secret_file" {
            continue;
        }
        let value = match name {
            "bootstrap" | "allow_plaintext" => "true",
            "bootstrap_expect" => "1",
            "out_after" => "1h",
            "stale_reads" => "refuse",
            "zone" | "node_id" => "a",
            _ => "a:1",
        };
        let file = Given::file(&format!("cluster:\n  {name}: {value}\n"));
        assert_eq!(file.messages(), [format!("FILE:2: cluster.{name}: {REMEDY}")]);
        let (variable, flag) = (setting.variable.expect("a variable"), setting.flag.expect("a flag").name);
        assert_eq!(Given::default().variable(variable, value).messages(), [format!("{variable}={value}: {REMEDY}")]);
        let message = Given::default().flag(flag, value).messages().pop().expect("one");
        assert!(message.starts_with(flag) && message.ends_with(REMEDY), "{message}");
    }
    assert_eq!(Given::file("cluster: {}\n").messages(), [format!("FILE:1: cluster: {REMEDY}")]);
}

#[test]
fn a_wildcard_needs_an_address_that_others_can_connect_to() {
    const REMEDY: &str = "give cluster.advertise, NABU_CLUSTER_ADVERTISE or --advertise HOST:PORT, the address by \
                          which they reach this one";
    for wildcard in ["0.0.0.0:7070", "[::]:7070"] {
        let given = node().flag("--listen", wildcard);
        let message = format!("--listen {wildcard}: is not an address that other nodes can connect to: {REMEDY}");
        assert_eq!(given.messages(), [message]);
        let given = given.flag("--advertise", "node-1:7070");
        assert_eq!(cluster(&given).address(given.config().listen), addresses(&["node-1:7070"])[0]);
        let message = format!(
            "--advertise {wildcard}: must be an address to connect to; 0.0.0.0 and [::] are for listening alone"
        );
        assert_eq!(node().flag("--advertise", wildcard).messages(), [message]);
        assert_eq!(Given::default().flag("--listen", wildcard).config().cluster, None, "alone it may");
    }
    let given = Given::file("listen: 0.0.0.0:7070\ncluster: {secret_file: /secret}\n");
    let message =
        format!("FILE:1: listen: is not an address that other nodes can connect to: {REMEDY} (got 0.0.0.0:7070)");
    assert_eq!(given.messages(), [message]);
}

#[test]
fn a_node_on_loopback_does_not_join_nodes_elsewhere() {
    let message = |place: &str, listen: &str| {
        format!(
            "{place}: 10.0.0.2:7070 is on another network than {listen}, where this node listens and nobody there \
             reaches it: listen on an address of that network, or give cluster.advertise, NABU_CLUSTER_ADVERTISE or \
             --advertise HOST:PORT, the address by which they reach this one"
        )
    };
    let given = node().flag("--join", "127.0.0.1:7071").flag("--join", "10.0.0.2:7070");
    assert_eq!(given.messages(), [message("--join", "127.0.0.1:7070")]);
    let given = given.flag("--listen", "127.0.0.1:7072");
    assert_eq!(given.messages(), [message("--listen 127.0.0.1:7072", "127.0.0.1:7072")]);
    assert_eq!(cluster(&given.flag("--advertise", "10.0.0.1:7070")).join.len(), 2);
    node().flag("--listen", "10.0.0.1:7070").flag("--join", "10.0.0.2:7070").config();
    // What a name stands for is not known here.
    node().flag("--join", "node-2:7070").flag("--join", "[::1]:7070").config();
}

#[test]
fn other_things_that_do_not_go_together_are_named() {
    let long = format!("{}.{}:7070", "x".repeat(40), "y".repeat(40));
    for (given, message) in [
        (
            node().flag("--bootstrap-expect", "4").flag("--join", "a:1,b:1"),
            "--bootstrap-expect 4: must be at most 3: this node, and 2 to ask at cluster.join; name the others there \
             (--join)"
                .to_owned(),
        ),
        (
            Given::file("cluster: {secret_file: /s,\n  bootstrap: false, bootstrap_expect: 1}\n"),
            "FILE:2: cluster.bootstrap: must not be false beside cluster.bootstrap_expect, which bootstraps: remove one \
             of them (got false)"
                .into(),
        ),
        (
            node().flag("--advertise", &long),
            format!(
                "--advertise {long}: is too long to name the node after: give cluster.node_id, NABU_CLUSTER_NODE_ID or \
                 --node-id too"
            ),
        ),
        (
            node().flag("--join", "a:1").flag("--join", "A:1"),
            "--join: must name each node once; a:1 appears twice".into(),
        ),
        (
            node().flag("--join", "a:1,b"),
            "--join: must be HOST:PORT with a port of 1..65535, such as node-1:7070, 10.0.0.1:7070 or \
             \"[fd00::1]:7070\"; \"b\" isn't"
                .into(),
        ),
        (
            Given::file("cluster: {secret_file: /s, join: []}\n"),
            "FILE:1: cluster.join: must be HOST:PORT with a port of 1..65535, such as node-1:7070, 10.0.0.1:7070 or \
             \"[fd00::1]:7070\", or a list of such addresses (got a list)"
                .into(),
        ),
        (
            Given::file("cluster: {secret_file: /s, out_after: 30s}\n"),
            "FILE:1: cluster.out_after: must be 1m..7d with s, m, h or d after the number, such as 15m (got \"30s\")"
                .into(),
        ),
        (
            node().flag("--node-id", "a/b"),
            "--node-id a/b: must be a name of 1..64 letters, digits, dots, underscores and hyphens".into(),
        ),
        (node().flag("--stale-reads", "maybe"), "--stale-reads maybe: must be serve or refuse".into()),
    ] {
        assert_eq!(given.messages(), [message]);
    }
    let given = node().flag("--advertise", &long).flag("--node-id", "a");
    assert_eq!(cluster(&given).node_id.expect("given").as_str(), "a");
}

#[test]
fn the_names_of_nodes_are_those_that_nodes_tell_each_other() {
    for name in ["a", "node-1.rack_7", &"x".repeat(64)] {
        assert_eq!(cluster(&node().flag("--node-id", name)).node_id.expect("given").as_str(), name);
    }
}
