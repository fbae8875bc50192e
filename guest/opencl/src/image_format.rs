//! Formats of images: sizes of elements, and which formats a context takes.
use alloc::vec::Vec;

use kasoku_abi::accel::command::GET_INFO;
use kasoku_abi::accel::info;

use crate::buffer::{check_flags, wire_flags};
use crate::cl::*;
use crate::context::Context;
use crate::driver::ask;
use crate::error::{Result, code, ensure, store};
use crate::handle::{Raw, get};
use crate::image::Format;

/// Channels that an element of an order stores.
fn channels(order: u32) -> Option<u64> {
    match order {
        CL_R | CL_A | CL_RX | CL_INTENSITY | CL_LUMINANCE | CL_DEPTH => Some(1),
        CL_RG | CL_RA | CL_RGX => Some(2),
        CL_RGB | CL_RGBX | CL_SRGB => Some(3),
        CL_RGBA | CL_BGRA | CL_ARGB | CL_SRGBX | CL_SRGBA | CL_SBGRA | CL_ABGR => Some(4),
        _ => None,
    }
}

/// Bytes of an element; nothing for a format that the specification does not have.
pub fn element(format: Format) -> Option<u64> {
    let channels = channels(format.order)?;
    match format.channel_type {
        CL_SNORM_INT8 | CL_UNORM_INT8 | CL_SIGNED_INT8 | CL_UNSIGNED_INT8 => Some(channels),
        CL_SNORM_INT16 | CL_UNORM_INT16 | CL_SIGNED_INT16 | CL_UNSIGNED_INT16 | CL_HALF_FLOAT => Some(2 * channels),
        CL_SIGNED_INT32 | CL_UNSIGNED_INT32 | CL_FLOAT => Some(4 * channels),
        // Packed into one number, so only orders of that many channels have them.
        CL_UNORM_SHORT_565 | CL_UNORM_SHORT_555 => (channels == 3).then_some(2),
        CL_UNORM_INT_101010 => (channels == 3).then_some(4),
        CL_UNORM_INT_101010_2 => (channels == 4).then_some(4),
        _ => None,
    }
}

fn supported(context: &Context, flags: u64, kind: u32) -> Result<Vec<u8>> {
    let both = flags & CL_MEM_KERNEL_READ_AND_WRITE != 0;
    check_flags(flags & !CL_MEM_KERNEL_READ_AND_WRITE)?;
    ensure((CL_MEM_OBJECT_IMAGE2D..=CL_MEM_OBJECT_IMAGE1D_BUFFER).contains(&kind), CL_INVALID_VALUE)?;
    let driver = context.driver;
    let parameter = if both { info::FORMATS_KERNEL_READ_AND_WRITE } else { wire_flags(flags) };
    let mut bytes = ask(&driver.session, 4096, |out| {
        let body = info::GetInfo { kind: info::FORMATS, index: kind, parameter, input_len: 0, input: [0; 3], out };
        Ok(driver.command(GET_INFO, context.id).body(&body))
    })?;
    // A format whose elements this library cannot count is none that it offers.
    let known = |pair: &&[u8]| {
        let word = |n: usize| u32::from_le_bytes([pair[n], pair[n + 1], pair[n + 2], pair[n + 3]]);
        element(Format { order: word(0), channel_type: word(4) }).is_some()
    };
    bytes = bytes.chunks_exact(8).filter(known).flatten().copied().collect();
    Ok(bytes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetSupportedImageFormats(
    context: Raw,
    flags: u64,
    kind: u32,
    count: u32,
    formats: *mut Format,
    found_ret: *mut u32,
) -> i32 {
    code(|| {
        let context = get::<Context>(context)?;
        ensure(count != 0 || formats.is_null(), CL_INVALID_VALUE)?;
        let found = supported(&context, flags, kind)?;
        // SAFETY: null or writable, as the specification says.
        unsafe { store(found_ret, (found.len() / 8) as u32) };
        if !formats.is_null() {
            let len = found.len().min(count as usize * 8);
            // SAFETY: the program gave room for `count` formats of eight bytes.
            unsafe { core::ptr::copy_nonoverlapping(found.as_ptr(), formats.cast(), len) };
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_the_size_of_their_channels() {
        let size = |order, channel_type| element(Format { order, channel_type });
        assert_eq!(size(CL_RGBA, CL_FLOAT), Some(16));
        assert_eq!(size(CL_R, CL_HALF_FLOAT), Some(2));
        assert_eq!(size(CL_DEPTH, CL_UNORM_INT16), Some(2));
        assert_eq!(size(CL_RGB, CL_UNORM_SHORT_565), Some(2));
        assert_eq!(size(CL_RGBA, CL_UNORM_SHORT_565), None);
        assert_eq!(size(0, CL_FLOAT), None);
        assert_eq!(size(CL_RGBA, 0), None);
    }
}
