//! Questions about objects.
use super::table::Object;
use super::{Engine, Outcome, body};
use kasoku_abi::accel::NO_ID;
use kasoku_abi::accel::command::Descriptor;
use kasoku_abi::accel::info::{
    BUILD, BUILD_BINARY, DEVICE_DIRECT_BUFFERS, DEVICE_SHARED_ADDRESSES, Describe, GetInfo, Record,
};
use kasoku_backend::{Backend, Info, Question};
use zerocopy::IntoBytes;

impl<B: Backend> Engine<B> {
    pub(super) fn describe(&self, descriptor: &Descriptor) -> Outcome {
        let Describe { out } = body(descriptor);
        let records = match (descriptor.target, self.table.get(descriptor.target)) {
            (NO_ID, _) => self.describe_devices(),
            (_, Some(Object::Kernel(kernel))) => self.backend.describe_kernel(&kernel.raw),
            (_, Some(Object::Program(program))) => program.describe(&*self.backend),
            (_, Some(Object::Failed(status))) => return Err(*status),
            _ => return Err(B::CODES.bad_value),
        };
        self.put(out, &encode(&records))
    }

    fn describe_devices(&self) -> Vec<Info> {
        let mut records = self.backend.describe();
        if self.is_recoverable() {
            let absent = [DEVICE_DIRECT_BUFFERS, DEVICE_SHARED_ADDRESSES];
            for record in records.iter_mut().filter(|record| absent.contains(&record.parameter)) {
                record.value = 0u32.to_le_bytes().to_vec();
            }
        }
        records
    }

    pub(super) fn get_info(&self, descriptor: &Descriptor) -> Outcome {
        let info: GetInfo = body(descriptor);
        let words = (info.input_len / 8) as usize;
        if words > info.input.len() || !info.input_len.is_multiple_of(8) {
            return Err(B::CODES.bad_value);
        }
        let question =
            Question { kind: info.kind, index: info.index, parameter: info.parameter, input: &info.input[..words] };
        let value = match self.table.get(descriptor.target) {
            Some(Object::Kernel(kernel)) => self.backend.kernel_info(&kernel.raw, &question)?,
            Some(Object::Context(context)) => self.backend.context_info(&context.raw, &question)?,
            Some(Object::Program(program)) if info.kind == BUILD && info.parameter == BUILD_BINARY => {
                program.signed_binary(info.index).ok_or(B::CODES.bad_value)?
            }
            Some(Object::Program(program)) => program.info(&*self.backend, &question)?,
            Some(Object::Failed(status)) => return Err(*status),
            _ => return Err(B::CODES.bad_value),
        };
        self.put(info.out, &value)
    }
}

/// Records as the ABI has them.
fn encode(records: &[Info]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Info { kind, index, parameter, value } in records {
        let record = Record { kind: *kind, index: *index, parameter: *parameter, len: value.len() as u32 };
        bytes.extend_from_slice(record.as_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}
