//! Buffers.
use super::table::{Buffer, Charge, Object};
use super::{Engine, body};
use kasoku_abi::accel::Range;
use kasoku_abi::accel::command::Descriptor;
use kasoku_abi::accel::memory::{CreateBuffer, CreateSubBuffer, STORAGE_ALIGN};
use kasoku_abi::accel::session;
use kasoku_backend::{Backend, BufferSpec, HostBytes, Status};
use std::sync::{Arc, Mutex};

impl<B: Backend> Engine<B> {
    pub fn create_buffer(&mut self, descriptor: &Descriptor) -> Result<Object<B>, Status> {
        let CreateBuffer { context, size, storage, initial, flags, address, .. } = body(descriptor);
        let context = Arc::clone(self.table.context(context)?);
        let storage_range = storage;
        let storage = self.host_side(storage, size)?;
        let initial = self.host_side(initial, size)?;
        if storage.is_some() && initial.is_some() {
            return Err(B::CODES.bad_value);
        }
        // The arena begins on a page.
        if storage.is_some() && !storage_range.offset.is_multiple_of(STORAGE_ALIGN) {
            return Err(B::CODES.bad_value);
        }
        if address != 0 {
            let start = address.checked_sub(session::ARENA).and_then(|arena| arena.checked_sub(storage_range.offset));
            let possible = storage.is_some() && self.shares_addresses();
            if !possible || !start.is_some_and(|start| self.memory.share_addresses(start)) {
                return Err(B::CODES.bad_operation);
            }
        }
        let mut spec = BufferSpec { size, flags, storage, initial };
        let mut storage = storage;
        if self.is_recoverable() {
            (spec.storage, spec.initial) = (None, spec.storage.or(spec.initial));
            // Mappings are shown where the guest looks, whatever the first contents come from.
            storage = storage.and_then(|_| self.memory.arena(storage_range));
        }
        // Implementations allocate lazily, so the quota is kept here. A direct buffer costs the arena, which the guest has.
        let bytes = if spec.storage.is_some() { 0 } else { size };
        let charge = Charge::take(&self.device_memory_left, bytes).ok_or(B::CODES.no_device_memory)?;
        let raw = self.backend.create_buffer(&context.raw, &spec)?;
        Ok(Object::Buffer(Arc::new(Buffer {
            raw,
            id: descriptor.target,
            context,
            origin: 0,
            size,
            flags,
            storage,
            storage_range,
            address,
            maps: Mutex::default(),
            _charge: charge,
            parent: None,
        })))
    }

    pub fn create_sub_buffer(&mut self, descriptor: &Descriptor) -> Result<Object<B>, Status> {
        let CreateSubBuffer { parent, origin, size, flags, .. } = body(descriptor);
        let parent = Arc::clone(self.table.buffer(parent)?);
        if origin.checked_add(size).is_none_or(|end| end > parent.size) || parent.parent.is_some() {
            return Err(B::CODES.bad_value);
        }
        let raw = self.backend.create_sub_buffer(&parent.raw, flags, origin, size)?;
        let storage = parent.storage.and_then(|storage| storage.part(origin as usize, size as usize));
        let charge = Charge::take(&self.device_memory_left, 0).ok_or(B::CODES.no_device_memory)?;
        Ok(Object::Buffer(Arc::new(Buffer {
            raw,
            id: descriptor.target,
            context: Arc::clone(&parent.context),
            origin,
            size,
            flags,
            storage,
            storage_range: Range::NONE,
            address: 0,
            maps: Mutex::default(),
            _charge: charge,
            parent: Some(parent),
        })))
    }

    /// An optional range that must be as long as its buffer.
    fn host_side(&self, range: Range, size: u64) -> Result<Option<HostBytes>, Status> {
        if range == Range::NONE {
            return Ok(None);
        }
        if range.len != size {
            return Err(B::CODES.bad_value);
        }
        self.bytes(range).map(Some)
    }
}
