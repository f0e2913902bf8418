//! The accept loops of one core, one for each port.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::io::{Clock, Spawn};
use nabu_engine::runtime::{Listener, Stream};

use super::admission::{Admission, Refusal};
use super::client::{Client, Port};
use super::connection::{serve, serve_refused};
use super::core::Core;
use super::error::HttpError;

/// How long to leave the listener alone after an error. Usually descriptors have run out, and only
/// time helps.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Connections over the limit that get an answer at the same time; more are closed without one.
const REFUSALS_MAX: usize = 256;

/// Accepts connections to this port forever; dropping the future closes the listener.
pub async fn accept_loop(core: Rc<Core>, mut listener: Listener, port: Port) -> Infallible {
    let refusals = Rc::new(Cell::new(0));
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let admission = core.shared.admission(port);
                let client = Rc::new(admission.client(stream.peer_addr().ok().map(|peer| peer.ip())));
                match admit(&core, admission, &client) {
                    Ok(()) => {
                        core.recorder.connection_accepted();
                        core.io.spawn(serve(core.clone(), stream, client));
                    }
                    Err(refusal) => refuse_connection(&core, stream, client, refusal.into(), &refusals),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept connections; is the limit of open files (ulimit -n) too low?");
                core.io.sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Counts a connection; where there is no room, in place of a stranger of this core that waits.
fn admit(core: &Core, admission: &Admission, client: &Client) -> Result<(), Refusal> {
    let entered = admission.enter(client);
    if let Err(Refusal::TooMany { .. }) = entered
        && let Some(stranger) = core.connections.give_up_stranger(client.port)
    {
        core.recorder.stranger_evicted();
        admission.leave(&stranger);
        return admission.enter(client);
    }
    entered
}

fn refuse_connection(
    core: &Rc<Core>,
    stream: Stream,
    client: Rc<Client>,
    error: HttpError,
    refusals: &Rc<Cell<usize>>,
) {
    core.recorder.connection_refused();
    if refusals.get() == REFUSALS_MAX {
        return;
    }
    refusals.set(refusals.get() + 1);
    let (core, refusals) = (core.clone(), refusals.clone());
    let io = core.io.clone();
    io.spawn(async move {
        serve_refused(core, stream, client, error).await;
        refusals.set(refusals.get() - 1);
    });
}
