//! `POST /v1/cluster/heartbeat`: whether a node is a member, and has the newest ring. It is no sign
//! of life: nodes show theirs by the peer protocol, which proves who they are.

use serde::Serialize;

use super::group;
use super::join::read_node_id;
use crate::api::context::Context;
use crate::api::json::{self, Document};
use crate::api::route::PathValues;
use crate::control::View;
use crate::http::{Exchange, HttpError};

#[derive(Serialize, PartialEq, Eq, Debug)]
struct Answer {
    ok: bool,
    ring_version: u64,
    /// What the node is to do.
    commands: &'static [&'static str],
}

#[derive(PartialEq, Eq, Debug)]
struct Beat {
    node_id: String,
    ring_version: u64,
}

impl Beat {
    fn read(document: &Document<'_>) -> Result<Self, HttpError> {
        let beat = Self { node_id: read_node_id(document)?, ring_version: document.required_count("ring_version")? };
        // How full it is the group hears from the node itself.
        document.required_count("used_bytes")?;
        document.required_count("blob_count")?;
        Ok(beat)
    }
}

fn answer(beat: &Beat, view: &View) -> Answer {
    let is_known = view.member_named(&beat.node_id).is_some();
    let commands: &[&str] = match is_known {
        false => &["rejoin"],
        true if beat.ring_version < view.ring_version => &["sync-ring"],
        true => &[],
    };
    Answer { ok: is_known, ring_version: view.ring_version, commands }
}

/// Tells a node what it lacks.
pub async fn heartbeat(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let handle = group::of(context)?;
    let beat = Beat::read(&json::body::receive(exchange).await?.parse()?)?;
    let mut view = group::caught_up(exchange, handle, beat.ring_version).await;
    // A member that this node has not heard of yet must not be told that it is none.
    if view.member_named(&beat.node_id).is_none() && view.ring_version < beat.ring_version {
        view = group::read(exchange, handle).await?;
    }
    json::answer(exchange, 200, &[], &answer(&beat, &view));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample;

    #[test]
    fn a_member_is_told_when_its_ring_is_old_and_a_stranger_is_told_to_join() {
        let view = sample::view();
        let told = |node_id: &str, ring_version| {
            let Answer { ok, ring_version, commands } =
                answer(&Beat { node_id: node_id.to_owned(), ring_version }, &view);
            (ok, ring_version, commands)
        };
        assert_eq!(told("node-west-2", 4), (true, 4, &[][..]));
        assert_eq!(told("node-west-2", 5), (true, 4, &[][..]));
        assert_eq!(told("node-west-2", 3), (true, 4, &["sync-ring"][..]));
        assert_eq!(told("node-west-9", 4), (false, 4, &["rejoin"][..]));
        let bytes = json::to_vec(&answer(&Beat { node_id: "node-west-2".to_owned(), ring_version: 4 }, &view));
        assert_eq!(String::from_utf8(bytes).unwrap(), r#"{"ok":true,"ring_version":4,"commands":[]}"#);
    }

    #[test]
    fn every_field_must_be_there() {
        let whole = r#"{"node_id":"a","ring_version":4,"used_bytes":0,"blob_count":0}"#;
        let read = |text: &str| Beat::read(&Document::parse(&mut text.as_bytes().to_vec())?);
        assert_eq!(read(whole), Ok(Beat { node_id: "a".to_owned(), ring_version: 4 }));
        for field in ["node_id", "ring_version", "used_bytes", "blob_count"] {
            let error = read(&whole.replace(field, "other")).unwrap_err();
            assert_eq!((error.status, error.error), (400, "missing field"));
            assert!(error.message.contains(field), "{}", error.message);
        }
    }
}
