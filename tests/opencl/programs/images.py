"""Images of every kind: read, write, copy, fill, map, kernels with samplers; answers with digests of what came out."""

import hashlib
import json
import random
import sys
from importlib import import_module
from typing import Any

import numpy as np

cl: Any = import_module("pyopencl")
#: `enqueue_copy` knows images of two and three dimensions only.
raw: Any = import_module("pyopencl._cl")

SEED = int(sys.argv[1])
RANDOM = random.Random(SEED)
#: What a vendor's library does not do.
REFUSED = "refused"
RESULTS: dict[str, Any] = {}
CONTEXT = cl.create_some_context(interactive=False)
QUEUE = cl.CommandQueue(CONTEXT)
KIND = cl.mem_object_type
FLAGS = cl.mem_flags
RGBA8 = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.UNSIGNED_INT8)
RGBAF = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.FLOAT)

#: Kind, sizes, whether the last one counts members of an array.
SHAPES: dict[str, tuple[Any, tuple[int, ...], bool]] = {
    "line": (KIND.IMAGE1D, (33,), False),
    "plane": (KIND.IMAGE2D, (33, 17), False),
    "block": (KIND.IMAGE3D, (9, 7, 5), False),
    "lines": (KIND.IMAGE1D_ARRAY, (33, 6), True),
    "planes": (KIND.IMAGE2D_ARRAY, (9, 7, 4), True),
}


def digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def noise(shape: tuple[int, ...], dtype: Any = np.uint8) -> Any:
    generator = np.random.default_rng(RANDOM.randrange(1 << 30))
    if dtype == np.float32:
        return generator.random((*reversed(shape), 4), dtype=np.float32)
    return generator.integers(0, 256, (*reversed(shape), 4)).astype(dtype)


def image(kind: Any, shape: tuple[int, ...], array: bool, host: Any = None) -> Any:
    """An image of RGBA8; `shape` ends with the array's size where it is one."""
    flags = FLAGS.READ_WRITE | (FLAGS.COPY_HOST_PTR if host is not None else 0)
    description = cl.ImageDescriptor()
    description.image_type = kind
    description.shape = shape[:-1] if array else shape
    description.array_size = shape[-1] if array else 0
    description.pitches = (0, 0)
    description.num_mip_levels = description.num_samples = 0
    description.buffer = None
    return cl.Image(CONTEXT, flags, RGBA8, desc=description, hostbuf=host)


def whole(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1, 1)[:3]


def read(source: Any, shape: tuple[int, ...]) -> Any:
    out = np.zeros((*reversed(shape), 4), np.uint8)
    raw._enqueue_read_image(QUEUE, source, (0, 0, 0), whole(shape), out)
    return out


def write(target: Any, shape: tuple[int, ...], contents: Any) -> None:
    raw._enqueue_write_image(QUEUE, target, (0, 0, 0), whole(shape), contents)


def moves(name: str, kind: Any, shape: tuple[int, ...], array: bool) -> None:
    contents = noise(shape)
    first = image(kind, shape, array, contents)
    RESULTS[f"{name}: first contents"] = bool((read(first, shape) == contents).all())
    second = image(kind, shape, array)
    write(second, shape, contents)
    RESULTS[f"{name}: written"] = bool((read(second, shape) == contents).all())
    cl.enqueue_fill_image(QUEUE, second, np.array([1, 2, 3, 255], np.uint32), (1, 0, 0), (5, 1, 1))
    filled = read(second, shape)
    RESULTS[f"{name}: filled"] = digest(filled)
    part = (4, *whole(shape)[1:])
    raw._enqueue_copy_image(QUEUE, second, first, (0, 0, 0), (3, 0, 0), part)
    RESULTS[f"{name}: copied"] = bool((read(first, shape)[..., 3:7, :] == filled[..., :4, :]).all())
    buffer = cl.Buffer(CONTEXT, FLAGS.READ_WRITE, contents.nbytes + 64)
    third = image(kind, shape, array)
    try:
        raw._enqueue_copy_image_to_buffer(QUEUE, second, buffer, (0, 0, 0), whole(shape), 64)
        flat = np.zeros(contents.nbytes, np.uint8)
        cl.enqueue_copy(QUEUE, flat, buffer, src_offset=64)
        RESULTS[f"{name}: to a buffer"] = flat.tobytes() == filled.tobytes()
        raw._enqueue_copy_buffer_to_image(QUEUE, buffer, third, 64, (0, 0, 0), whole(shape))
        RESULTS[f"{name}: from a buffer"] = bool((read(third, shape) == filled).all())
    except cl.LogicError:
        # NVIDIA's library takes no array of lines here.
        RESULTS[f"{name}: to a buffer"] = RESULTS[f"{name}: from a buffer"] = REFUSED
        write(third, shape, filled)
    mapped, *_pitches = cl.enqueue_map_image(
        QUEUE, third, cl.map_flags.READ | cl.map_flags.WRITE, (2, 0, 0), (3, 1, 1), (3, 4), np.uint8
    )
    RESULTS[f"{name}: mapped"] = digest(mapped)
    mapped[:] = 7
    mapped.base.release(QUEUE)
    changed = read(third, shape)
    RESULTS[f"{name}: unmapped"] = digest(changed)
    parameters = ["ELEMENT_SIZE", "WIDTH", "HEIGHT", "DEPTH", "ARRAY_SIZE"]
    RESULTS[f"{name}: sizes"] = [third.get_image_info(getattr(cl.image_info, name)) for name in parameters]
    RESULTS[f"{name}: type"] = int(third.type)


def pitched() -> None:
    """The program's own memory, used in place, with rows that are longer than the image's."""
    backing = noise((40, 17))
    used = cl.create_image(
        CONTEXT,
        FLAGS.READ_WRITE | FLAGS.USE_HOST_PTR,
        RGBA8,
        shape=(33, 17),
        pitches=(160,),
        hostbuf=backing,
    )
    RESULTS["used: read"] = bool((read(used, (33, 17)) == backing[:, :33]).all())
    cl.enqueue_fill_image(QUEUE, used, np.array([9, 9, 9, 9], np.uint32), (0, 0, 0), (33, 17, 1))
    mapped, *_pitches = cl.enqueue_map_image(
        QUEUE, used, cl.map_flags.READ, (1, 1, 0), (2, 2, 1), (2, 2, 4), np.uint8, strides=(160, 4, 1)
    )
    RESULTS["used: mapped"] = bool((mapped == 9).all()) and bool((backing[1:3, 1:3] == 9).all())
    mapped.base.release(QUEUE)
    wide = np.zeros((17, 50, 4), np.uint8)
    raw._enqueue_read_image(QUEUE, used, (0, 0, 0), (33, 17, 1), wide, 200, 0)
    RESULTS["used: wide"] = digest(wide)


def kernels() -> None:
    source = """
    constant sampler_t own = CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_CLAMP | CLK_FILTER_NEAREST;
    kernel void flip(read_only image2d_t in, write_only image2d_t out, sampler_t given, global float4 *flat) {
        int2 at = (int2)(get_global_id(0), get_global_id(1));
        int2 size = get_image_dim(in);
        float4 value = read_imagef(in, own, size - 1 - at);
        float4 smooth = read_imagef(in, given, (convert_float2(at) + 0.5f) / convert_float2(size));
        write_imagef(out, at, value);
        flat[at.y * size.x + at.x] = smooth;
    }
    kernel void sum(read_only image3d_t in, read_only image1d_array_t lines, global uint4 *out) {
        int4 at = (int4)(get_global_id(0), get_global_id(1), get_global_id(2), 0);
        uint4 value = read_imageui(in, own, at) + read_imageui(lines, own, (int2)(at.x, at.y));
        out[(at.z * get_global_size(1) + at.y) * get_global_size(0) + at.x] = value;
    }
    kernel void line(read_only image1d_buffer_t in, global uint4 *out) {
        out[get_global_id(0)] = read_imageui(in, (int)get_global_id(0));
    }"""
    program = cl.Program(CONTEXT, source).build()
    shape = (13, 11)
    contents = noise(shape, np.float32)
    first = cl.image_from_array(CONTEXT, contents, 4)
    second = cl.create_image(CONTEXT, FLAGS.WRITE_ONLY, RGBAF, shape=shape)
    sampler = cl.Sampler(CONTEXT, True, cl.addressing_mode.CLAMP_TO_EDGE, cl.filter_mode.NEAREST)
    flat = cl.Buffer(CONTEXT, FLAGS.READ_WRITE, contents.nbytes)
    program.flip(QUEUE, shape, None, first, second, sampler, flat)
    out = np.zeros_like(contents)
    cl.enqueue_copy(QUEUE, out, second, origin=(0, 0), region=shape)
    RESULTS["kernel: flipped"] = bool((out == contents[::-1, ::-1]).all())
    cl.enqueue_copy(QUEUE, out, flat)
    RESULTS["kernel: sampled"] = bool((out == contents).all())
    block, lines = noise((5, 4, 3)), noise((5, 4))
    in_block = image(KIND.IMAGE3D, (5, 4, 3), False, block)
    in_lines = image(KIND.IMAGE1D_ARRAY, (5, 4), True, lines)
    total = cl.Buffer(CONTEXT, FLAGS.READ_WRITE, block.nbytes * 4)
    program.sum(QUEUE, (5, 4, 3), None, in_block, in_lines, total)
    sums = np.zeros(block.shape, np.uint32)
    cl.enqueue_copy(QUEUE, sums, total)
    RESULTS["kernel: summed"] = bool((sums == block.astype(np.uint32) + lines).all())
    text = noise((16,))
    backing = cl.Buffer(CONTEXT, FLAGS.READ_WRITE | FLAGS.COPY_HOST_PTR, hostbuf=text)
    shown = cl.create_image(CONTEXT, FLAGS.READ_ONLY, RGBA8, shape=(16,), buffer=backing)
    program.line(QUEUE, (16,), None, shown, total)
    row = np.zeros((16, 4), np.uint32)
    cl.enqueue_copy(QUEUE, row, total)
    RESULTS["kernel: a buffer's image"] = bool((row == text).all())
    text[:] = 3
    cl.enqueue_copy(QUEUE, backing, text)
    program.line(QUEUE, (16,), None, shown, total)
    cl.enqueue_copy(QUEUE, row, total)
    RESULTS["kernel: a changed buffer's image"] = bool((row == 3).all())


def large() -> None:
    """More than goes through the arena at a time."""
    shape = (2000, 1500)
    contents = noise(shape)
    big = cl.create_image(CONTEXT, FLAGS.READ_WRITE | FLAGS.COPY_HOST_PTR, RGBA8, shape=shape, hostbuf=contents)
    RESULTS["large: first contents"] = bool((read(big, shape) == contents).all())
    contents ^= 255
    write(big, shape, contents)
    RESULTS["large: written"] = bool((read(big, shape) == contents).all())


for label, (kind, sizes, is_array) in SHAPES.items():
    moves(label, kind, sizes, is_array)
pitched()
kernels()
large()
for label, (kind, *_) in SHAPES.items():
    formats = cl.get_supported_image_formats(CONTEXT, FLAGS.READ_WRITE, kind)
    pairs = sorted((f.channel_order, f.channel_data_type) for f in formats)
    RESULTS[f"{label}: formats"] = hashlib.sha256(repr(pairs).encode()).hexdigest()[:16]
print(json.dumps(RESULTS))
