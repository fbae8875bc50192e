//! Commands between buffers: copies, fills, migration.
use core::ffi::c_void;

use kasoku_abi::accel::command::{COPY_BUFFER, COPY_BUFFER_RECT, FILL_BUFFER, MARKER};
use kasoku_abi::accel::memory;
use kasoku_accel_client::mem::copy_data;

use crate::answer::list;
use crate::buffer::Buffer;
use crate::cl::*;
use crate::error::{Result, code, ensure};
use crate::handle::{Raw, get};
use crate::memory::Memory;
use crate::order::Order;
use crate::queue::Queue;
use crate::rect::Area;
use crate::transfer::triple;

/// Up to so many bytes, a copy between buffers in this guest's memory takes less time than waking the device for it. The call does
/// not return before it is done, so a longer one is the device's.
const COPIED_HERE: usize = 1 << 20;

/// Where two buffers name the same bytes, the offset of each in its root.
fn shared_origins(a: &Buffer, b: &Buffer) -> Option<(u64, u64)> {
    (core::ptr::eq(a.root(), b.root())).then_some((a.origin, b.origin))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueCopyBuffer(
    queue: Raw,
    source: Raw,
    destination: Raw,
    source_offset: usize,
    destination_offset: usize,
    size: usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = get::<Queue>(queue)?;
        let (from, to) = (get::<Buffer>(source)?, get::<Buffer>(destination)?);
        from.check_use(&queue.context, &queue.device)?;
        to.check_use(&queue.context, &queue.device)?;
        from.check(source_offset, size)?;
        to.check(destination_offset, size)?;
        let order = Order::new(&queue, CL_COMMAND_COPY_BUFFER, count, waits, event)?;
        if let Some((a, b)) = shared_origins(&from, &to) {
            let distance = (a + source_offset as u64).abs_diff(b + destination_offset as u64);
            ensure(distance >= size as u64, CL_MEM_COPY_OVERLAP)?;
        }
        if size <= COPIED_HERE
            && order.is_free()
            && let (Some(source), Some(destination)) = (from.address(), to.address())
        {
            let started = order.now_ns();
            // SAFETY: both ranges were checked against their buffers, and do not overlap.
            unsafe { copy_data(destination.add(destination_offset), source.add(source_offset), size) };
            return order.done(started);
        }
        let command = queue.context.driver.command(COPY_BUFFER, queue.id).body(&memory::Copy {
            source: from.id,
            destination: to.id,
            source_offset: source_offset as u64,
            destination_offset: destination_offset as u64,
            size: size as u64,
        });
        order.post(command, &[&from.uses, &to.uses], None)
    })
}

/// Whether two regions of the same bytes, of equal shape and pitches, meet: the test of the specification's appendix
/// "CL_MEM_COPY_OVERLAP", which may also take some for meeting that do not.
fn rects_overlap(a: &Area, a_base: u64, b: &Area, b_base: u64) -> bool {
    let slice_len = (a.region[1] - 1) * a.row_pitch + a.region[0];
    let block_len = (a.region[2] - 1) * a.slice_pitch + slice_len;
    let (a_start, b_start) = (a_base + a.start(), b_base + b.start());
    // Whether one part of length `len` lies in the gap that the other leaves in each period of `pitch`.
    let apart = |len: u64, pitch: u64| {
        let (x, y) = (a_start % pitch, b_start % pitch);
        (y >= x + len && y + len <= x + pitch) || (x >= y + len && x + len <= y + pitch)
    };
    let disjoint = b_start + block_len <= a_start || a_start + block_len <= b_start;
    !(disjoint || apart(a.region[0], a.row_pitch) || apart(slice_len, a.slice_pitch))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueCopyBufferRect(
    queue: Raw,
    source: Raw,
    destination: Raw,
    source_origin: *const usize,
    destination_origin: *const usize,
    region: *const usize,
    source_row: usize,
    source_slice: usize,
    destination_row: usize,
    destination_slice: usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = get::<Queue>(queue)?;
        let (from, to) = (get::<Buffer>(source)?, get::<Buffer>(destination)?);
        from.check_use(&queue.context, &queue.device)?;
        to.check_use(&queue.context, &queue.device)?;
        // SAFETY: the program's arrays, as the specification says.
        let (source_origin, destination_origin, region) =
            unsafe { (triple(source_origin)?, triple(destination_origin)?, triple(region)?) };
        let a = Area::checked(source_origin, region, source_row, source_slice)?;
        let b = Area::checked(destination_origin, region, destination_row, destination_slice)?;
        ensure(a.end().is_some_and(|end| end <= from.size), CL_INVALID_VALUE)?;
        ensure(b.end().is_some_and(|end| end <= to.size), CL_INVALID_VALUE)?;
        let order = Order::new(&queue, CL_COMMAND_COPY_BUFFER_RECT, count, waits, event)?;
        if let Some((base_a, base_b)) = shared_origins(&from, &to) {
            ensure(a.row_pitch == b.row_pitch && a.slice_pitch == b.slice_pitch, CL_INVALID_VALUE)?;
            ensure(!rects_overlap(&a, base_a, &b, base_b), CL_MEM_COPY_OVERLAP)?;
        }
        let command = queue.context.driver.command(COPY_BUFFER_RECT, queue.id).body(&memory::CopyRect {
            source: from.id,
            destination: to.id,
            source_origin: a.origin,
            destination_origin: b.origin,
            region: a.region,
            source_row_pitch: a.row_pitch,
            source_slice_pitch: a.slice_pitch,
            destination_row_pitch: b.row_pitch,
            destination_slice_pitch: b.slice_pitch,
        });
        order.post(command, &[&from.uses, &to.uses], None)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueFillBuffer(
    queue: Raw,
    buffer: Raw,
    pattern: *const c_void,
    pattern_len: usize,
    offset: usize,
    size: usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = get::<Queue>(queue)?;
        let buffer = get::<Buffer>(buffer)?;
        buffer.check_use(&queue.context, &queue.device)?;
        ensure(!pattern.is_null() && pattern_len.is_power_of_two(), CL_INVALID_VALUE)?;
        ensure(pattern_len <= memory::PATTERN_MAX, CL_INVALID_VALUE)?;
        ensure(offset.is_multiple_of(pattern_len) && size.is_multiple_of(pattern_len), CL_INVALID_VALUE)?;
        buffer.check(offset, size)?;
        let order = Order::new(&queue, CL_COMMAND_FILL_BUFFER, count, waits, event)?;
        let mut body = memory::Fill {
            buffer: buffer.id,
            offset: offset as u64,
            size: size as u64,
            pattern_len: pattern_len as u32,
            reserved: 0,
            pattern: [0; memory::PATTERN_MAX],
        };
        // SAFETY: the program gave `pattern_len` bytes.
        let bytes = unsafe { core::slice::from_raw_parts(pattern.cast::<u8>(), pattern_len) };
        body.pattern[..pattern_len].copy_from_slice(bytes);
        order.post(queue.context.driver.command(FILL_BUFFER, queue.id).body(&body), &[&buffer.uses], None)
    })
}

/// Contents are where the session's device finds them already; the call only takes its turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueMigrateMemObjects(
    queue: Raw,
    objects_len: u32,
    objects: *const Raw,
    flags: u64,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = get::<Queue>(queue)?;
        ensure(objects_len != 0 && !objects.is_null(), CL_INVALID_VALUE)?;
        let known = CL_MIGRATE_MEM_OBJECT_HOST | CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED;
        ensure(flags & !known == 0, CL_INVALID_VALUE)?;
        // SAFETY: the program gave `objects_len` handles.
        let handles = unsafe { list(objects_len as usize, objects) };
        let check = |raw: Raw| -> Result<()> { Memory::get(raw)?.check_use(&queue.context, &queue.device) };
        handles.into_iter().try_for_each(check)?;
        let order = Order::new(&queue, CL_COMMAND_MIGRATE_MEM_OBJECTS, count, waits, event)?;
        if order.is_free() {
            let now = order.now_ns();
            return order.done(now);
        }
        order.post(queue.context.driver.command(MARKER, queue.id), &[], None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_that_share_a_byte_overlap_and_distant_ones_do_not() {
        let bytes = |area: &Area, base: u64| {
            let mut all = std::collections::HashSet::new();
            for z in 0..area.region[2] {
                for y in 0..area.region[1] {
                    for x in 0..area.region[0] {
                        all.insert(base + area.start() + x + y * area.row_pitch + z * area.slice_pitch);
                    }
                }
            }
            all
        };
        let a = Area::checked([2, 1, 1], [3, 2, 2], 8, 32).unwrap();
        for z in 0..4 {
            for y in 0..4 {
                for x in 0..6 {
                    for base in [0, 3] {
                        let b = Area::checked([x, y, z], [3, 2, 2], 8, 32).unwrap();
                        let meet = !bytes(&a, 0).is_disjoint(&bytes(&b, base));
                        let says = rects_overlap(&a, 0, &b, base);
                        assert!(says || !meet, "{x} {y} {z} {base}");
                        assert!(!says || meet || base != 0 || x > 5, "{x} {y} {z} {base}");
                    }
                }
            }
        }
    }
}
