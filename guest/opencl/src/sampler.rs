//! Samplers.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;

use kasoku_abi::accel::command::CREATE_SAMPLER;
use kasoku_abi::accel::{Id, image};

use crate::answer::{Query, properties};
use crate::cl::*;
use crate::context::Context;
use crate::error::{Result, code, ensure, gone, object as object_frame, status};
use crate::handle::{Identity, Object, Raw, get, publish, release, retain};

pub struct Sampler {
    identity: Identity,
    pub context: Arc<Context>,
    pub id: Id,
    normalized: u32,
    addressing: u32,
    filter: u32,
    /// As the program gave them to `clCreateSamplerWithProperties`.
    property_words: Vec<u64>,
}

impl Object for Sampler {
    const KIND: u32 = 10;
    const INVALID: i32 = CL_INVALID_SAMPLER;
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.context.driver.release(self.id);
    }
}

fn create(context: &Arc<Context>, [normalized, addressing, filter]: [u64; 3], words: Vec<u64>) -> Result<Raw> {
    let images = |parameter| context.devices.iter().any(|device| device.value::<u32>(parameter) == Some(1));
    ensure(images(CL_DEVICE_IMAGE_SUPPORT), CL_INVALID_OPERATION)?;
    let addressings = u64::from(CL_ADDRESS_NONE)..=u64::from(CL_ADDRESS_MIRRORED_REPEAT);
    let filters = u64::from(CL_FILTER_NEAREST)..=u64::from(CL_FILTER_LINEAR);
    let known = normalized <= 1 && addressings.contains(&addressing) && filters.contains(&filter);
    ensure(known, CL_INVALID_VALUE)?;
    let identity = Identity::new()?;
    let id = context.driver.session.new_id();
    let (normalized, addressing, filter) = (normalized as u32, addressing as u32, filter as u32);
    let body = image::CreateSampler { context: context.id, normalized, addressing, filter, reserved: 0 };
    status(context.driver.command(CREATE_SAMPLER, id).body(&body).call().map_err(gone)?.status)?;
    let (context, property_words) = (Arc::clone(context), words);
    Ok(publish(Arc::new(Sampler { identity, context, id, normalized, addressing, filter, property_words })))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateSampler(
    context: Raw,
    normalized: u32,
    addressing: u32,
    filter: u32,
    errcode_ret: *mut i32,
) -> Raw {
    let values = [normalized, addressing, filter].map(u64::from);
    // SAFETY: the program passes null or a place for the code.
    unsafe { object_frame(errcode_ret, || create(&*get::<Context>(context)?, values, Vec::new())) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateSamplerWithProperties(context: Raw, props: *const u64, errcode_ret: *mut i32) -> Raw {
    // SAFETY: the program passes null or a place for the code, and null or a list that ends in 0.
    unsafe {
        object_frame(errcode_ret, || {
            let context = get::<Context>(context)?;
            let (pairs, words) = properties(props);
            let mut values = [1, u64::from(CL_ADDRESS_CLAMP), u64::from(CL_FILTER_NEAREST)];
            for (at, &(key, value)) in pairs.iter().enumerate() {
                ensure(pairs[..at].iter().all(|(other, _)| *other != key), CL_INVALID_VALUE)?;
                let place = u32::try_from(key).ok().and_then(|key| key.checked_sub(CL_SAMPLER_NORMALIZED_COORDS));
                *place.and_then(|place| values.get_mut(place as usize)).ok_or(CL_INVALID_VALUE)? = value;
            }
            create(&context, values, words)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clRetainSampler(sampler: Raw) -> i32 {
    code(|| retain::<Sampler>(sampler))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clReleaseSampler(sampler: Raw) -> i32 {
    code(|| release::<Sampler>(sampler))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetSamplerInfo(
    sampler: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let sampler = get::<Sampler>(sampler)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        match parameter {
            CL_SAMPLER_REFERENCE_COUNT => query.value(sampler.identity.references()),
            CL_SAMPLER_CONTEXT => query.handle(sampler.context.identity().raw()),
            CL_SAMPLER_NORMALIZED_COORDS => query.value(sampler.normalized),
            CL_SAMPLER_ADDRESSING_MODE => query.value(sampler.addressing),
            CL_SAMPLER_FILTER_MODE => query.value(sampler.filter),
            CL_SAMPLER_PROPERTIES => query.words(&sampler.property_words),
            _ => Err(CL_INVALID_VALUE),
        }
    })
}
