//! Handles: what the program holds of an object.
//!
//! The specification lets a program pass anything, and an error code must come back. So a handle is not the address of
//! the object but of a small slot in one reserved range of addresses, whose first word is the dispatch pointer that the
//! ICD loader follows. A handle is checked by three comparisons and no lock: inside the range, on a slot's boundary, of
//! the expected type. Untouched slots are zero, so no address in the range is unsafe to look at.
//!
//! A slot lives as long as its object: an object that the program has released, but that another one needs, still has a
//! handle that info queries can give out.
use alloc::sync::Arc;
use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use kasoku_accel_client::lock::Mutex;
use kasoku_accel_client::sys;

use crate::cl::CL_OUT_OF_HOST_MEMORY;
use crate::entries::{DISPATCH, Dispatch};
use crate::error::Result;

/// Any of the `cl_*` object types.
pub type Raw = *mut c_void;

/// Most objects alive at a time.
const SLOTS: usize = 1 << 20;
const SLOT_LEN: usize = 64;

#[repr(C, align(64))]
struct Slot {
    /// Where ICD loaders look: must be the first word.
    dispatch: AtomicPtr<Dispatch>,
    /// `Object::KIND` of the object; 0 = free.
    kind: AtomicU32,
    /// References that the program holds.
    references: AtomicU32,
    /// The object, as `Arc::into_raw` gives it.
    body: AtomicPtr<c_void>,
    next_free: AtomicPtr<Slot>,
}
const _: () = assert!(size_of::<Slot>() == SLOT_LEN);

/// What the specification counts references of.
pub trait Object: Send + Sync + 'static {
    /// Distinguishes the types; not 0.
    const KIND: u32;
    /// The error for a handle that is not one of this type.
    const INVALID: i32;
    /// The object's own slot.
    fn identity(&self) -> &Identity;
}

/// Start of the reserved range; 0 until the first object.
static BASE: AtomicUsize = AtomicUsize::new(0);
static FREE: Mutex<Free> = Mutex::new(Free { first: null_mut(), untouched: 0 });

struct Free {
    first: *mut Slot,
    /// Slots from this number on were never used.
    untouched: usize,
}
// SAFETY: the pointer is to slots, which are made of atomics and never unmapped.
unsafe impl Send for Free {}

/// A slot that belongs to one object and is free again when the object is dropped.
#[derive(Debug)]
pub struct Identity(*mut Slot);

// SAFETY: slots are made of atomics and never unmapped.
unsafe impl Send for Identity {}
// SAFETY: as above.
unsafe impl Sync for Identity {}

impl Identity {
    /// Reserves a slot for an object to be made.
    pub fn new() -> Result<Self> {
        let mut free = FREE.lock();
        if !free.first.is_null() {
            let slot = free.first;
            // SAFETY: slots on the list are mapped for ever.
            free.first = unsafe { (*slot).next_free.load(Ordering::Relaxed) };
            return Ok(Self(slot));
        }
        if free.untouched == SLOTS {
            return Err(CL_OUT_OF_HOST_MEMORY);
        }
        let base = match BASE.load(Ordering::Relaxed) {
            0 => {
                let flags = sys::MAP_PRIVATE | sys::MAP_ANONYMOUS | sys::MAP_NORESERVE;
                let range = sys::map(SLOTS * SLOT_LEN, sys::PROT_READ | sys::PROT_WRITE, flags, -1);
                let base = range.map_err(|_| CL_OUT_OF_HOST_MEMORY)? as usize;
                BASE.store(base, Ordering::Release);
                base
            }
            base => base,
        };
        free.untouched += 1;
        Ok(Self((base + (free.untouched - 1) * SLOT_LEN) as *mut Slot))
    }

    /// The handle that the program gets or has.
    pub fn raw(&self) -> Raw {
        self.0.cast()
    }

    /// References that the program holds.
    pub fn references(&self) -> u32 {
        self.slot().references.load(Ordering::Relaxed)
    }

    fn slot(&self) -> &Slot {
        // SAFETY: slots are mapped for ever.
        unsafe { &*self.0 }
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.slot().kind.store(0, Ordering::Release);
        let mut free = FREE.lock();
        self.slot().next_free.store(free.first, Ordering::Relaxed);
        free.first = self.0;
    }
}

/// Makes `object`'s handle valid, with one reference, and returns it.
pub fn publish<T: Object>(object: Arc<T>) -> Raw {
    let raw = object.identity().raw();
    let slot: *const Slot = object.identity().0;
    // SAFETY: slots are mapped for ever.
    let slot = unsafe { &*slot };
    slot.dispatch.store((&raw const DISPATCH).cast_mut(), Ordering::Relaxed);
    slot.references.store(1, Ordering::Relaxed);
    slot.body.store(Arc::into_raw(object) as *mut c_void, Ordering::Relaxed);
    slot.kind.store(T::KIND, Ordering::Release);
    raw
}

fn find<T: Object>(raw: Raw) -> Result<&'static Slot> {
    let base = BASE.load(Ordering::Acquire);
    let offset = (raw as usize).wrapping_sub(base);
    if base == 0 || offset >= SLOTS * SLOT_LEN || !offset.is_multiple_of(SLOT_LEN) {
        return Err(T::INVALID);
    }
    // SAFETY: inside the range, on a slot's boundary; a slot is valid with any bytes that this module stores.
    let slot = unsafe { &*raw.cast::<Slot>() };
    if slot.kind.load(Ordering::Acquire) == T::KIND { Ok(slot) } else { Err(T::INVALID) }
}

/// A live object, borrowed for one call: the specification obliges the program to hold a reference meanwhile.
pub type Borrowed<T> = ManuallyDrop<Arc<T>>;

/// The object behind a handle.
pub fn get<T: Object>(raw: Raw) -> Result<Borrowed<T>> {
    let slot = find::<T>(raw)?;
    // SAFETY: the slot's kind says that `publish::<T>` stored the pointer, and the object's drop would have cleared it.
    Ok(ManuallyDrop::new(unsafe { Arc::from_raw(slot.body.load(Ordering::Relaxed) as *const T) }))
}

/// `clRetain*`.
pub fn retain<T: Object>(raw: Raw) -> Result<()> {
    let slot = find::<T>(raw)?;
    if slot.references.fetch_add(1, Ordering::Relaxed) == 0 {
        // The program had let go of it, another object keeps it alive: the program's share is back.
        // SAFETY: as in `get`.
        unsafe { Arc::increment_strong_count(slot.body.load(Ordering::Relaxed) as *const T) };
    }
    Ok(())
}

/// `clRelease*`.
pub fn release<T: Object>(raw: Raw) -> Result<()> {
    let slot = find::<T>(raw)?;
    let held = slot.references.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| count.checked_sub(1));
    if held.map_err(|_| T::INVALID)? == 1 {
        // SAFETY: the program's references together own one count of the Arc, which ends here.
        drop(unsafe { Arc::from_raw(slot.body.load(Ordering::Relaxed) as *const T) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing<const KIND: u32>(Identity);
    impl<const KIND: u32> Object for Thing<KIND> {
        const KIND: u32 = KIND;
        const INVALID: i32 = -(KIND as i32);
        fn identity(&self) -> &Identity {
            &self.0
        }
    }

    #[test]
    fn anything_but_a_live_handle_of_the_type_is_refused() {
        let raw = publish(Arc::new(Thing::<1001>(Identity::new().unwrap())));
        assert!(get::<Thing<1001>>(raw).is_ok());
        assert_eq!(get::<Thing<1002>>(raw).err(), Some(-1002));
        for wrong in [0usize, 1, 8, raw as usize + 8, raw as usize + 64 * 1000, usize::MAX, &raw as *const _ as usize] {
            assert_eq!(get::<Thing<1001>>(wrong as Raw).err(), Some(-1001));
        }
        release::<Thing<1001>>(raw).unwrap();
        assert_eq!(release::<Thing<1001>>(raw), Err(-1001));
    }

    #[test]
    fn an_object_that_another_holds_can_be_retained_again() {
        let object = Arc::new(Thing::<1003>(Identity::new().unwrap()));
        let raw = publish(Arc::clone(&object));
        release::<Thing<1003>>(raw).unwrap();
        assert_eq!(release::<Thing<1003>>(raw), Err(-1003));
        retain::<Thing<1003>>(raw).unwrap();
        drop(object);
        assert_eq!(get::<Thing<1003>>(raw).unwrap().identity().references(), 1);
        release::<Thing<1003>>(raw).unwrap();
        assert_eq!(get::<Thing<1003>>(raw).err(), Some(-1003));
    }
}
