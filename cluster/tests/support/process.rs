//! What runs on a machine: its control plane in a loop, with its file, its messages and its
//! clients.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use nabu_cluster::control::member::StoreId;
use nabu_cluster::control::{Answer, Control, Failure, Input, Output, Request, RequestId, Settings, TICK};
use nabu_cluster::peer::{Limits, Peers};
use nabu_engine::io::{Clock, Instant, Randomness, Spawn};
use nabu_engine::sim::{SimIo, SimLink};
use nabu_engine::sync::{Either, Promise, Promised, promise, race};
use nabu_net::peer::identity::Identity;
use nabu_net::peer::secrets::Secrets;
use nabu_net::peer::version_range::VersionRange;

use super::backend::Backend;
use super::host::{self, SimHost};
use super::oracle::{Oracle, Running};
use super::pulls::{self, Pulls};

/// What a client is told, and what it sees in the state at that moment.
pub type Told = (Result<Answer, Failure>, BTreeMap<String, u64>);

/// All machines, as they are seen from outside.
pub struct World {
    pub slots: Vec<Slot>,
    pub oracle: RefCell<Oracle>,
    /// How much the lanes may hold.
    pub limits: Limits,
    /// Tells what happens, for a person, with the time of a machine that nothing happens to.
    pub log: Option<SimIo>,
}

/// The place of one machine.
pub struct Slot {
    pub settings: RefCell<Settings>,
    pub secrets: RefCell<Secrets>,
    pub process: RefCell<Option<Rc<Process>>>,
    /// Its process ended because its file failed.
    pub has_failed: Cell<bool>,
    /// Its process opens its file.
    is_starting: Cell<bool>,
}

pub struct Process {
    pub running: Running,
    pub host: SimHost,
    pub peers: Peers<SimIo, SimLink, SimHost>,
    /// The version of the ring by whose members connections are held.
    kept: Cell<Option<u64>>,
    pub pulls: RefCell<Pulls>,
    /// What was pulled, to be reported.
    reports: RefCell<Vec<Input>>,
    requests: RefCell<VecDeque<(RequestId, Request)>>,
    waiting: RefCell<BTreeMap<RequestId, Promise<Told>>>,
    last_request: Cell<u64>,
    is_over: Cell<bool>,
    is_stopping: Cell<bool>,
    /// It may end, and whether the others know.
    pub stopped: Cell<Option<bool>>,
}

impl World {
    pub fn new(settings: Vec<Settings>, limits: Limits, log: Option<SimIo>) -> Rc<World> {
        let slot = |settings| Slot {
            settings: RefCell::new(settings),
            secrets: RefCell::new(host::secrets(1, None)),
            process: RefCell::default(),
            has_failed: Cell::new(false),
            is_starting: Cell::new(false),
        };
        Rc::new(World { slots: settings.into_iter().map(slot).collect(), oracle: RefCell::default(), limits, log })
    }

    pub fn process(&self, machine: usize) -> Option<Rc<Process>> {
        self.slots[machine].process.borrow().clone()
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        if let Some(io) = &self.log {
            eprintln!("{:12.6} {}", io.now().0 as f64 / 1e9, what());
        }
    }

    /// The machine went down.
    pub fn stopped(&self, machine: usize) {
        if let Some(process) = self.slots[machine].process.take() {
            // Nobody answers those who wait, and they learn that.
            process.is_over.set(true);
            process.waiting.take();
        }
        self.slots[machine].has_failed.set(false);
        self.slots[machine].is_starting.set(false);
    }

    /// Whether a machine that is up has nothing running, and nothing that is about to: a slow disk
    /// keeps a process waiting for its file.
    pub fn is_idle(&self, machine: usize) -> bool {
        self.slots[machine].process.borrow().is_none() && !self.slots[machine].is_starting.get()
    }
}

impl Process {
    pub fn request(&self, request: Request) -> Promised<Told> {
        self.last_request.set(self.last_request.get() + 1);
        let id = RequestId(self.last_request.get());
        let (promise, promised) = promise();
        if self.is_over.get() {
            return promised;
        }
        self.waiting.borrow_mut().insert(id, promise);
        self.requests.borrow_mut().push_back((id, request));
        self.host.notify();
        promised
    }

    /// Something was pulled.
    pub fn report(&self, report: Input) {
        self.reports.borrow_mut().push(report);
        self.host.notify();
    }

    /// Asks it to stop; it says so when it has.
    pub fn stop(&self) {
        self.is_stopping.set(true);
        self.host.notify();
    }

    /// Tells the lane who the node is by now, and whom it should stay connected to.
    fn introduce(&self) {
        let control = self.running.control.borrow();
        let (membership, incarnation) = (control.membership(), control.incarnation());
        self.host.change(|identity, _| {
            identity.cluster = membership.map(|membership| membership.cluster);
            identity.node_number = membership.map(|membership| membership.node.0);
            identity.incarnation = incarnation.map_or(0, |incarnation| incarnation.0);
        });
        let Some(state) = control.state() else { return };
        if self.kept.replace(Some(state.ring_version)) != Some(state.ring_version) {
            self.peers.keep(state.members.values().map(|member| member.profile.address.as_str()));
        }
    }

    /// Sends messages, and tells clients what they wait for.
    fn hand_out(&self, outputs: Vec<Output>) {
        let control = self.running.control.borrow();
        for output in outputs {
            match output {
                Output::Send { to, message } => self.peers.send(&to, message.encode()),
                Output::Stopped { is_agreed } => self.stopped.set(Some(is_agreed)),
                Output::Answer(id, answer) => {
                    if let Some(promise) = self.waiting.borrow_mut().remove(&id) {
                        let settings = control.state().map(|state| &state.settings).into_iter().flatten();
                        let versions = settings.map(|(name, setting)| (name.clone(), setting.version)).collect();
                        promise.keep((answer, versions));
                    }
                }
            }
        }
    }
}

/// Starts what runs on a machine that has just come up.
pub fn start(world: &Rc<World>, machine: usize, io: &SimIo) {
    let (world, task_io) = (world.clone(), io.clone());
    world.slots[machine].is_starting.set(true);
    io.spawn(async move {
        if let Err(error) = run(&world, machine, task_io.clone()).await {
            world.note(|| format!("n{machine} its file fails: {error}"));
            world.oracle.borrow_mut().count("failures of a file");
            world.stopped(machine);
            world.slots[machine].has_failed.set(true);
        }
    });
}

async fn run(world: &Rc<World>, machine: usize, io: SimIo) -> Result<(), String> {
    let mut new_store = [0; 16];
    new_store[..8].copy_from_slice(&io.random_u64().to_le_bytes());
    new_store[8] = machine as u8;
    let opened = Backend::open_or_make(&io, StoreId(new_store)).await;
    let (backend, store, saved) = opened.map_err(|error| error.to_string())?;
    let store_id = saved.store;
    let settings = {
        let mut settings = world.slots[machine].settings.borrow_mut();
        settings.nonce = io.random_u64();
        settings.clone()
    };
    let (oldest, newest) = settings.profile.levels;
    let identity = Identity {
        cluster: None,
        node_number: None,
        node: settings.node_id.parse().expect("the id of a node"),
        store: store_id,
        incarnation: 0,
        levels: VersionRange::new(oldest, newest).expect("a range of levels"),
    };
    let secrets = world.slots[machine].secrets.borrow().clone();
    let host = SimHost::new(&settings.profile.address, identity, secrets);
    let peers = Peers::with_limits(io.clone(), io.link(), host.clone(), world.limits);
    io.spawn(peers.clone().accept_all());
    let control = RefCell::new(Control::new(settings, store, saved));
    let process = Rc::new(Process {
        running: Running { io: io.clone(), control, looked_at: Cell::new(None), table: RefCell::default() },
        host: host.clone(),
        peers,
        kept: Cell::new(None),
        pulls: RefCell::default(),
        reports: RefCell::default(),
        requests: RefCell::default(),
        waiting: RefCell::default(),
        last_request: Cell::new(0),
        is_over: Cell::new(false),
        is_stopping: Cell::new(false),
        stopped: Cell::new(None),
    });
    *world.slots[machine].process.borrow_mut() = Some(process.clone());
    world.slots[machine].is_starting.set(false);
    let mut next_tick = io.now();
    loop {
        let outputs = step(world, machine, &process, &mut next_tick).map_err(|error| error.to_string())?;
        // What the disk took, everybody waits for.
        let delay = backend.take_delay();
        if delay > Duration::ZERO {
            io.sleep(delay).await;
        }
        process.introduce();
        process.hand_out(outputs);
        let until = next_tick.since(io.now());
        pulls::begin(world, &process);
        let has_work = || {
            !host.is_empty()
                || !process.requests.borrow().is_empty()
                || !process.reports.borrow().is_empty()
                || process.is_stopping.get()
        };
        match race(host.wait_until(has_work), io.sleep(until)).await {
            Either::First(()) | Either::Second(()) => {}
        }
    }
}

/// Takes in all that is there, and settles once.
fn step(
    world: &World,
    machine: usize,
    process: &Process,
    next_tick: &mut Instant,
) -> Result<Vec<Output>, nabu_cluster::control::store::StoreError> {
    let now = process.running.io.now();
    let mut outputs = Vec::new();
    let mut control = process.running.control.borrow_mut();
    for (sender, message) in process.host.take_messages() {
        world.note(|| format!("    {machine} from {}: {message:?}", sender.address));
        control.take(now, Input::Message(sender, message), &mut outputs)?;
    }
    for address in process.host.take_unreachable() {
        control.take(now, Input::Unreachable(address), &mut outputs)?;
    }
    for (id, request) in process.requests.borrow_mut().drain(..) {
        control.take(now, Input::Request(id, request), &mut outputs)?;
    }
    for report in process.reports.borrow_mut().drain(..) {
        control.take(now, report, &mut outputs)?;
    }
    if process.is_stopping.take() {
        control.take(now, Input::Stop, &mut outputs)?;
    }
    if now >= *next_tick {
        control.take(now, Input::Tick, &mut outputs)?;
        *next_tick = now.after(TICK);
    }
    control.settle(now, &mut outputs)?;
    drop(control);
    let processes: Vec<Rc<Process>> = world.slots.iter().filter_map(|slot| slot.process.borrow().clone()).collect();
    let all: Vec<&Running> = processes.iter().map(|process| &process.running).collect();
    world.oracle.borrow_mut().look(&process.running, &all);
    Ok(outputs)
}
