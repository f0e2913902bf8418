//! The first API: blobs under the id of their content, and the cluster.

mod blobs;
mod cluster;

use nabu_net::http::head::Method;

use super::errors;
use super::route::{Route, Table, handler};
use crate::auth::Role;

pub static TABLE: Table = Table {
    render: errors::render,
    routes: &[
        Route {
            method: Method::Get,
            pattern: "/v1/blobs/{id}",
            role: Some(Role::Read),
            query: &[],
            about: "The bytes of a blob, or a range of them",
            handler: handler!(blobs::retrieve),
        },
        Route {
            method: Method::Delete,
            pattern: "/v1/blobs/{id}",
            role: Some(Role::Write),
            query: &[],
            about: "Deletes a blob",
            handler: handler!(blobs::delete),
        },
        Route {
            method: Method::Get,
            pattern: "/v1/blobs",
            role: Some(Role::Read),
            query: &["limit", "cursor"],
            about: "The ids of blobs, in pages",
            handler: handler!(blobs::list),
        },
        Route {
            method: Method::Post,
            pattern: "/v1/blobs",
            role: Some(Role::Write),
            query: &[],
            about: "Stores a blob under the id of its content",
            handler: handler!(blobs::store),
        },
        Route {
            method: Method::Get,
            pattern: "/v1/cluster/state",
            role: Some(Role::Read),
            query: &[],
            about: "The nodes and the version of the ring",
            handler: handler!(cluster::state),
        },
        Route {
            method: Method::Get,
            pattern: "/v1/cluster/ring",
            role: Some(Role::Read),
            query: &[],
            about: "Which part of the ring each node has",
            handler: handler!(cluster::ring),
        },
        Route {
            method: Method::Post,
            pattern: "/v1/cluster/join",
            role: Some(Role::Admin),
            query: &[],
            about: "Announces a node that will join later",
            handler: handler!(cluster::join),
        },
        Route {
            method: Method::Post,
            pattern: "/v1/cluster/leave",
            role: Some(Role::Admin),
            query: &[],
            about: "Lets a node leave, or removes one that is gone",
            handler: handler!(cluster::leave),
        },
        Route {
            method: Method::Post,
            pattern: "/v1/cluster/heartbeat",
            role: Some(Role::Admin),
            query: &[],
            about: "Whether a node is a member and has the newest ring",
            handler: handler!(cluster::heartbeat),
        },
        Route {
            method: Method::Post,
            pattern: "/v1/cluster/sync-ring",
            role: Some(Role::Admin),
            query: &[],
            about: "The ring, if the caller has an older one",
            handler: handler!(cluster::sync_ring),
        },
    ],
};
