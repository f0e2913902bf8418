//! One machine of a simulation, as a test sees it from outside: its disk, its clocks, its cores.

use std::cell::RefCell;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use super::crash::CrashMode;
use super::fault::{Faults, FlippedBit, Stats};
use super::io::SimIo;
use super::schedule::SimCore;
use super::state::State;
use crate::types::CoreId;

/// A machine of [`Sim`](super::Sim). What it does not say of itself is as the methods of the same
/// name there, which are those of machine 0.
#[derive(Clone, Copy)]
pub struct SimNode<'a> {
    pub(super) state: &'a Rc<RefCell<State>>,
    pub(super) node: u16,
}

impl SimNode<'_> {
    /// The seam of a core, for the life that the machine lives now. Any number of cores exist.
    pub fn io(&self, core: u16) -> SimIo {
        let state = self.state.clone();
        let life = state.borrow().node(self.node).device.life;
        SimIo { state, place: self.place(core), life }
    }

    /// The machine goes down, and is up again at once: its tasks are gone, its disk has what it
    /// kept, and what begins through a new [`SimNode::io`] is its next life. Others continue.
    ///
    /// # Panics
    /// When it is down.
    pub fn crash(&self, mode: CrashMode) {
        assert!(!self.is_down(), "n{} is down", self.node);
        self.end_life(mode);
        self.begin_life();
        self.state.borrow_mut().schedule_late(self.node);
    }

    /// The machine goes down and stays so. After [`CrashMode::Process`] its kernel still answers:
    /// connections are closed and dials refused. Without power it is silent.
    ///
    /// # Panics
    /// When it is down.
    pub fn go_down(&self, mode: CrashMode) {
        assert!(!self.is_down(), "n{} is down", self.node);
        self.end_life(mode);
        let mut state = self.state.borrow_mut();
        state.stay_down(self.node, mode);
        state.schedule_late(self.node);
    }

    /// A machine that went down begins its next life, with what its disk kept. What was taken of it
    /// while it was down, as [`SimNode::io`], belongs to no life.
    ///
    /// # Panics
    /// When it is up.
    pub fn come_up(&self) {
        assert!(self.is_down(), "n{} is up", self.node);
        self.state.borrow_mut().node_mut(self.node).device.life += 1;
        self.begin_life();
    }

    pub fn is_down(&self) -> bool {
        self.state.borrow().is_down(self.node)
    }

    /// The machine's life ends; what comes late of it is not scheduled yet.
    pub(super) fn end_life(&self, mode: CrashMode) {
        self.stop();
        let (ended, woken) = self.state.borrow_mut().end_life(self.node, mode);
        drop(ended);
        woken.into_iter().for_each(Waker::wake);
    }

    /// A machine whose life has ended is up again.
    pub(super) fn begin_life(&self) {
        let woken = self.state.borrow_mut().come_up(self.node);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Drops the tasks of the machine.
    pub(super) fn stop(&self) {
        // First, so that what destructors would still start does not begin.
        self.state.borrow_mut().node_mut(self.node).device.life += 1;
        let dropped = self.state.borrow_mut().take_tasks(|place| place.node == self.node);
        drop(dropped);
    }

    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state.borrow_mut().node_mut(self.node).device.faults.everywhere);
    }

    pub fn faults_of(&self, dir: &Path, change: impl FnOnce(&mut Faults)) {
        let state = &mut *self.state.borrow_mut();
        let faults = &mut state.node_mut(self.node).device.faults;
        change(faults.of_dirs.entry(dir.into()).or_default());
    }

    pub fn forget_faults_of_dirs(&self) {
        self.state.borrow_mut().node_mut(self.node).device.faults.of_dirs.clear();
    }

    pub fn release_stuck(&self) {
        self.state.borrow_mut().release_stuck(self.node);
    }

    pub fn stuck_count(&self) -> usize {
        self.state.borrow().stuck_count(self.node)
    }

    pub fn set_capacity(&self, bytes: u64) {
        self.state.borrow_mut().node_mut(self.node).device.disk.capacity = bytes;
    }

    pub fn set_capacity_of(&self, dir: &Path, bytes: u64) {
        self.state.borrow_mut().node_mut(self.node).device.disk.set_capacity_of(dir, bytes);
    }

    /// Lets a core run nothing for this long, by the time of the simulation. A pause that is on
    /// ends with this one.
    pub fn pause(&self, core: u16, duration: Duration) {
        self.state.borrow_mut().pause(self.place(core), duration.as_nanos() as u64);
    }

    /// Lets all of its cores run nothing for this long, as a process that is stopped. Its kernel
    /// goes on: bytes arrive and dials succeed. A pause of all cores that is on ends with this one.
    pub fn pause_all(&self, duration: Duration) {
        self.state.borrow_mut().pause_node(self.node, duration.as_nanos() as u64);
    }

    pub fn jump_wall_clock(&self, nanoseconds: i64) {
        self.state.borrow_mut().change_clock(self.node, |clock, _| clock.jump_wall_clock(nanoseconds));
    }

    /// Lets the machine's clocks go this many millionths faster than the simulation's, or slower.
    pub fn set_clock_rate(&self, faster_ppm: i32) {
        self.state.borrow_mut().change_clock(self.node, |clock, now| clock.set_rate(now, faster_ppm));
    }

    /// Lets the machine's clocks jump ahead, the monotonic one too, as after a sleep of the
    /// machine.
    pub fn advance_clock(&self, duration: Duration) {
        let nanoseconds = duration.as_nanos() as u64;
        self.state.borrow_mut().change_clock(self.node, |clock, now| clock.advance(now, nanoseconds));
    }

    /// Gives the machine, which is down, an empty disk in place of its own.
    pub fn wipe(&self) {
        assert!(self.is_down(), "a disk is replaced while its machine is down");
        let mut state = self.state.borrow_mut();
        let device = &mut state.node_mut(self.node).device;
        device.disk = device.disk.emptied();
    }

    /// Lets `count` more operations on files that block ([`SimIo::open_blocking`]) do what they do,
    /// until the machine goes down: each further one fails with `EIO` and does nothing. So a crash
    /// can come at every step of what goes on in one call.
    pub fn cut_blocking_after(&self, count: u64) {
        self.state.borrow_mut().node_mut(self.node).blocking_left = Some(count);
    }

    /// How many operations on files that block there were, over all lives.
    pub fn blocking_operations(&self) -> u64 {
        self.state.borrow().node(self.node).blocking_operations
    }

    pub fn flip_bits(&self, count: usize) -> Vec<FlippedBit> {
        let state = &mut *self.state.borrow_mut();
        let device = &mut state.nodes[usize::from(self.node)].device;
        let flipped: Vec<FlippedBit> = (0..count).map_while(|_| device.disk.flip_bit(&mut state.random)).collect();
        device.stats.flipped_bits += flipped.len() as u64;
        flipped
    }

    pub fn files(&self) -> Vec<PathBuf> {
        self.state.borrow().node(self.node).device.disk.files().map(|(path, _)| path.into()).collect()
    }

    pub fn read_file(&self, path: &Path) -> Result<Vec<u8>> {
        let state = self.state.borrow();
        let disk = &state.node(self.node).device.disk;
        let inode = disk.inode(disk.file(path)?);
        let mut content = vec![0; inode.size as usize];
        inode.read(0, &mut content);
        Ok(content)
    }

    pub fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
        let state = &mut *self.state.borrow_mut();
        let disk = &mut state.node_mut(self.node).device.disk;
        (offset..).zip(bytes).try_for_each(|(offset, new)| disk.tamper(path, offset, |byte| *byte = *new))
    }

    pub fn truncate(&self, path: &Path, size: u64) -> Result<()> {
        self.state.borrow_mut().node_mut(self.node).device.disk.truncate(path, size)
    }

    pub fn stats(&self) -> Stats {
        let state = self.state.borrow();
        Stats { steps: state.steps, ..state.node(self.node).device.stats }
    }

    fn place(&self, core: u16) -> SimCore {
        SimCore { node: self.node, core: CoreId(core) }
    }
}
