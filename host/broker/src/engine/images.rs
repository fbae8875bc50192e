//! Images and samplers: creation, and the checks of commands on images.
use super::enqueue::{Work, index3, inside};
use super::table::{Charge, Image, Object, Parent, Sampler};
use super::{Engine, body};
use kasoku_abi::accel::command::{self, Descriptor};
use kasoku_abi::accel::image::{CopyImage, CopyImageBuffer, CreateImage, CreateSampler, FillImage, TransferImage};
use kasoku_abi::accel::{NO_ID, Range};
use kasoku_backend::{Backend, ImageLayout, ImageParent, ImageShape, ImageSpec, Index3, SamplerSpec, Status};
use std::sync::Arc;

impl<B: Backend> Engine<B> {
    pub fn create_image(&mut self, descriptor: &Descriptor) -> Result<Object<B>, Status> {
        let create: CreateImage = body(descriptor);
        let body = &create;
        let context = Arc::clone(self.table.context(body.context)?);
        let shape = ImageShape {
            kind: body.kind,
            channel_order: body.channel_order,
            channel_type: body.channel_type,
            width: body.width,
            height: body.height,
            depth: body.depth,
            array_size: body.array_size,
        };
        let layout = B::image_layout(&shape)?;
        let size = packed_len(&layout, layout.extent).ok_or(B::CODES.bad_value)?;
        let initial = match body.initial {
            Range::NONE => None,
            range if range.len == size && body.parent == NO_ID => Some(self.bytes(range)?),
            _ => return Err(B::CODES.bad_value),
        };
        let parent = match (body.parent, self.table.get(body.parent)) {
            (NO_ID, _) => None,
            (_, Some(Object::Buffer(buffer))) => Some(Parent::Buffer(Arc::clone(buffer))),
            (_, Some(Object::Image(image))) => Some(Parent::Image(Arc::clone(image))),
            (_, Some(Object::Failed(status))) => return Err(*status),
            _ => return Err(B::CODES.bad_buffer),
        };
        if let Some(Parent::Buffer(buffer)) = &parent {
            // Implementations differ in how far they look: what the image shows must be the buffer's.
            let row = layout.element.checked_mul(body.width).ok_or(B::CODES.bad_value)?;
            let pitch = if body.row_pitch == 0 { row } else { body.row_pitch };
            let rows = layout.extent[1].checked_mul(layout.extent[2]).ok_or(B::CODES.bad_value)?;
            let end = pitch.checked_mul(rows - 1).and_then(|start| start.checked_add(row));
            if pitch < row || end.is_none_or(|end| end > buffer.size) {
                return Err(B::CODES.bad_value);
            }
        }
        // Implementations allocate lazily, so the quota is kept here. What has a parent is paid for already.
        let bytes = if parent.is_some() { 0 } else { size };
        let charge = Charge::take(&self.device_memory_left, bytes).ok_or(B::CODES.no_device_memory)?;
        let spec = ImageSpec {
            shape,
            flags: body.flags,
            parent: parent.as_ref().map(|parent| match parent {
                Parent::Buffer(buffer) => ImageParent::Buffer(&buffer.raw),
                Parent::Image(image) => ImageParent::Image(&image.raw),
            }),
            row_pitch: body.row_pitch as usize,
            initial,
        };
        let raw = self.backend.create_image(&context.raw, &spec)?;
        let id = descriptor.target;
        Ok(Object::Image(Arc::new(Image { raw, id, context, create, layout, _charge: charge, parent })))
    }

    pub fn create_sampler(&mut self, descriptor: &Descriptor) -> Result<Object<B>, Status> {
        let create: CreateSampler = body(descriptor);
        let CreateSampler { context, normalized, addressing, filter, .. } = create;
        let context = Arc::clone(self.table.context(context)?);
        if normalized > 1 {
            return Err(B::CODES.bad_value);
        }
        let spec = SamplerSpec { normalized: normalized == 1, addressing, filter };
        let raw = self.backend.create_sampler(&context.raw, &spec)?;
        Ok(Object::Sampler(Arc::new(Sampler { raw, create, _context: context })))
    }

    /// Checks the body of a command on images.
    pub(super) fn image_work(&self, descriptor: &Descriptor) -> Result<Work<B>, Status> {
        let image = |id| self.table.image(id).map(Arc::clone);
        Ok(match descriptor.operation {
            command::READ_IMAGE | command::WRITE_IMAGE => {
                let transfer: TransferImage = body(descriptor);
                let data = self.bytes(transfer.data)?;
                let image = image(transfer.image)?;
                let (origin, region) = inside_image(&image, transfer.origin, transfer.region)?;
                if packed_len(&image.layout, transfer.region) != Some(transfer.data.len) {
                    return Err(B::CODES.bad_value);
                }
                let read = descriptor.operation == command::READ_IMAGE;
                let make = if read { Work::ReadImage } else { Work::WriteImage };
                make(image, origin, region, data)
            }
            command::COPY_IMAGE => {
                let copy: CopyImage = body(descriptor);
                let (source, destination) = (image(copy.source)?, image(copy.destination)?);
                let (source_origin, region) = inside_image(&source, copy.source_origin, copy.region)?;
                let (destination_origin, _) = inside_image(&destination, copy.destination_origin, copy.region)?;
                Work::CopyImage(source, destination, [source_origin, destination_origin, region])
            }
            command::FILL_IMAGE => {
                let fill: FillImage = body(descriptor);
                let image = image(fill.image)?;
                let (origin, region) = inside_image(&image, fill.origin, fill.region)?;
                Work::FillImage(image, fill.colour, origin, region)
            }
            command::COPY_IMAGE_TO_BUFFER | command::COPY_BUFFER_TO_IMAGE => {
                let copy: CopyImageBuffer = body(descriptor);
                let (image, buffer) = (image(copy.image)?, Arc::clone(self.table.buffer(copy.buffer)?));
                let (origin, region) = inside_image(&image, copy.origin, copy.region)?;
                let len = packed_len(&image.layout, copy.region).ok_or(B::CODES.bad_value)?;
                inside::<B>(copy.buffer_offset, len, buffer.size)?;
                let out = descriptor.operation == command::COPY_IMAGE_TO_BUFFER;
                let make = if out { Work::ImageToBuffer } else { Work::BufferToImage };
                make(image, buffer, origin, region, copy.buffer_offset as usize)
            }
            _ => return Err(B::CODES.bad_value),
        })
    }
}

/// Bytes of a region without gaps.
pub fn packed_len(layout: &ImageLayout, region: [u64; 3]) -> Option<u64> {
    region.iter().try_fold(layout.element, |len, &n| len.checked_mul(n))
}

/// The pitches of a packed region, given as the API wants them: of a single plane or line there is none.
pub fn packed_pitches<B: Backend>(image: &Image<B>, region: Index3) -> [usize; 2] {
    let row = region[0] * image.layout.element as usize;
    match image.layout {
        ImageLayout { lines: true, .. } => [row, row],
        ImageLayout { extent: [_, _, 1], .. } => [row, 0],
        _ => [row, row * region[1]],
    }
}

/// Origin and region, when they lie inside the image.
fn inside_image<B: Backend>(image: &Image<B>, origin: [u64; 3], region: [u64; 3]) -> Result<(Index3, Index3), Status> {
    for n in 0..3 {
        inside::<B>(origin[n], region[n], image.layout.extent[n])?;
    }
    Ok((index3(origin), index3(region)))
}
