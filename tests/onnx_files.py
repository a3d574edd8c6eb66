"""ONNX networks of one layer, written by hand: messages of protobuf as onnx.proto numbers their
fields.
"""

from __future__ import annotations

import numpy as np

FLOAT = 1
INT64 = 7
RAW = 9


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def whole(field, value):
    return varint(field << 3) + varint(value)


def part(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def tensor(name, values):
    values = np.asarray(values, np.float32)
    dims = b"".join(whole(1, n) for n in values.shape)
    return dims + whole(2, FLOAT) + part(8, name) + part(RAW, values.tobytes())


def tensor_beside(name, shape, file):
    """Whose values are in another file."""
    dims = b"".join(whole(1, n) for n in shape)
    location = part(13, part(1, "location") + part(2, file))
    return dims + whole(2, FLOAT) + part(8, name) + location + whole(14, 1)


def declared(name, *shape):
    """An input or output; a name in its shape is an axis of any length."""
    dims = b"".join(part(1, part(2, n) if isinstance(n, str) else whole(1, n)) for n in shape)
    return part(1, name) + part(2, part(1, whole(1, FLOAT) + part(2, dims)))


def node(kind, inputs, output):
    return b"".join(part(1, name) for name in inputs) + part(2, output) + part(4, kind)


def linear(weights, bias, metadata, rows="n", inputs=1, beside=""):
    """values = seen @ weights + bias. metadata: by key. beside: file that the weights are in."""
    weights, bias = np.asarray(weights, np.float32), np.asarray(bias, np.float32)
    graph = part(1, node("MatMul", ("seen", "weights"), "product"))
    graph += part(1, node("Add", ("product", "bias"), "values")) + part(2, "linear")
    held = tensor_beside("weights", weights.shape, beside) if beside else tensor("weights", weights)
    graph += part(5, held) + part(5, tensor("bias", bias))
    for i in range(inputs):
        graph += part(11, declared("seen" if i == 0 else f"more{i}", rows, weights.shape[0]))
    graph += part(12, declared("values", rows, weights.shape[1]))
    said = b"".join(part(14, part(1, key) + part(2, value)) for key, value in metadata.items())
    return whole(1, 8) + part(7, graph) + part(8, part(1, "") + whole(2, 13)) + said


def heavy(count, metadata):
    """values = seen @ weights + mean of `count` noughts, which are made when it is run."""
    numbers = np.array([count], np.int64)
    shape = whole(1, 1) + whole(2, INT64) + part(8, "shape") + part(RAW, numbers.tobytes())
    graph = part(1, node("ConstantOfShape", ("shape",), "noughts"))
    graph += part(1, node("ReduceMean", ("noughts",), "mean"))
    graph += part(1, node("MatMul", ("seen", "weights"), "product"))
    graph += part(1, node("Add", ("product", "mean"), "values")) + part(2, "heavy")
    graph += part(5, tensor("weights", np.ones((4, 2)))) + part(5, shape)
    graph += part(11, declared("seen", "n", 4)) + part(12, declared("values", "n", 2))
    said = b"".join(part(14, part(1, key) + part(2, value)) for key, value in metadata.items())
    return whole(1, 8) + part(7, graph) + part(8, part(1, "") + whole(2, 13)) + said
