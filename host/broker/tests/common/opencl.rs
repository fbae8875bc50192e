//! Programs for tests, in OpenCL C, and short ways to run them.
#![allow(dead_code)]

use super::Guest;
use kasoku_abi::accel::command::{self, Descriptor};
use kasoku_abi::accel::image::CreateImage;
use kasoku_abi::accel::kernel::{ARGUMENT_BYTES, ARGUMENT_OBJECT, CreateKernel, INLINE_ARGUMENT, Launch, SetArgument};
use kasoku_abi::accel::memory::{CreateBuffer, MAP_READ, Map};
use kasoku_abi::accel::object::{CreateContext, CreateQueue};
use kasoku_abi::accel::program::{BuildProgram, CreateProgram, Header, SOURCE};
use kasoku_abi::accel::{Id, Range, info};
use zerocopy::{FromBytes, IntoBytes};

pub const BUILD_LOG: u32 = 0x1183;
/// `CL_MEM_OBJECT_IMAGE2D`, RGBA, UNSIGNED_INT8.
pub const PLANE: CreateImage = CreateImage {
    context: 0,
    parent: 0,
    flags: 0,
    kind: 0x10f1,
    channel_order: 0x10b5,
    channel_type: 0x10da,
    width: 8,
    height: 4,
    depth: 0,
    array_size: 0,
    row_pitch: 0,
    initial: Range::NONE,
};

impl Guest {
    pub fn context(&mut self) -> Id {
        let id = self.id();
        self.ok(command::CREATE_CONTEXT, id, &CreateContext { devices: 1 });
        id
    }

    pub fn queue(&mut self, context: Id, flags: u32) -> Id {
        let id = self.id();
        self.ok(command::CREATE_QUEUE, id, &CreateQueue { context, device: 0, flags });
        id
    }

    /// A buffer in the arena, and its storage.
    pub fn stored_buffer(&mut self, context: Id, contents: &[u8]) -> (Id, Range) {
        let id = self.id();
        let storage = self.place(contents);
        let body = CreateBuffer { context, size: contents.len() as u64, storage, ..Default::default() };
        self.ok(command::CREATE_BUFFER, id, &body);
        (id, storage)
    }

    /// What a buffer holds, by way of its storage.
    pub fn mapped(&mut self, queue: Id, buffer: Id, storage: Range) -> Vec<u8> {
        let map = Map { buffer, offset: 0, size: storage.len, flags: MAP_READ, reserved: 0 };
        assert_eq!(self.blocking(command::MAP_BUFFER, queue, &map).status, 0);
        let bytes = self.bytes(storage);
        self.ok(command::UNMAP_BUFFER, queue, &map);
        bytes
    }

    /// Whether buffers with storage are their storage.
    pub fn is_direct(&mut self) -> bool {
        let out = self.allocate(1 << 20);
        let len = self.ok(command::DESCRIBE, 0, &info::Describe { out }).len;
        let bytes = self.bytes(Range { len, ..out });
        let mut rest = bytes.as_slice();
        while let Ok((record, after)) = info::Record::read_from_prefix(rest) {
            if record.parameter == info::DEVICE_DIRECT_BUFFERS {
                return after[0] == 1;
            }
            rest = &after[(record.len as usize).next_multiple_of(8)..];
        }
        panic!("the device does not say");
    }

    /// A buffer outside the arena.
    pub fn device_buffer(&mut self, context: Id, size: u64) -> Id {
        let id = self.id();
        self.ok(command::CREATE_BUFFER, id, &CreateBuffer { context, size, ..Default::default() });
        id
    }

    /// Builds a program: its id, the status, the log.
    pub fn try_build(
        &mut self,
        context: Id,
        source: &str,
        options: &str,
        headers: &[(&str, &str)],
    ) -> (Id, i32, String) {
        let program = self.id();
        let text = self.place(source.as_bytes());
        self.ok(command::CREATE_PROGRAM, program, &CreateProgram { context, kind: SOURCE, device: 0, text });
        let mut list = Vec::new();
        for (name, text) in headers {
            let header = Header { name_len: name.len() as u32, text_len: text.len() as u32 };
            list.extend_from_slice(header.as_bytes());
            for part in [name, text] {
                list.extend_from_slice(part.as_bytes());
                list.resize(list.len().next_multiple_of(8), 0);
            }
        }
        let (options, headers) = (self.place(options.as_bytes()), self.place(&list));
        let reply =
            self.call(command::BUILD_PROGRAM, program, &BuildProgram { options, headers, ..Default::default() });
        let log = self.get_info(program, info::BUILD, 0, BUILD_LOG).unwrap_or_default();
        (program, reply.status, String::from_utf8_lossy(&log).into_owned())
    }

    pub fn build(&mut self, context: Id, source: &str) -> Id {
        let (program, status, log) = self.try_build(context, source, "", &[]);
        assert_eq!(status, 0, "{log}");
        program
    }

    pub fn get_info(&mut self, target: Id, kind: u32, index: u32, parameter: u32) -> Result<Vec<u8>, i32> {
        let mut out = self.allocate(65_536);
        loop {
            let body = info::GetInfo { kind, index, parameter, out, ..Default::default() };
            let reply = self.call(command::GET_INFO, target, &body);
            if reply.status != 0 {
                return Err(reply.status);
            }
            if reply.written == reply.len {
                return Ok(self.bytes(Range { len: reply.len, ..out }));
            }
            out = self.allocate(reply.len);
        }
    }

    pub fn kernel(&mut self, program: Id, name: &str) -> Id {
        let kernel = self.id();
        let name = self.place(name.as_bytes());
        self.ok(command::CREATE_KERNEL, kernel, &CreateKernel { program, name });
        kernel
    }

    pub fn argument(&mut self, kernel: Id, index: u32, value: &[u8]) {
        self.post(&bytes_argument(kernel, index, value));
    }

    pub fn buffer_argument(&mut self, kernel: Id, index: u32, object: Id) {
        self.post(&buffer_argument(kernel, index, object));
    }

    /// Posts a launch over one dimension.
    pub fn launch(&mut self, queue: Id, kernel: Id, global: u64) {
        self.post_command(command::LAUNCH, queue, &one_dimension(kernel, global));
    }
}

pub fn one_dimension(kernel: Id, global: u64) -> Launch {
    Launch { kernel, dimensions: 1, global_size: [global, 1, 1], ..Default::default() }
}

pub fn bytes_argument(kernel: Id, index: u32, value: &[u8]) -> Descriptor {
    let mut inline = [0u8; INLINE_ARGUMENT];
    inline[..value.len()].copy_from_slice(value);
    let body =
        SetArgument { index, kind: ARGUMENT_BYTES, size: value.len() as u64, object: 0, data: Range::NONE, inline };
    Guest::descriptor(command::SET_ARGUMENT, kernel, &body)
}

pub fn buffer_argument(kernel: Id, index: u32, object: Id) -> Descriptor {
    let inline = [0u8; INLINE_ARGUMENT];
    let body = SetArgument { index, kind: ARGUMENT_OBJECT, size: 8, object, data: Range::NONE, inline };
    Guest::descriptor(command::SET_ARGUMENT, kernel, &body)
}
