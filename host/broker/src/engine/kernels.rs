//! Kernels: creation and arguments. Launching is in `enqueue`.
use super::table::{Buffer, Image, Kernel, Object, Sampler};
use super::{Engine, body};
use kasoku_abi::accel::command::Descriptor;
use kasoku_abi::accel::kernel::{
    ARGUMENT_ADDRESS, ARGUMENT_BYTES, ARGUMENT_LOCAL, ARGUMENT_MAX, ARGUMENT_OBJECT, CloneKernel, CreateKernel,
    INLINE_ARGUMENT, NAME_MAX, SetArgument,
};
use kasoku_abi::accel::{Id, NO_ID};
use kasoku_backend::{Argument, Backend, Status};
use std::sync::Arc;

impl<B: Backend> Engine<B> {
    pub(super) fn create_kernel(&mut self, descriptor: &Descriptor) -> Result<Object<B>, Status> {
        let CreateKernel { program, name } = body(descriptor);
        let name = self.copy(name, NAME_MAX)?;
        let name = core::str::from_utf8(&name).map_err(|_| B::CODES.bad_kernel_name)?;
        self.make_kernel(program, name)
    }

    pub fn make_kernel(&self, program: Id, name: &str) -> Result<Object<B>, Status> {
        let program = Arc::clone(self.table.program(program)?);
        let loaded = program.loaded().ok_or(B::CODES.not_executable)?;
        let raw = self.backend.create_kernel(&loaded, name)?;
        let name = name.to_owned();
        let (memory, samplers, failed, settings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Object::Kernel(Box::new(Kernel { raw, program, name, settings, memory, samplers, failed })))
    }

    pub(super) fn clone_kernel(&mut self, descriptor: &Descriptor) -> Result<Object<B>, Status> {
        let CloneKernel { source } = body(descriptor);
        let source = self.table.kernel(source)?;
        let raw = self.backend.clone_kernel(&source.raw)?;
        Ok(Object::Kernel(Box::new(Kernel {
            raw,
            program: Arc::clone(&source.program),
            name: source.name.clone(),
            settings: source.settings.clone(),
            memory: source.memory.clone(),
            samplers: source.samplers.clone(),
            failed: source.failed.clone(),
        })))
    }

    pub(super) fn set_argument(&mut self, descriptor: &Descriptor) -> Result<(), Status> {
        let argument: SetArgument = body(descriptor);
        let long = match argument.kind {
            ARGUMENT_BYTES if argument.size as usize > INLINE_ARGUMENT => {
                if argument.data.len == argument.size {
                    self.copy(argument.data, ARGUMENT_MAX)
                } else {
                    Err(B::CODES.bad_value)
                }
            }
            _ => Ok(Vec::new()),
        };
        self.set_copied_argument(descriptor.target, &argument, long)
    }

    /// `long`: the value where it is not inline.
    pub fn set_copied_argument(
        &mut self,
        kernel_id: Id,
        argument: &SetArgument,
        long: Result<Vec<u8>, Status>,
    ) -> Result<(), Status> {
        let result = long.and_then(|long| {
            self.try_set_argument(kernel_id, argument, &long)?;
            Ok(long)
        });
        if let Ok(kernel) = self.table.kernel_mut(kernel_id) {
            kernel.failed.retain(|(index, _)| *index != argument.index);
            // An index that no kernel has is not remembered: the list stays as short as the kernel's arguments.
            match &result {
                Ok(long) => {
                    let setting = (*argument, long.clone());
                    match kernel.settings.iter_mut().find(|(known, _)| known.index == argument.index) {
                        Some(known) => *known = setting,
                        None => kernel.settings.push(setting),
                    }
                }
                Err(status) if *status != B::CODES.bad_argument_index => kernel.failed.push((argument.index, *status)),
                Err(_) => {}
            }
        }
        result.map(|_| ())
    }

    fn try_set_argument(&mut self, kernel: Id, argument: &SetArgument, long: &[u8]) -> Result<(), Status> {
        let index = argument.index;
        let mut object = None;
        let value = match argument.kind {
            ARGUMENT_BYTES if argument.size as usize <= INLINE_ARGUMENT => {
                Argument::Bytes(&argument.inline[..argument.size as usize])
            }
            ARGUMENT_BYTES => Argument::Bytes(long),
            ARGUMENT_OBJECT if argument.object == NO_ID => Argument::NullBuffer,
            ARGUMENT_OBJECT => {
                object = Some(match self.table.get(argument.object) {
                    Some(Object::Buffer(buffer)) => Given::Buffer(Arc::clone(buffer)),
                    Some(Object::Image(image)) => Given::Image(Arc::clone(image)),
                    Some(Object::Sampler(sampler)) => Given::Sampler(Arc::clone(sampler)),
                    Some(Object::Failed(status)) => return Err(*status),
                    _ => return Err(B::CODES.bad_buffer),
                });
                match &object {
                    Some(Given::Buffer(buffer)) => Argument::Buffer(&buffer.raw),
                    Some(Given::Image(image)) => Argument::Image(&image.raw),
                    Some(Given::Sampler(sampler)) => Argument::Sampler(&sampler.raw),
                    None => Argument::NullBuffer,
                }
            }
            ARGUMENT_LOCAL => Argument::Local(argument.size as usize),
            ARGUMENT_ADDRESS => {
                let buffer = Arc::clone(self.table.buffer(argument.object)?);
                if buffer.address == 0 || argument.size >= buffer.size {
                    return Err(B::CODES.bad_value);
                }
                let address = buffer.address + argument.size;
                object = Some(Given::Buffer(buffer));
                Argument::Address(address as usize)
            }
            _ => return Err(B::CODES.bad_value),
        };
        let kernel = self.table.kernel_mut(kernel)?;
        self.backend.set_argument(&kernel.raw, index, &value)?;
        kernel.memory.retain(|(known, _)| *known != index);
        kernel.samplers.retain(|(known, _)| *known != index);
        match object {
            Some(Given::Buffer(buffer)) => {
                let buffer: Arc<dyn Send + Sync> = buffer;
                kernel.memory.push((index, Arc::downgrade(&buffer)));
            }
            Some(Given::Image(image)) => {
                let image: Arc<dyn Send + Sync> = image;
                kernel.memory.push((index, Arc::downgrade(&image)));
            }
            Some(Given::Sampler(sampler)) => kernel.samplers.push((index, sampler)),
            None => {}
        }
        Ok(())
    }
}

/// An object that is given as an argument.
enum Given<B: Backend> {
    Buffer(Arc<Buffer<B>>),
    Image(Arc<Image<B>>),
    Sampler(Arc<Sampler<B>>),
}
