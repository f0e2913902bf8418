//! Messages over byte streams: to each address one connection, made when it is needed and made anew
//! when it breaks or nothing gets through it. What can't be sent is lost.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use nabu_cluster::bytes::{Malformed, Reader, Writer};
use nabu_cluster::control::member::{ClusterId, StoreId};
use nabu_cluster::control::message::{Message, Sender};
use nabu_cluster::node::NodeNumber;
use nabu_engine::io::{Clock, Spawn};
use nabu_engine::link::{Connection, Link, LinkReader, LinkWriter};
use nabu_engine::sim::{SimIo, SimLink};
use nabu_engine::sync::{Either, Notify, race};

/// Messages that wait for one address; those that come on top are lost.
const WAITING_MAX: usize = 512;
/// Messages that wait to be read.
const ARRIVED_MAX: usize = 4_096;
/// After this time without progress a connection is given up.
const PATIENCE: Duration = Duration::from_secs(3);
const BACKOFF: Duration = Duration::from_millis(200);

/// What has arrived.
#[derive(Default)]
pub struct Inbox {
    pub messages: RefCell<VecDeque<(Sender, Message)>>,
    /// Addresses to which messages were lost.
    pub unreachable: RefCell<Vec<String>>,
    pub arrived: Notify,
}

#[derive(Default)]
struct Queue {
    messages: RefCell<VecDeque<Vec<u8>>>,
    filled: Notify,
}

/// Sends.
pub struct Post {
    io: SimIo,
    inbox: Rc<Inbox>,
    queues: RefCell<BTreeMap<String, Rc<Queue>>>,
}

impl Post {
    pub fn open(io: &SimIo) -> (Rc<Post>, Rc<Inbox>) {
        let inbox = Rc::new(Inbox::default());
        let link = io.link();
        io.spawn(accept(io.clone(), link, inbox.clone()));
        (Rc::new(Post { io: io.clone(), inbox: inbox.clone(), queues: RefCell::default() }), inbox)
    }

    pub fn send(&self, to: &str, from: &Sender, message: &Message) {
        let mut queues = self.queues.borrow_mut();
        let queue = queues.entry(to.into()).or_insert_with(|| {
            let queue = Rc::new(Queue::default());
            self.io.spawn(deliver(self.io.clone(), to.into(), queue.clone(), self.inbox.clone()));
            queue
        });
        let mut messages = queue.messages.borrow_mut();
        if messages.len() < WAITING_MAX {
            messages.push_back(frame(from, message));
            drop(messages);
            queue.filled.notify();
        }
    }
}

async fn deliver(io: SimIo, to: String, queue: Rc<Queue>, inbox: Rc<Inbox>) {
    let link = io.link();
    loop {
        let first = queue.filled.wait_for(|| queue.messages.borrow_mut().pop_front()).await;
        if let Either::First(Ok(connection)) = race(link.connect(&to), io.sleep(PATIENCE)).await {
            write_all(&io, connection, first, &queue).await;
        }
        queue.messages.borrow_mut().clear();
        inbox.unreachable.borrow_mut().push(to.clone());
        inbox.arrived.notify();
        io.sleep(BACKOFF).await;
    }
}

/// Writes until the connection is of no use any more.
async fn write_all<R, W: LinkWriter>(io: &SimIo, mut connection: Connection<R, W>, first: Vec<u8>, queue: &Queue) {
    let mut message = first;
    loop {
        match race(connection.writer.write(message), io.sleep(PATIENCE)).await {
            Either::First((Ok(()), _)) => {}
            Either::First((Err(_), _)) | Either::Second(()) => return,
        }
        message = queue.filled.wait_for(|| queue.messages.borrow_mut().pop_front()).await;
    }
}

async fn accept(io: SimIo, link: SimLink, inbox: Rc<Inbox>) {
    loop {
        if let Ok(connection) = link.accept().await {
            io.spawn(read_all(connection, inbox.clone()));
        }
    }
}

async fn read_all<R: LinkReader, W>(mut connection: Connection<R, W>, inbox: Rc<Inbox>) {
    let mut received: Vec<u8> = Vec::new();
    let mut buf = vec![0; 16 << 10];
    loop {
        let (result, returned) = connection.reader.read(buf).await;
        buf = returned;
        match result {
            Ok(0) | Err(_) => return,
            Ok(count) => received.extend_from_slice(&buf[..count]),
        }
        let mut rest = received.as_slice();
        while let Some((length, body)) = rest.split_first_chunk::<4>() {
            let Some((body, next)) = body.split_at_checked(u32::from_le_bytes(*length) as usize) else { break };
            let message = open(body).expect("bytes arrive unaltered");
            let mut messages = inbox.messages.borrow_mut();
            if messages.len() < ARRIVED_MAX {
                messages.push_back(message);
            }
            rest = next;
        }
        received = rest.into();
        inbox.arrived.notify();
    }
}

fn frame(from: &Sender, message: &Message) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.text(&from.address);
    writer.option(from.cluster, |writer, cluster| writer.raw(&cluster.0));
    writer.option(from.node, |writer, node| writer.u64(node.0));
    writer.raw(&from.store.0);
    writer.raw(&message.encode());
    let body = writer.into_bytes();
    [&(body.len() as u32).to_le_bytes(), body.as_slice()].concat()
}

fn open(body: &[u8]) -> Result<(Sender, Message), Malformed> {
    let mut reader = Reader::new(body);
    let sender = Sender {
        address: reader.text("address")?.into(),
        cluster: reader.option("cluster", |reader| reader.array("cluster").map(ClusterId))?,
        node: reader.option("node", |reader| reader.u64("node").map(NodeNumber))?,
        store: StoreId(reader.array("store")?),
    };
    Ok((sender, Message::decode(reader.rest())?))
}
