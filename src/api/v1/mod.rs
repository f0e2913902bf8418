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
            method: Method::Post,
            pattern: "/v1/cluster/join",
            role: Some(Role::Admin),
            query: &[],
            about: "A node joins",
            handler: handler!(cluster::change),
        },
        Route {
            method: Method::Post,
            pattern: "/v1/cluster/leave",
            role: Some(Role::Admin),
            query: &[],
            about: "A node leaves",
            handler: handler!(cluster::change),
        },
        Route {
            method: Method::Post,
            pattern: "/v1/cluster/heartbeat",
            role: Some(Role::Admin),
            query: &[],
            about: "A node says that it lives",
            handler: handler!(cluster::change),
        },
        Route {
            method: Method::Post,
            pattern: "/v1/cluster/sync-ring",
            role: Some(Role::Admin),
            query: &[],
            about: "The ring, where the caller has an older one",
            handler: handler!(cluster::change),
        },
    ],
};
