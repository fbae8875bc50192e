//! Images: creation and layout.
//!
//! An image is the device's: programs reach it through the arena, packed, whatever pitches their own memory has.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;

use kasoku_abi::accel::command::CREATE_IMAGE;
use kasoku_abi::accel::{Id, NO_ID, Range, image};
use kasoku_accel_client::lock::Mutex;

use crate::answer::properties;
use crate::buffer::{check_flags, check_host_access, inherited_flags, wire_flags};
use crate::callback::Destructors;
use crate::cl::*;
use crate::context::Context;
use crate::error::{Result, ensure, full, gone, object as object_frame, status};
use crate::handle::{Identity, Object, Raw, get, publish};
use crate::image_map::Mapping;
use crate::image_transfer::{self, chunk};
use crate::memory::{KERNEL_ACCESS, Memory};
use crate::progress::Uses;
use crate::rect::{Area, Rect};

/// `cl_image_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Format {
    pub order: u32,
    pub channel_type: u32,
}

/// `cl_image_desc`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Description {
    pub kind: u32,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    pub array_size: usize,
    pub row_pitch: usize,
    pub slice_pitch: usize,
    pub mip_levels: u32,
    pub samples: u32,
    pub memory: Raw,
}

/// How an image's elements lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `CL_MEM_OBJECT_IMAGE*`.
    pub kind: u32,
    /// Bytes of an element.
    pub element: u64,
    /// Elements, rows or layers of an array of lines, slices or layers.
    pub extent: [u64; 3],
}

impl Layout {
    /// Checks a description's kind and sizes.
    pub fn new(description: &Description, element: u64) -> Result<Self> {
        let Description { kind, width, height, depth, array_size, .. } = *description;
        let extent = match kind {
            CL_MEM_OBJECT_IMAGE1D | CL_MEM_OBJECT_IMAGE1D_BUFFER => [width, 1, 1],
            CL_MEM_OBJECT_IMAGE1D_ARRAY => [width, array_size, 1],
            CL_MEM_OBJECT_IMAGE2D => [width, height, 1],
            CL_MEM_OBJECT_IMAGE2D_ARRAY => [width, height, array_size],
            CL_MEM_OBJECT_IMAGE3D => [width, height, depth],
            _ => return Err(CL_INVALID_IMAGE_DESCRIPTOR),
        };
        Ok(Self { kind, element, extent: extent.map(|n| n as u64) })
    }

    /// Whether a second pitch leads from one part to the next.
    pub fn has_slices(&self) -> bool {
        matches!(self.kind, CL_MEM_OBJECT_IMAGE1D_ARRAY | CL_MEM_OBJECT_IMAGE2D_ARRAY | CL_MEM_OBJECT_IMAGE3D)
    }

    fn is_lines(&self) -> bool {
        self.kind == CL_MEM_OBJECT_IMAGE1D_ARRAY
    }

    /// Checks a region against the image.
    pub fn check(&self, origin: [usize; 3], region: [usize; 3]) -> Result<([u64; 3], [u64; 3])> {
        for n in 0..3 {
            let end = (origin[n] as u64).checked_add(region[n] as u64);
            ensure(region[n] != 0 && end.is_some_and(|end| end <= self.extent[n]), CL_INVALID_VALUE)?;
        }
        Ok((origin.map(|n| n as u64), region.map(|n| n as u64)))
    }

    /// Fills in pitches that a program left to us, and checks the others, for memory that holds `region`.
    pub fn pitches(&self, region: [u64; 3], row: usize, slice: usize) -> Result<(u64, u64)> {
        let bytes = region[0].checked_mul(self.element).ok_or(CL_INVALID_VALUE)?;
        let row = if row == 0 { bytes } else { row as u64 };
        ensure(row >= bytes, CL_INVALID_VALUE)?;
        if !self.has_slices() {
            ensure(slice == 0, CL_INVALID_VALUE)?;
            return Ok((row, row.checked_mul(region[1]).ok_or(CL_INVALID_VALUE)?));
        }
        let rows = if self.is_lines() { 1 } else { region[1] };
        let least = row.checked_mul(rows).ok_or(CL_INVALID_VALUE)?;
        let slice = if slice == 0 { least } else { slice as u64 };
        ensure(slice >= least, CL_INVALID_VALUE)?;
        Ok((row, slice))
    }

    /// A region in memory of those pitches; nothing where it is larger than memory.
    pub fn area(&self, region: [u64; 3], (row, slice): (u64, u64)) -> Result<Area> {
        let [x, y, z] = region;
        let bytes = x.checked_mul(self.element).ok_or(CL_INVALID_VALUE)?;
        let (row_pitch, slice_pitch) =
            if self.is_lines() { (slice, slice.checked_mul(y).ok_or(CL_INVALID_VALUE)?) } else { (row, slice) };
        let area = Area { origin: [0; 3], region: [bytes, y, z], row_pitch, slice_pitch };
        area.end().ok_or(CL_INVALID_VALUE)?;
        Ok(area)
    }

    /// Bytes of a region without gaps.
    pub fn len(&self, region: [u64; 3]) -> Option<u64> {
        region.iter().try_fold(self.element, |len, &n| len.checked_mul(n))
    }
}

pub struct Image {
    identity: Identity,
    pub context: Arc<Context>,
    pub id: Id,
    pub flags: u64,
    pub format: Format,
    pub layout: Layout,
    /// Bytes between rows and slices, of the program's memory where it gave some.
    pub pitches: (u64, u64),
    /// The program's memory of a `CL_MEM_USE_HOST_PTR` image; 0 = none.
    pub host_ptr: usize,
    /// Whose memory it shows.
    pub parent: Option<Memory>,
    /// The commands that use its bytes; shared with its parent.
    pub uses: Arc<Uses>,
    pub mappings: Mutex<Vec<Mapping>>,
    pub property_words: Vec<u64>,
    pub destructors: Destructors,
}

impl Object for Image {
    const KIND: u32 = 9;
    const INVALID: i32 = CL_INVALID_MEM_OBJECT;
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Image {
    pub fn check_use(&self, context: &Arc<Context>) -> Result<()> {
        ensure(Arc::ptr_eq(&self.context, context), CL_INVALID_CONTEXT)
    }

    pub fn check_host_access(&self, forbidden_by: u64) -> Result<()> {
        check_host_access(self.flags, forbidden_by)
    }

    /// Bytes of the whole image with its pitches.
    pub fn size(&self) -> u64 {
        let [_, y, z] = self.layout.extent;
        self.pitches.1 * if self.layout.is_lines() { y } else { z }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.destructors.run(self.identity.raw());
        let driver = self.context.driver;
        driver.release(self.id);
        for staging in self.mappings.lock().drain(..).filter_map(|mapping| mapping.staging) {
            driver.session.give(staging);
        }
    }
}

/// Checks sizes against what the context's devices take.
fn check_size(context: &Context, layout: &Layout) -> Result<()> {
    let limits = match layout.kind {
        CL_MEM_OBJECT_IMAGE1D => [CL_DEVICE_IMAGE2D_MAX_WIDTH, 0, 0],
        CL_MEM_OBJECT_IMAGE1D_BUFFER => [CL_DEVICE_IMAGE_MAX_BUFFER_SIZE, 0, 0],
        CL_MEM_OBJECT_IMAGE1D_ARRAY => [CL_DEVICE_IMAGE2D_MAX_WIDTH, CL_DEVICE_IMAGE_MAX_ARRAY_SIZE, 0],
        CL_MEM_OBJECT_IMAGE2D => [CL_DEVICE_IMAGE2D_MAX_WIDTH, CL_DEVICE_IMAGE2D_MAX_HEIGHT, 0],
        CL_MEM_OBJECT_IMAGE2D_ARRAY => {
            [CL_DEVICE_IMAGE2D_MAX_WIDTH, CL_DEVICE_IMAGE2D_MAX_HEIGHT, CL_DEVICE_IMAGE_MAX_ARRAY_SIZE]
        }
        _ => [CL_DEVICE_IMAGE3D_MAX_WIDTH, CL_DEVICE_IMAGE3D_MAX_HEIGHT, CL_DEVICE_IMAGE3D_MAX_DEPTH],
    };
    let fits = context.devices.iter().any(|device| {
        let within = |(&n, &limit): (&u64, &u32)| limit == 0 || n <= device.number(limit);
        layout.extent.iter().zip(&limits).all(within)
    });
    ensure(fits && !layout.extent.contains(&0), CL_INVALID_IMAGE_SIZE)
}

/// The parent that a description names, and the flags that the image has with it.
fn parent_of(context: &Arc<Context>, description: &Description, flags: u64) -> Result<(Option<Memory>, u64)> {
    if description.memory.is_null() {
        ensure(description.kind != CL_MEM_OBJECT_IMAGE1D_BUFFER, CL_INVALID_IMAGE_DESCRIPTOR)?;
        return Ok((None, if flags & KERNEL_ACCESS == 0 { flags | CL_MEM_READ_WRITE } else { flags }));
    }
    let parent = Memory::get(description.memory).map_err(|_| CL_INVALID_IMAGE_DESCRIPTOR)?;
    let suits = match &parent {
        Memory::Buffer(_) => matches!(description.kind, CL_MEM_OBJECT_IMAGE1D_BUFFER | CL_MEM_OBJECT_IMAGE2D),
        Memory::Image(_) => description.kind == CL_MEM_OBJECT_IMAGE2D,
    };
    ensure(suits, CL_INVALID_IMAGE_DESCRIPTOR)?;
    ensure(Arc::ptr_eq(parent.context(), context), CL_INVALID_CONTEXT)?;
    let parent_flags = match &parent {
        Memory::Buffer(buffer) => buffer.flags,
        Memory::Image(image) => image.flags,
    };
    let flags = inherited_flags(flags, parent_flags)?;
    Ok((Some(parent), flags))
}

fn create(
    context: &Arc<Context>,
    flags: u64,
    format: Option<Format>,
    description: Option<Description>,
    host: *mut c_void,
    property_words: Vec<u64>,
) -> Result<Raw> {
    let images = |parameter| context.devices.iter().any(|device| device.value::<u32>(parameter) == Some(1));
    ensure(images(CL_DEVICE_IMAGE_SUPPORT), CL_INVALID_OPERATION)?;
    check_flags(flags)?;
    let format = format.ok_or(CL_INVALID_IMAGE_FORMAT_DESCRIPTOR)?;
    let element = crate::image_format::element(format).ok_or(CL_INVALID_IMAGE_FORMAT_DESCRIPTOR)?;
    let description = description.ok_or(CL_INVALID_IMAGE_DESCRIPTOR)?;
    ensure(description.mip_levels == 0 && description.samples == 0, CL_INVALID_IMAGE_DESCRIPTOR)?;
    let layout = Layout::new(&description, element)?;
    check_size(context, &layout)?;
    let (parent, flags) = parent_of(context, &description, flags)?;
    let takes_host = parent.is_none() && flags & (CL_MEM_USE_HOST_PTR | CL_MEM_COPY_HOST_PTR) != 0;
    ensure(takes_host != host.is_null(), CL_INVALID_HOST_PTR)?;
    let pitched = description.row_pitch != 0 || description.slice_pitch != 0;
    ensure(takes_host || parent.is_some() || !pitched, CL_INVALID_IMAGE_DESCRIPTOR)?;
    ensure((description.row_pitch as u64).is_multiple_of(element), CL_INVALID_IMAGE_DESCRIPTOR)?;
    let slice_pitch = if layout.has_slices() { description.slice_pitch } else { 0 };
    let pitches =
        layout.pitches(layout.extent, description.row_pitch, slice_pitch).map_err(|_| CL_INVALID_IMAGE_DESCRIPTOR)?;
    let area = layout.area(layout.extent, pitches).map_err(|_| CL_INVALID_IMAGE_SIZE)?;
    let packed = layout.len(layout.extent).ok_or(CL_INVALID_IMAGE_SIZE)?;

    let identity = Identity::new()?;
    let driver = context.driver;
    let id = driver.session.new_id();
    let mut command = driver.command(CREATE_IMAGE, id);
    let contents = takes_host.then(|| Rect::new(host.cast(), area));
    let mut initial = Range::NONE;
    if let Some(contents) = contents.filter(|_| packed <= chunk(driver)) {
        driver.backlog.arrive(contents.extent().0, contents.extent().1)?;
        initial = command.reserve(packed).map_err(full)?;
        // SAFETY: the program gave memory of these pitches; the range is ours and as long as the elements.
        unsafe { contents.gather(driver.session.address(initial)) };
    }
    let body = image::CreateImage {
        context: context.id,
        parent: parent.as_ref().map_or(NO_ID, Memory::id),
        flags: wire_flags(flags),
        kind: layout.kind,
        channel_order: format.order,
        channel_type: format.channel_type,
        width: description.width as u64,
        height: description.height as u64,
        depth: description.depth as u64,
        array_size: description.array_size as u64,
        row_pitch: if parent.is_some() { description.row_pitch as u64 } else { 0 },
        initial,
    };
    status(command.body(&normalised(body)).call().map_err(gone)?.status)?;
    let uses = parent.as_ref().map_or_else(Arc::default, |parent| Arc::clone(parent.uses()));
    let image = Arc::new(Image {
        identity,
        context: Arc::clone(context),
        id,
        flags,
        format,
        layout,
        pitches,
        host_ptr: if takes_host && flags & CL_MEM_USE_HOST_PTR != 0 { host as usize } else { 0 },
        parent,
        uses,
        mappings: Mutex::new(Vec::new()),
        property_words,
        destructors: Destructors::new(),
    });
    if let Some(contents) = contents.filter(|_| initial == Range::NONE) {
        image_transfer::upload(&image, contents)?;
    }
    Ok(publish(image))
}

/// Sizes that a kind does not have are 0 on the wire, whatever the program left in them.
fn normalised(body: image::CreateImage) -> image::CreateImage {
    let flat = matches!(body.kind, CL_MEM_OBJECT_IMAGE1D | CL_MEM_OBJECT_IMAGE1D_BUFFER | CL_MEM_OBJECT_IMAGE1D_ARRAY);
    let array = matches!(body.kind, CL_MEM_OBJECT_IMAGE1D_ARRAY | CL_MEM_OBJECT_IMAGE2D_ARRAY);
    image::CreateImage {
        height: if flat { 0 } else { body.height },
        depth: if body.kind == CL_MEM_OBJECT_IMAGE3D { body.depth } else { 0 },
        array_size: if array { body.array_size } else { 0 },
        ..body
    }
}

/// What a pointer of the program names.
///
/// # Safety
/// `pointer` is null or readable.
unsafe fn given<T: Copy>(pointer: *const T) -> Option<T> {
    // SAFETY: the caller's promise.
    (!pointer.is_null()).then(|| unsafe { pointer.read_unaligned() })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateImage(
    context: Raw,
    flags: u64,
    format: *const Format,
    description: *const Description,
    host: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code, and null or the structures.
    unsafe {
        object_frame(errcode_ret, || {
            create(&*get::<Context>(context)?, flags, given(format), given(description), host, Vec::new())
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateImageWithProperties(
    context: Raw,
    props: *const u64,
    flags: u64,
    format: *const Format,
    description: *const Description,
    host: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code, null or the structures, and null or a list that ends in 0.
    unsafe {
        object_frame(errcode_ret, || {
            let context = get::<Context>(context)?;
            let (pairs, words) = properties(props);
            // OpenCL 3.0 defines no property of images.
            ensure(pairs.is_empty(), CL_INVALID_PROPERTY)?;
            create(&context, flags, given(format), given(description), host, words)
        })
    }
}

/// The calls of OpenCL 1.0 and 1.1 blame sizes where later ones blame the description.
fn older(context: Raw, flags: u64, format: Option<Format>, description: Description, host: *mut c_void) -> Result<Raw> {
    let result = create(&*get::<Context>(context)?, flags, format, Some(description), host, Vec::new());
    result.map_err(|code| if code == CL_INVALID_IMAGE_DESCRIPTOR { CL_INVALID_IMAGE_SIZE } else { code })
}

const FLAT: Description = Description {
    kind: CL_MEM_OBJECT_IMAGE2D,
    width: 0,
    height: 0,
    depth: 0,
    array_size: 0,
    row_pitch: 0,
    slice_pitch: 0,
    mip_levels: 0,
    samples: 0,
    memory: core::ptr::null_mut(),
};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateImage2D(
    context: Raw,
    flags: u64,
    format: *const Format,
    width: usize,
    height: usize,
    row_pitch: usize,
    host: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    let description = Description { width, height, row_pitch, ..FLAT };
    // SAFETY: the program passes null or a place for the code, and null or a format.
    unsafe { object_frame(errcode_ret, || older(context, flags, given(format), description, host)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateImage3D(
    context: Raw,
    flags: u64,
    format: *const Format,
    width: usize,
    height: usize,
    depth: usize,
    row_pitch: usize,
    slice_pitch: usize,
    host: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    let kind = CL_MEM_OBJECT_IMAGE3D;
    let description = Description { kind, width, height, depth, row_pitch, slice_pitch, ..FLAT };
    // SAFETY: the program passes null or a place for the code, and null or a format.
    unsafe { object_frame(errcode_ret, || older(context, flags, given(format), description, host)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(kind: u32, [width, height, depth, array_size]: [usize; 4]) -> Layout {
        Layout::new(&Description { kind, width, height, depth, array_size, ..FLAT }, 4).unwrap()
    }

    #[test]
    fn pitches_are_filled_in_and_checked() {
        let flat = layout(CL_MEM_OBJECT_IMAGE2D, [8, 4, 0, 0]);
        assert_eq!(flat.pitches([8, 4, 1], 0, 0), Ok((32, 128)));
        assert_eq!(flat.pitches([8, 4, 1], 40, 0), Ok((40, 160)));
        assert_eq!(flat.pitches([8, 4, 1], 31, 0), Err(CL_INVALID_VALUE));
        assert_eq!(flat.pitches([8, 4, 1], 0, 128), Err(CL_INVALID_VALUE));
        let lines = layout(CL_MEM_OBJECT_IMAGE1D_ARRAY, [8, 0, 0, 5]);
        assert_eq!(lines.pitches([8, 5, 1], 0, 48), Ok((32, 48)));
        let area = lines.area([8, 5, 1], (32, 48)).unwrap();
        assert_eq!((area.row_pitch, area.region), (48, [32, 5, 1]));
        let block = layout(CL_MEM_OBJECT_IMAGE3D, [8, 4, 3, 0]);
        assert_eq!(block.pitches([8, 4, 3], 0, 127), Err(CL_INVALID_VALUE));
        assert_eq!(block.pitches([8, 4, 3], 0, 0), Ok((32, 128)));
        assert_eq!(block.pitches([u64::MAX, 4, 3], 0, 0), Err(CL_INVALID_VALUE));
    }

    #[test]
    fn regions_must_lie_inside() {
        let array = layout(CL_MEM_OBJECT_IMAGE2D_ARRAY, [8, 4, 0, 2]);
        assert!(array.check([0, 0, 1], [8, 4, 1]).is_ok());
        for (origin, region) in
            [([0, 0, 2], [1; 3]), ([8, 0, 0], [1; 3]), ([0; 3], [1, 0, 1]), ([usize::MAX, 0, 0], [2; 3])]
        {
            assert_eq!(array.check(origin, region), Err(CL_INVALID_VALUE));
        }
    }
}
