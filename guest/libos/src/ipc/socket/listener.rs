//! Connections that were made and nobody has accepted yet.
use super::common::Common;
use crate::errno::{Errno, Result};
use crate::ipc::WRITABLE;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// Largest backlog (net.core.somaxconn).
const BACKLOG_MAX: usize = 4096;

/// What can be woken once there is room: an endpoint that waits in `connect`.
pub(super) trait Connector: Send + Sync {
    fn common(&self) -> &Common;

    /// There may be room: goes on where nobody waits in `connect` for it.
    fn retry(&self) {}
}

/// Those who wait for room in a backlog.
pub(super) type Connectors = Vec<Weak<dyn Connector>>;

pub(super) struct Listener<T: ?Sized> {
    backlog: usize,
    waiting: VecDeque<Arc<T>>,
    connectors: Connectors,
}

impl<T: ?Sized> Listener<T> {
    pub fn new(backlog: i32) -> Listener<T> {
        let mut listener = Listener { backlog: 0, waiting: VecDeque::new(), connectors: Vec::new() };
        listener.set_backlog(backlog);
        listener
    }

    /// As on Linux, a negative backlog is a very large one.
    pub fn set_backlog(&mut self, backlog: i32) {
        self.backlog = (backlog as u32 as usize).min(BACKLOG_MAX);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// One more than the backlog fits, as on Linux.
    pub fn is_full(&self) -> bool {
        self.waiting.len() > self.backlog
    }

    /// Adds a connection that was made.
    pub fn push(&mut self, connection: Arc<T>) {
        self.waiting.push_back(connection);
    }

    /// Remembers who wants to connect once there is room.
    pub fn wait(&mut self, connector: Weak<dyn Connector>) {
        self.connectors.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&connector));
        self.connectors.push(connector);
    }

    /// The oldest connection, and whom to tell (with nothing locked) that there is room.
    pub fn pop(&mut self) -> Result<(Arc<T>, Connectors)> {
        let connection = self.waiting.pop_front().ok_or(Errno::EAGAIN)?;
        Ok((connection, core::mem::take(&mut self.connectors)))
    }

    /// Ends it: all connections and connectors.
    pub fn finish(self) -> (VecDeque<Arc<T>>, Connectors) {
        (self.waiting, self.connectors)
    }
}

/// Tells those who want to connect to try again.
pub(super) fn wake_connectors(connectors: Connectors) {
    for connector in connectors.iter().filter_map(Weak::upgrade) {
        connector.retry();
        connector.common().queue.wake_for(WRITABLE);
    }
}
