//! The server: listener and connections on the engine's runtime.

use crate::auth::Tokens;
use crate::config::Config;

/// Starts the server and blocks until it has shut down (SIGTERM or SIGINT).
///
/// # Errors
/// A message for the operator that names the value and the remedy.
pub fn run(config: Config, tokens: Tokens) -> Result<(), String> {
    let _ = (config, tokens);
    todo!()
}
