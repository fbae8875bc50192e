//! A buffer's bytes in the arena.
use alloc::sync::Arc;

use kasoku_abi::accel::{Range, memory};

use crate::buffer::Buffer;
use crate::driver::Driver;
use crate::progress::Uses;
use crate::svm::Place;

/// Bytes of the arena, given back when nothing uses them any more.
pub struct Storage {
    driver: &'static Driver,
    pub range: Range,
    /// The commands that use them.
    pub uses: Arc<Uses>,
    /// Whose they are, if not this buffer's own.
    block: Option<Arc<Buffer>>,
}

impl Storage {
    /// Bytes of its own; nothing when the arena has no room for them.
    pub fn own(driver: &'static Driver, size: u64, align: u64) -> Option<Self> {
        let range = driver.take_storage(size, align)?;
        Some(Self { driver, range, uses: Arc::default(), block: None })
    }

    /// `size` bytes of a block of shared virtual memory, where devices can work in them as they lie.
    pub fn inside(place: Place, size: u64) -> Option<Self> {
        let Place { block, offset } = place;
        let driver = block.context.driver;
        let whole = block.storage.as_ref()?.range;
        let range = Range { offset: whole.offset + offset, len: size };
        let uses = Arc::clone(&block.uses);
        let aligned = range.offset.is_multiple_of(memory::STORAGE_ALIGN);
        aligned.then_some(Self { driver, range, uses, block: Some(block) })
    }

    /// Whether the bytes are a program's, as they lie.
    pub fn is_shared(&self) -> bool {
        self.block.is_some()
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if self.block.is_none() {
            self.driver.backlog.retire(self.driver, self.range, Arc::clone(&self.uses));
        }
    }
}
