//! `POST /v1/cluster/join`: a node is announced, or asks whether it is a member. It has no seat
//! before it has come itself, by the peer protocol, which proves that it knows the secret.

use nabu_cluster::control::command::Change;
use nabu_cluster::control::member::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX, Profile};
use nabu_net::peer::identity::NodeId;
use serde::Serialize;

use super::group;
use super::node::{Node, ZONE_DEFAULT, nodes};
use super::refused::Asked;
use crate::api::context::Context;
use crate::api::json::{self, Document};
use crate::api::route::{PathValues, shorten};
use crate::control::LEVELS;
use crate::http::{Exchange, HttpError};

/// The version of a node that has not said its own.
const VERSION_UNKNOWN: &str = "unknown";

#[derive(Serialize)]
struct Joined {
    accepted: bool,
    ring_version: u64,
    nodes: Vec<Node>,
}

/// A node, as somebody announces it.
#[derive(PartialEq, Eq, Debug)]
struct Announced {
    node_id: String,
    profile: Profile,
}

impl Announced {
    fn read(document: &Document<'_>) -> Result<Self, HttpError> {
        let node_id = read_node_id(document)?;
        let address = document.required_string("address")?.to_owned();
        let capacity_bytes = document.required_count("capacity_bytes")?;
        let zone = document.optional_string("zone")?.unwrap_or(ZONE_DEFAULT).to_owned();
        for (field, text, most) in [("address", &address, ADDRESS_BYTES_MAX), ("zone", &zone, NAME_BYTES_MAX)] {
            if text.len() > most {
                let message = format!("the field `{field}` has {} bytes, and may have at most {most}", text.len());
                return Err(json::unprocessable(message));
            }
        }
        if capacity_bytes == 0 {
            let message = "the field `capacity_bytes` is 0: say how many bytes the disks of the node hold";
            return Err(json::unprocessable(message));
        }
        let profile = Profile {
            client_address: address.clone(),
            address,
            zone,
            capacity_bytes,
            version: VERSION_UNKNOWN.to_owned(),
            levels: LEVELS,
        };
        match profile.problem() {
            None => Ok(Self { node_id, profile }),
            Some(problem) => Err(json::unprocessable(format!(
                "{problem}: the field `address` says where other nodes reach it, such as \"10.0.1.23:7070\", and \
                 `zone` has 1 to 64 letters, digits and . _ - +"
            ))),
        }
    }
}

/// The id of a node in the field `node_id`.
pub fn read_node_id(document: &Document<'_>) -> Result<String, HttpError> {
    let text = document.required_string("node_id")?;
    match text.parse::<NodeId>() {
        Ok(node_id) => Ok(node_id.to_string()),
        Err(error) => Err(json::unprocessable(format!("the field `node_id` is {:?}, and {error}", shorten(text)))),
    }
}

/// Has a node agreed on as a member.
pub async fn join(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let handle = group::of(context)?;
    let Announced { node_id, profile } = Announced::read(&json::body::receive(exchange).await?.parse()?)?;
    let asked = Asked { node_id: &node_id, address: Some(&profile.address), silent: None };
    let change = Change::Join { node_id: node_id.clone(), store: None, profile: profile.clone() };
    let view = group::change(exchange, handle, change, &asked).await?;
    let nodes = nodes(exchange, context, handle, &view).await;
    json::answer(exchange, 200, &[], &Joined { accepted: true, ring_version: view.ring_version, nodes });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Announced, HttpError> {
        Announced::read(&Document::parse(&mut text.as_bytes().to_vec())?)
    }

    #[test]
    fn a_node_is_announced_with_its_name_its_address_and_its_size() {
        let text = r#"{"node_id":"node-west-3","address":"10.0.1.23:7070","capacity_bytes":1099511627776}"#;
        let Announced { node_id, profile } = read(text).unwrap();
        assert_eq!((node_id.as_str(), profile.zone.as_str()), ("node-west-3", "default"));
        assert_eq!((profile.address.as_str(), profile.client_address.as_str()), ("10.0.1.23:7070", "10.0.1.23:7070"));
        assert_eq!(profile.capacity_bytes, 1 << 40);
        let text = r#"{"node_id":"a","address":"[::1]:1","capacity_bytes":1,"zone":"rack-7","newer":[]}"#;
        assert_eq!(read(text).unwrap().profile.zone, "rack-7");
    }

    #[test]
    fn what_is_missing_or_can_not_be_is_named() {
        let long = "x".repeat(500);
        let long_id = format!(r#"{{"node_id":"{long}","address":"a:1","capacity_bytes":1}}"#);
        let long_address = format!(r#"{{"node_id":"a","address":"{long}:1","capacity_bytes":1}}"#);
        let long_zone = format!(r#"{{"node_id":"a","address":"b:1","capacity_bytes":1,"zone":"{long}"}}"#);
        for (text, status, named) in [
            ("{}", 400, "`node_id`"),
            (r#"{"node_id":"a"}"#, 400, "`address`"),
            (r#"{"node_id":"a","address":"b:1"}"#, 400, "`capacity_bytes`"),
            (r#"{"node_id":5,"address":"b:1","capacity_bytes":1}"#, 422, "`node_id`"),
            (r#"{"node_id":"a b","address":"b:1","capacity_bytes":1}"#, 422, "\"a b\""),
            (r#"{"node_id":"","address":"b:1","capacity_bytes":1}"#, 422, "`node_id`"),
            (&long_id, 422, "`node_id`"),
            (&long_address, 422, "`address`"),
            (&long_zone, 422, "`zone`"),
            (r#"{"node_id":"a","address":"10.0.1.23","capacity_bytes":1}"#, 422, "\"10.0.1.23\""),
            (r#"{"node_id":"a","address":"b:0","capacity_bytes":1}"#, 422, "`address`"),
            (r#"{"node_id":"a","address":"b:1","capacity_bytes":0}"#, 422, "`capacity_bytes`"),
            (r#"{"node_id":"a","address":"b:1","capacity_bytes":-1}"#, 422, "`capacity_bytes`"),
            (r#"{"node_id":"a","address":"b:1","capacity_bytes":1,"zone":""}"#, 422, "`zone`"),
            (r#"{"node_id":"a","address":"b:1","capacity_bytes":1,"zone":3}"#, 422, "`zone`"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.status, status, "{text}: {}", error.message);
            assert!(error.message.contains(named) && error.message.len() < 400, "{text}: {}", error.message);
        }
    }
}
