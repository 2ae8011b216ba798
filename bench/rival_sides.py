"""LeNet-5 and AlexNet as users of PyTorch and onnxruntime write them.

On the CPU they run only in a worker process, on a card beside gpukit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.networks import (
    DROPOUT,
    LRN,
    MOMENTUM,
    AlexNet,
    Net,
    images,
    loss_of,
    net_of,
    weights,
)

Side = tuple[Callable[[], list[float]], Callable[[], Any]]


def _torch_model(net: Net) -> Any:
    import torch
    from torch import nn

    model = _alexnet(net) if isinstance(net, AlexNet) else _lenet(net)
    layers = [m for m in model if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        for (kernel, bias), layer in zip(rival_weights(net), layers, strict=True):
            layer.weight.copy_(torch.from_numpy(kernel))
            layer.bias.copy_(torch.from_numpy(bias))
    return model


def _lenet(net: Net) -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, net.classes),
    )  # fmt: skip


def _alexnet(net: AlexNet) -> Any:
    from torch import nn

    class Response(nn.Module):
        """Response normalisation within each of two groups of channels."""

        def forward(self, x: Any) -> Any:
            n, c, h, w = x.shape
            halves = x.reshape(n * 2, c // 2, h, w)
            y = nn.functional.local_response_norm(
                halves, LRN["size"], LRN["alpha"], LRN["beta"], LRN["k"]
            )
            return y.reshape(n, c, h, w)

    a, b, c, d, e = net.maps
    units, flat = net.units, net.last_size**2 * net.maps[4]
    return nn.Sequential(
        nn.Conv2d(3, a, 11, stride=4), nn.ReLU(), Response(), nn.MaxPool2d(3, 2),
        nn.Conv2d(a, b, 5, padding=2, groups=2), nn.ReLU(), Response(), nn.MaxPool2d(3, 2),
        nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
        nn.Conv2d(c, d, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(d, e, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(flat, units), nn.ReLU(), nn.Dropout(DROPOUT),
        nn.Linear(units, units), nn.ReLU(), nn.Dropout(DROPOUT),
        nn.Linear(units, net.classes),
    )  # fmt: skip


def rival_weights(net: Net) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel (K, C/groups, R, S) or (out, in) and bias of each layer; the first dense layer
    reads channels first."""
    made = weights(net)
    result = []
    first = next(layer for layer, shape in net.shapes().items() if len(shape) == 2)
    for layer in net.shapes():
        kernel = made[f"{layer}/kernel"]
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        elif layer == first:
            size, units = net.last_size, kernel.shape[1]
            places = kernel.reshape(size, size, -1, units)
            kernel = places.transpose(3, 2, 0, 1).reshape(units, -1)
        else:
            kernel = kernel.T
        result.append((np.ascontiguousarray(kernel), made[f"{layer}/bias"]))
    return result


def _placed(net: Net, variant: str, device: str) -> tuple[Any, Any, Any]:
    """Model, images and labels on `device`, in the layout of `variant`."""
    import torch

    model = _torch_model(net).to(device)
    x, labels = images(net)
    batch = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).to(device)
    if variant == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        batch = batch.contiguous(memory_format=torch.channels_last)
    return model, batch, torch.from_numpy(labels).to(device)


def training(order: dict[str, Any], variant: str, device: str = "cpu") -> Side:
    """A step of training with momentum; `variant`: eager, channels_last, compiled."""
    import torch
    from torch import nn

    net = net_of(order)
    model, x, labels = _placed(net, variant, device)
    settings = {"lr": net.rate, "momentum": MOMENTUM, "weight_decay": net.decay}
    optimiser = torch.optim.SGD(model.parameters(), **settings)

    def step(forward: Any) -> float:
        optimiser.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(forward(x), labels)
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    def check() -> list[float]:
        drops = [m for m in model if isinstance(m, nn.Dropout)]
        for layer in drops:
            layer.p = 0.0
        losses = [step(model) for _ in range(2)]
        for layer in drops:
            layer.p = DROPOUT
        return losses

    forward = torch.compile(model) if variant == "compiled" else model
    return check, lambda: step(forward)


def inference(order: dict[str, Any], variant: str, device: str = "cpu") -> Side:
    """Scores of a batch, eager, on the host in the end."""
    import torch

    model, x, labels = _placed(net_of(order), variant, device)
    model.eval()

    def run() -> Any:
        with torch.inference_mode():
            return model(x).cpu()

    return lambda: [loss_of(run().numpy(), labels.cpu().numpy())], run


def onnx_inference(order: dict[str, Any], variant: str) -> Side:
    """Scores of a batch by onnxruntime, which has one variant."""
    import onnxruntime

    net = net_of(order)
    assert isinstance(net, AlexNet)
    session = onnxruntime.InferenceSession(
        onnx_model(net).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x, labels = images(net)
    feed = {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))}

    def run() -> Any:
        return session.run(None, feed)[0]

    return lambda: [loss_of(run(), labels)], run


def onnx_model(net: AlexNet) -> Any:
    """The same network as an ONNX graph; LRN has no groups there, so each half is an image."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, values = [], []
    now = "x"

    def add(kind: str, *inputs: str, **settings: Any) -> None:
        nonlocal now
        nodes.append(helper.make_node(kind, [now, *inputs], [f"y{len(nodes)}"], **settings))
        now = f"y{len(nodes) - 1}"

    def constant(name: str, array: np.ndarray) -> str:
        values.append(numpy_helper.from_array(array, name))
        return name

    sizes = [(net.size - 11) // 4 + 1]
    sizes.append((sizes[0] - 3) // 2 + 1)
    settings = [
        {"strides": [4, 4]},
        {"pads": [2] * 4, "group": 2},
        {"pads": [1] * 4},
        {"pads": [1] * 4, "group": 2},
        {"pads": [1] * 4, "group": 2},
    ]
    for i, (kernel, bias) in enumerate(rival_weights(net)):
        names = constant(f"w{i}", kernel), constant(f"b{i}", bias)
        if i < 5:
            add("Conv", *names, **settings[i])
        else:
            add("Gemm", *names, transB=1)
        if i < 7:
            add("Relu")
        if i < 2:
            size, maps = sizes[i], net.maps[i]
            halves = np.array([net.batch * 2, maps // 2, size, size], np.int64)
            add("Reshape", constant(f"halves{i}", halves))
            add(
                "LRN", size=int(LRN["size"]), alpha=LRN["alpha"], beta=LRN["beta"],
                bias=LRN["k"],
            )  # fmt: skip
            whole = np.array([net.batch, maps, size, size], np.int64)
            add("Reshape", constant(f"whole{i}", whole))
        if i in (0, 1, 4):
            add("MaxPool", kernel_shape=[3, 3], strides=[2, 2])
        if i == 4:
            add("Flatten")
    shape = [net.batch, 3, net.size, net.size]
    graph = helper.make_graph(
        nodes,
        "alexnet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(now, TensorProto.FLOAT, [net.batch, net.classes])],
        values,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
