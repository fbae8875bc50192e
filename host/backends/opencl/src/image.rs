//! Images and samplers: formats, layout, creation.
use crate::backend::{Context, OpenCl, access};
use crate::constants as cl;
use crate::ffi::{Api, ImageDescription, Raw};
use crate::handle::{Image, Sampler};
use crate::library::check;
use kasoku_abi::accel::info;
use kasoku_backend::{ImageLayout, ImageParent, ImageShape, ImageSpec, Question, Result, SamplerSpec, Status};

/// Channels that an element of an order stores; an unknown order has none.
fn channels(order: u32) -> u64 {
    match order {
        // R, A, Rx, INTENSITY, LUMINANCE, DEPTH
        0x10b0 | 0x10b1 | 0x10ba | 0x10b8 | 0x10b9 | 0x10bd => 1,
        // RG, RA, RGx, DEPTH_STENCIL
        0x10b2 | 0x10b3 | 0x10bb | 0x10be => 2,
        // RGB, RGBx, sRGB
        0x10b4 | 0x10bc | 0x10bf => 3,
        // RGBA, BGRA, ARGB, sRGBx, sRGBA, sBGRA, ABGR
        0x10b5 | 0x10b6 | 0x10b7 | 0x10c0 | 0x10c1 | 0x10c2 | 0x10c3 => 4,
        _ => 0,
    }
}

/// Bytes of an element; an error for a format that the specification does not have.
fn element(order: u32, channel_type: u32) -> Result<u64> {
    let unknown = Status(cl::INVALID_IMAGE_FORMAT_DESCRIPTOR);
    let channels = match channels(order) {
        0 => return Err(unknown),
        channels => channels,
    };
    match channel_type {
        // SNORM_INT8, UNORM_INT8, SIGNED_INT8, UNSIGNED_INT8
        0x10d0 | 0x10d2 | 0x10d7 | 0x10da => Ok(channels),
        // SNORM_INT16, UNORM_INT16, SIGNED_INT16, UNSIGNED_INT16, HALF_FLOAT
        0x10d1 | 0x10d3 | 0x10d8 | 0x10db | 0x10dd => Ok(2 * channels),
        // SIGNED_INT32, UNSIGNED_INT32, FLOAT
        0x10d9 | 0x10dc | 0x10de => Ok(4 * channels),
        // Packed into one number: UNORM_SHORT_565, UNORM_SHORT_555, UNORM_INT_101010, UNORM_INT_101010_2.
        0x10d4 | 0x10d5 => Ok(2),
        0x10d6 | 0x10e0 => Ok(4),
        _ => Err(unknown),
    }
}

pub fn layout(shape: &ImageShape) -> Result<ImageLayout> {
    let ImageShape { width, height, depth, array_size, .. } = *shape;
    let extent = match shape.kind {
        cl::MEM_OBJECT_IMAGE1D | cl::MEM_OBJECT_IMAGE1D_BUFFER => [width, 1, 1],
        cl::MEM_OBJECT_IMAGE1D_ARRAY => [width, array_size, 1],
        cl::MEM_OBJECT_IMAGE2D => [width, height, 1],
        cl::MEM_OBJECT_IMAGE2D_ARRAY => [width, height, array_size],
        cl::MEM_OBJECT_IMAGE3D => [width, height, depth],
        _ => return Err(Status(cl::INVALID_IMAGE_DESCRIPTOR)),
    };
    if extent.contains(&0) {
        return Err(Status(cl::INVALID_IMAGE_DESCRIPTOR));
    }
    let element = element(shape.channel_order, shape.channel_type)?;
    Ok(ImageLayout { element, extent, lines: shape.kind == cl::MEM_OBJECT_IMAGE1D_ARRAY })
}

pub fn formats(api: &Api, context: &Context, question: &Question<'_>) -> Result<Vec<u8>> {
    if question.kind != info::FORMATS {
        return Err(Status(cl::INVALID_VALUE));
    }
    let flags = match question.parameter {
        info::FORMATS_KERNEL_READ_AND_WRITE => cl::MEM_KERNEL_READ_AND_WRITE,
        0 => cl::MEM_READ_WRITE,
        flags => access(flags),
    };
    let (context, kind) = (context.handle.raw(), question.index);
    let mut count = 0u32;
    // SAFETY: a live context; asks for the number only.
    check(unsafe {
        (api.get_supported_image_formats)(context, flags, kind, 0, core::ptr::null_mut(), &raw mut count)
    })?;
    let mut formats = vec![0u8; count as usize * 8];
    if count > 0 {
        // SAFETY: as above; room for `count` formats of two words is given and said.
        check(unsafe {
            let (room, null) = (formats.as_mut_ptr().cast(), core::ptr::null_mut());
            (api.get_supported_image_formats)(context, flags, kind, count, room, null)
        })?;
    }
    Ok(formats)
}

pub fn create(api: &Api, context: &Context, spec: &ImageSpec<'_, OpenCl>) -> Result<Image> {
    let shape = &spec.shape;
    let memory = match &spec.parent {
        Some(ImageParent::Buffer(buffer)) => buffer.handle.raw(),
        Some(ImageParent::Image(image)) => image.0.raw(),
        None => core::ptr::null_mut(),
    };
    let description = ImageDescription {
        kind: shape.kind,
        width: shape.width as usize,
        height: shape.height as usize,
        depth: shape.depth as usize,
        array_size: shape.array_size as usize,
        row_pitch: spec.row_pitch,
        slice_pitch: 0,
        mip_levels: 0,
        samples: 0,
        memory,
    };
    let format = [shape.channel_order, shape.channel_type];
    let (copied, host): (u64, Raw) = match spec.initial {
        Some(initial) => (cl::MEM_COPY_HOST_PTR, initial.as_ptr().cast()),
        None => (0, core::ptr::null_mut()),
    };
    let mut status = 0;
    // SAFETY: live context and parent; format and description have the specification's layout; host memory without pitches
    // is packed, and has as many bytes as the image's elements (`ImageSpec`).
    let raw = unsafe {
        let flags = access(spec.flags) | copied;
        let (format, description) = (&raw const format, &raw const description);
        (api.create_image)(context.handle.raw(), flags, format, description, host, &raw mut status)
    };
    check(status)?;
    // SAFETY: a new image with one reference, ours.
    Ok(unsafe { Image::own(api, raw) })
}

pub fn create_sampler(api: &Api, context: &Context, spec: &SamplerSpec) -> Result<Sampler> {
    let mut status = 0;
    // SAFETY: a live context.
    let raw = unsafe {
        let normalized = u32::from(spec.normalized);
        (api.create_sampler)(context.handle.raw(), normalized, spec.addressing, spec.filter, &raw mut status)
    };
    check(status)?;
    // SAFETY: a new sampler with one reference, ours.
    Ok(unsafe { Sampler::own(api, raw) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_lie_as_the_specification_says() {
        let shape = ImageShape {
            kind: cl::MEM_OBJECT_IMAGE2D_ARRAY,
            channel_order: 0x10b5,
            channel_type: 0x10de,
            width: 3,
            height: 4,
            depth: 0,
            array_size: 5,
        };
        assert_eq!(layout(&shape), Ok(ImageLayout { element: 16, extent: [3, 4, 5], lines: false }));
        let lines = ImageShape { kind: cl::MEM_OBJECT_IMAGE1D_ARRAY, channel_type: 0x10da, ..shape };
        assert_eq!(layout(&lines), Ok(ImageLayout { element: 4, extent: [3, 5, 1], lines: true }));
        let packed = ImageShape { channel_order: 0x10b4, channel_type: 0x10d4, ..shape };
        assert_eq!(layout(&packed).map(|layout| layout.element), Ok(2));
        assert_eq!(layout(&ImageShape { kind: 0x10f0, ..shape }), Err(Status(cl::INVALID_IMAGE_DESCRIPTOR)));
        assert_eq!(layout(&ImageShape { width: 0, ..shape }), Err(Status(cl::INVALID_IMAGE_DESCRIPTOR)));
        for (channel_order, channel_type) in [(0, 0x10de), (0x10b5, 0), (u32::MAX, u32::MAX)] {
            let wrong = ImageShape { channel_order, channel_type, ..shape };
            assert_eq!(layout(&wrong), Err(Status(cl::INVALID_IMAGE_FORMAT_DESCRIPTOR)));
        }
    }
}
