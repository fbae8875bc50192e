//! Which extensions the guest is told of: those whose every part works here.
use alloc::vec::Vec;

use zerocopy::IntoBytes;

use crate::cl::NameVersion;

/// Extensions of the platform, all implemented by this library.
pub const PLATFORM: &[u8] = b"cl_khr_icd cl_khr_extended_versioning";

/// Extensions of the kernel language alone: they work here if the device's compiler has them.
const LANGUAGE: &[&[u8]] = &[
    b"cl_khr_global_int32_base_atomics",
    b"cl_khr_global_int32_extended_atomics",
    b"cl_khr_local_int32_base_atomics",
    b"cl_khr_local_int32_extended_atomics",
    b"cl_khr_int64_base_atomics",
    b"cl_khr_int64_extended_atomics",
    b"cl_khr_byte_addressable_store",
    b"cl_khr_3d_image_writes",
    b"cl_khr_depth_images",
    b"cl_khr_fp64",
    b"cl_khr_fp16",
    b"cl_khr_expect_assume",
    b"cl_khr_extended_bit_ops",
    b"cl_khr_integer_dot_product",
    b"cl_khr_select_fprounding_mode",
    b"cl_khr_work_group_uniform_arithmetic",
    b"cl_ext_float_atomics",
    b"cl_nv_compiler_options",
    b"cl_nv_pragma_unroll",
    b"cl_nv_device_attribute_query",
];

/// Extensions that bring functions or parameters which this library has.
const HOST: &[&[u8]] = &[b"cl_khr_icd", b"cl_khr_extended_versioning"];

/// As `HOST`, where the device has them too.
const SHARED: &[&[u8]] = &[b"cl_khr_image2d_from_buffer"];

/// Prefix of the sub-group extensions; they need `clGetKernelSubGroupInfo`, which is here.
const SUBGROUPS: [&[u8]; 2] = [b"cl_khr_subgroup", b"cl_intel_subgroups"];

fn works(name: &[u8]) -> bool {
    LANGUAGE.contains(&name) || SHARED.contains(&name) || SUBGROUPS.iter().any(|prefix| name.starts_with(prefix))
}

/// The list that a device gets, from the list that its own driver gives.
pub fn of_device(native: &[u8]) -> Vec<u8> {
    let kept = native.split(|&b| b == b' ').filter(|name| works(name));
    kept.chain(HOST.iter().copied()).collect::<Vec<_>>().join(&b' ')
}

/// Features of OpenCL C that need what this library does not have, by part of the name.
const ABSENT_FEATURES: [&[u8]; 2] = [b"pipe", b"device_enqueue"];

/// Keeps those of an array of `cl_name_version` that work.
pub fn features(native: &[u8]) -> Vec<u8> {
    let absent = |name: &[u8]| ABSENT_FEATURES.iter().any(|part| name.windows(part.len()).any(|w| w == *part));
    native.chunks_exact(size_of::<NameVersion>()).filter(|entry| !absent(&entry[4..])).flatten().copied().collect()
}

/// A list as an array of `cl_name_version`; every extension that is listed here is at its version 1.0.0 or older.
pub fn with_versions(list: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in list.split(|&b| b == b' ').filter(|name| !name.is_empty() && name.len() < 64) {
        let mut entry = NameVersion { version: 1 << 22, name: [0; 64] };
        entry.name[..name.len()].copy_from_slice(name);
        bytes.extend_from_slice(entry.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_works_is_listed() {
        let native = b"cl_khr_fp64 cl_khr_gl_sharing cl_khr_subgroup_ballot cl_khr_gl_event cl_khr_icd";
        let list = super::of_device(native);
        assert_eq!(list, b"cl_khr_fp64 cl_khr_subgroup_ballot cl_khr_icd cl_khr_extended_versioning");
        assert_eq!(super::with_versions(&list).len(), 4 * 68);
    }
}
