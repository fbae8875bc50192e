//! Who answers for a device number. Drivers register here; nodes only carry the number.
use super::entry::Entry;
use super::file::File;
use super::node::DeviceOpener;
use super::stat::Kind;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, Once};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

static DRIVERS: Mutex<BTreeMap<u64, DeviceOpener>> = Mutex::new(BTreeMap::new());

/// Opens a named pipe: as on Linux it may wait for the other end.
pub type FifoOpener = fn(&Arc<Entry>, u32) -> Result<Arc<dyn File>>;
static FIFO: Once<FifoOpener> = Once::new();

/// From now on `opener` answers for character devices of that number.
pub fn register(number: u64, opener: DeviceOpener) {
    DRIVERS.lock().insert(number, opener);
}

/// From now on `opener` answers for named pipes.
pub fn register_fifo(opener: FifoOpener) {
    FIFO.call_once(|| opener);
}

/// Opens the device that an entry names: ENXIO when nobody answers for it.
pub fn open(entry: &Arc<Entry>, number: u64, own: Option<&DeviceOpener>, flags: u32) -> Result<Arc<dyn File>> {
    let registered = || DRIVERS.lock().get(&number).cloned();
    let opener = own.cloned().or_else(|| (entry.node.kind == Kind::CharDevice).then(registered).flatten());
    opener.ok_or(Errno::ENXIO)?(entry, flags)
}

pub fn open_fifo(entry: &Arc<Entry>, flags: u32) -> Result<Arc<dyn File>> {
    FIFO.get().ok_or(Errno::ENXIO)?(entry, flags)
}
