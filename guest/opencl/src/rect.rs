//! Rectangular regions of memory, on both sides of a transfer; a line of bytes is one with a single row.
use kasoku_accel_client::mem::copy_data;

use crate::cl::CL_INVALID_VALUE;
use crate::error::{Result, ensure};

/// A region of up to three dimensions inside a block of bytes, as the `Rect` calls describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Bytes, rows, slices.
    pub origin: [u64; 3],
    pub region: [u64; 3],
    pub row_pitch: u64,
    pub slice_pitch: u64,
}

impl Area {
    /// `len` bytes from `offset` on.
    pub fn line(offset: u64, len: u64) -> Self {
        Self { origin: [offset, 0, 0], region: [len, 1, 1], row_pitch: len, slice_pitch: len }
    }

    /// Checks what a program passed and fills in pitches that it left to us.
    pub fn checked(origin: [usize; 3], region: [usize; 3], row_pitch: usize, slice_pitch: usize) -> Result<Self> {
        let [origin, region] = [origin, region].map(|numbers| numbers.map(|n| n as u64));
        ensure(region.iter().all(|&n| n != 0), CL_INVALID_VALUE)?;
        let row_pitch = if row_pitch == 0 { region[0] } else { row_pitch as u64 };
        ensure(row_pitch >= region[0], CL_INVALID_VALUE)?;
        let slice = region[1].checked_mul(row_pitch).ok_or(CL_INVALID_VALUE)?;
        let slice_pitch = if slice_pitch == 0 { slice } else { slice_pitch as u64 };
        ensure(slice_pitch >= slice && slice_pitch.is_multiple_of(row_pitch), CL_INVALID_VALUE)?;
        let area = Self { origin, region, row_pitch, slice_pitch };
        area.end().ok_or(CL_INVALID_VALUE)?;
        Ok(area)
    }

    /// The same region packed into a block of its own.
    pub fn packed(&self) -> Self {
        let [bytes, rows, _] = self.region;
        Self { origin: [0; 3], region: self.region, row_pitch: bytes, slice_pitch: bytes * rows }
    }

    /// Offset of the first byte.
    pub fn start(&self) -> u64 {
        self.origin[0] + self.origin[1] * self.row_pitch + self.origin[2] * self.slice_pitch
    }

    /// Offset after the last byte; nothing if that overflows.
    pub fn end(&self) -> Option<u64> {
        let last = |n: usize| self.origin[n].checked_add(self.region[n] - 1);
        let rows = last(1)?.checked_mul(self.row_pitch)?;
        let slices = last(2)?.checked_mul(self.slice_pitch)?;
        last(0)?.checked_add(rows)?.checked_add(slices)?.checked_add(1)
    }

    /// Bytes of the region.
    pub fn len(&self) -> u64 {
        self.region.iter().product()
    }

    /// Whether it is one line of bytes.
    pub fn is_line(&self) -> bool {
        self.region[1] == 1 && self.region[2] == 1
    }

    /// The part `[from, from + count)` of dimension `n`.
    pub fn part(mut self, n: usize, from: u64, count: u64) -> Self {
        self.origin[n] += from;
        self.region[n] = count;
        self
    }
}

/// An area of memory in this process.
#[derive(Clone, Copy, Debug)]
pub struct Rect {
    pub base: usize,
    pub area: Area,
}

impl Rect {
    pub fn new(base: *mut u8, area: Area) -> Self {
        Self { base: base as usize, area }
    }

    /// Address of its first byte.
    pub fn first(&self) -> *mut u8 {
        (self.base + self.area.start() as usize) as *mut u8
    }

    /// Whether some byte between the area's first and last one lies in `[start, end)`.
    pub fn overlaps(&self, start: usize, end: usize) -> bool {
        let last = self.base + self.area.end().unwrap_or(0) as usize;
        (self.first() as usize) < end && start < last
    }

    /// Address of the first byte, and bytes up to the last one.
    pub fn extent(&self) -> (usize, usize) {
        let first = self.first() as usize;
        (first, self.base + self.area.end().unwrap_or(0) as usize - first)
    }

    /// Copies a region of the same shape from `source`.
    ///
    /// # Safety
    /// Both areas are valid memory that does not overlap.
    pub unsafe fn copy_from(&self, source: &Rect) {
        let [bytes, rows, slices] = self.area.region.map(|n| n as usize);
        let (to, from) = (&self.area, &source.area);
        let whole_rows = bytes as u64 == to.row_pitch && bytes as u64 == from.row_pitch;
        let whole_slices = (rows * bytes) as u64 == to.slice_pitch && (rows * bytes) as u64 == from.slice_pitch;
        let (bytes, rows, slices) = match (whole_rows || rows == 1, whole_rows && whole_slices) {
            (true, true) => (bytes * rows * slices, 1, 1),
            (true, false) => (bytes * rows, 1, slices),
            (false, _) => (bytes, rows, slices),
        };
        for slice in 0..slices {
            for row in 0..rows {
                let at = |area: &Area| slice * area.slice_pitch as usize + row * area.row_pitch as usize;
                // SAFETY: inside both areas.
                unsafe { copy_data(self.first().add(at(to)), source.first().add(at(from)), bytes) };
            }
        }
    }

    /// Copies from packed bytes.
    ///
    /// # Safety
    /// As `copy_from`; `packed` has as many bytes as the area.
    pub unsafe fn scatter(&self, packed: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { self.copy_from(&Rect::new(packed, self.area.packed())) };
    }

    /// Copies to packed bytes.
    ///
    /// # Safety
    /// As `copy_from`; `packed` has as many bytes as the area.
    pub unsafe fn gather(&self, packed: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { Rect::new(packed, self.area.packed()).copy_from(self) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_shape_arrives_where_it_belongs() {
        let source: Vec<u8> = (0..=255).collect();
        for (region, row, slice) in [([3, 2, 2], 5, 20), ([4, 3, 2], 4, 12), ([4, 3, 2], 4, 16), ([7, 1, 3], 8, 24)] {
            let from = Area::checked([1, 1, 1], region, row, slice).unwrap();
            let mut target = vec![0u8; from.len() as usize];
            // SAFETY: the areas lie in the vectors.
            unsafe { Rect::new(source.as_ptr().cast_mut(), from).gather(target.as_mut_ptr()) };
            let mut expected = Vec::new();
            for z in 0..region[2] {
                for y in 0..region[1] {
                    let at = 1 + (1 + y) * row + (1 + z) * slice;
                    expected.extend_from_slice(&source[at..at + region[0]]);
                }
            }
            assert_eq!(target, expected, "{region:?}");
            let mut back = vec![0u8; 256];
            // SAFETY: as above.
            unsafe { Rect::new(back.as_mut_ptr(), from).scatter(target.as_mut_ptr()) };
            let mut again = vec![0u8; target.len()];
            // SAFETY: as above.
            unsafe { Rect::new(back.as_mut_ptr(), from).gather(again.as_mut_ptr()) };
            assert_eq!(again, target);
            assert_eq!(back.iter().filter(|&&b| b != 0).count(), target.len());
        }
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let wrong = [
            ([0; 3], [0, 1, 1], 0, 0),
            ([0; 3], [4, 1, 1], 3, 0),
            ([0; 3], [4, 3, 1], 4, 8),
            ([0; 3], [4, 2, 1], 4, 9),
            ([0, usize::MAX, 0], [4, 2, 1], 4, 8),
            ([0; 3], [usize::MAX, 2, 2], 0, 0),
        ];
        for (origin, region, row, slice) in wrong {
            assert_eq!(Area::checked(origin, region, row, slice), Err(CL_INVALID_VALUE));
        }
    }
}
