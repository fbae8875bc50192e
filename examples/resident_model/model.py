"""A model whose weights, program and buffers are on the device before the first request: they are in the snapshot.

kasoku deploy examples/resident_model/model.py
kasoku invoke resident-model '{"seed": 7}'

The network is small and counts in whole numbers, so that whoever knows the seed can compute the same answer
(`check.py` does).
"""

import numpy as np
import pyopencl as cl

import kasoku

app = kasoku.App("examples")

WIDTH, LAYERS = 512, 4
SOURCE = """
__kernel void layer(__global const char *weights, __global const int *input, __global int *output, const int width) {
    const int row = get_global_id(0);
    int sum = 0;
    for (int k = 0; k < width; k++) sum += weights[k * width + row] * input[k];
    output[row] = clamp(sum >> 5, 0, 15);
}
"""


def make_weights():
    """One matrix for each layer: -1, 0 and 1."""
    return np.random.default_rng(2026).integers(-1, 2, (LAYERS, WIDTH, WIDTH), dtype=np.int8)


class Model:
    """What every clone of the function has from its first moment on."""

    def __init__(self):
        self.context = cl.create_some_context(interactive=False)
        self.queue = cl.CommandQueue(self.context)
        self.layer = cl.Kernel(cl.Program(self.context, SOURCE).build(), "layer")
        flags = cl.mem_flags
        self.weights = [
            cl.Buffer(self.context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=matrix) for matrix in make_weights()
        ]
        self.values = [cl.Buffer(self.context, flags.READ_WRITE, 4 * WIDTH) for _ in range(2)]
        self.run(np.zeros(WIDTH, np.int32))

    def run(self, values):
        """The last layer's output for an input of 32-bit whole numbers."""
        source, target = self.values
        cl.enqueue_copy(self.queue, source, values)
        for weights in self.weights:
            self.layer(self.queue, (WIDTH,), None, weights, source, target, np.int32(WIDTH))
            source, target = target, source
        result = np.empty(WIDTH, np.int32)
        cl.enqueue_copy(self.queue, result, source)
        return result


model = Model()


@app.function(name="resident-model", requirements=["numpy", "pyopencl"], accelerator="opencl", memory=384, arena=32)
def infer(seed):
    """What the network makes of a random input."""
    values = np.random.default_rng(seed).integers(0, 16, WIDTH, dtype=np.int32)
    return {"output": model.run(values).tolist(), "device": model.context.devices[0].name.strip()}
