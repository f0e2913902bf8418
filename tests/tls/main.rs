//! HTTPS through the real port of the real program: transfers, handshakes that fail, certificates
//! of clients, reloading, and the load generator.

mod authority;
mod bench;
mod handshakes;
mod kernel;
mod metrics;
mod recipe;
mod reload;
mod start;
#[path = "../support/mod.rs"]
mod support;
mod transfers;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use tempfile::TempDir;

use authority::Authority;
use support::server::{Options, Server, directory};

/// A directory with data and certificates, and how to start a server on it.
struct Setting {
    authority: Authority,
    directory: TempDir,
    options: Options,
}

impl Setting {
    /// With a certificate that the authority signed, and more lines below `tls` and beside it.
    fn new(tls: &str, config: &str) -> Self {
        let directory = directory();
        let authority = Authority::new("The authority of the tests");
        authority.sign(|_| {}).write(directory.path(), "server");
        fs::write(directory.path().join("ca.crt"), &authority.pem).expect("a file can be written");
        let data = directory.path().join("data");
        let mut options = Options::new(&data);
        options.config.push_str(&format!("{}{tls}\n{config}", tls_lines(directory.path())));
        options.tls = Some(authority.trusting());
        Self { authority, directory, options }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    #[track_caller]
    fn start(&self) -> Server {
        self.options.start()
    }

    /// Another client of the same server.
    fn as_client(&self, server: Server, config: ClientConfig) -> Server {
        Server { tls: Some(Arc::new(config)), ..server }
    }
}

/// The lines that name the certificate and the key.
fn tls_lines(directory: &Path) -> String {
    let path = directory.display();
    format!("tls:\n  cert: {path}/server.crt\n  key: {path}/server.key\n")
}
