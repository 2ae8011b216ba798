"""LeNet-5 and AlexNet as users of PyTorch and onnxruntime write them.

On the CPU they run only in a worker process, on a card beside gpukit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.networks import DROPOUT, LRN, MOMENTUM, Net, images, loss_of, weights

Side = tuple[Callable[[], list[float]], Callable[[], Any]]


def _torch_model(net: Net) -> Any:
    import torch
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

    modules: list[Any] = []
    for (layer, size, channels), arrays in zip(net.inputs(), rival_weights(net)):
        if layer.size:
            settings = (layer.size, layer.stride, layer.padding)
            made: Any = nn.Conv2d(channels, layer.outputs, *settings, groups=layer.groups)
        else:
            made = nn.Linear(size * size * channels, layer.outputs)
            if not any(isinstance(m, nn.Linear) for m in modules):
                modules.append(nn.Flatten())
        with torch.no_grad():
            for parameter, array in zip((made.weight, made.bias), arrays):
                parameter.copy_(torch.from_numpy(array))
        modules += [made, nn.ReLU()]
        modules += [Response()] * layer.response
        modules += [nn.MaxPool2d(layer.pool, 2)] if layer.pool else []
        modules += [nn.Dropout(DROPOUT)] * layer.dropout
    return nn.Sequential(*modules[:-1])  # the last layer's ReLU is none of the network


def rival_weights(net: Net) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Kernel (K, C/groups, R, S) or (out, in) and bias of each layer; the first dense layer
    reads channels first."""
    made = weights(net)
    for layer, size, _ in net.inputs():
        cells = layer.size or size
        kernel = made[f"{layer.name}/kernel"].reshape(cells, cells, -1, layer.outputs)
        kernel = kernel.transpose(3, 2, 0, 1)
        kernel = kernel if layer.size else kernel.reshape(layer.outputs, -1)
        yield np.ascontiguousarray(kernel), made[f"{layer.name}/bias"]


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

    net = Net(**order)
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

    model, x, labels = _placed(Net(**order), variant, device)
    model.eval()

    def run() -> Any:
        with torch.inference_mode():
            return model(x).cpu()

    return lambda: [loss_of(run().numpy(), labels.cpu().numpy())], run


def onnx_inference(order: dict[str, Any], variant: str) -> Side:
    """Scores of a batch by onnxruntime, which has one variant."""
    import onnxruntime

    net = Net(**order)
    session = onnxruntime.InferenceSession(
        onnx_model(net).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x, labels = images(net)
    feed = {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))}

    def run() -> Any:
        return session.run(None, feed)[0]

    return lambda: [loss_of(run(), labels)], run


def onnx_model(net: Net) -> Any:
    """The same network as an ONNX graph; LRN has no groups there, so each half is an image."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, values = [], []
    now = "x"

    def add(kind: str, *inputs: str, **settings: Any) -> None:
        nonlocal now
        nodes.append(helper.make_node(kind, [now, *inputs], [f"y{len(nodes)}"], **settings))
        now = f"y{len(nodes) - 1}"

    def constant(array: np.ndarray) -> str:
        values.append(numpy_helper.from_array(array, f"c{len(values)}"))
        return f"c{len(values) - 1}"

    def reshape(images: int, maps: int) -> None:
        add("Reshape", constant(np.array([images, maps, 0, 0], np.int64)))  # 0: as it was

    flat = False
    for layer, arrays in zip(net.layers, rival_weights(net)):
        names = map(constant, arrays)
        if layer.size:
            pads, strides = [layer.padding] * 4, [layer.stride] * 2
            add("Conv", *names, pads=pads, strides=strides, group=layer.groups)
        else:
            if not flat:
                add("Flatten")
            flat = True
            add("Gemm", *names, transB=1)
        if layer != net.layers[-1]:
            add("Relu")
        if layer.response:
            reshape(net.batch * 2, layer.outputs // 2)
            settings = {"alpha": LRN["alpha"], "beta": LRN["beta"], "bias": LRN["k"]}
            add("LRN", size=int(LRN["size"]), **settings)
            reshape(net.batch, layer.outputs)
        if layer.pool:
            add("MaxPool", kernel_shape=[layer.pool] * 2, strides=[2, 2])
    shape = [net.batch, net.channels, net.size, net.size]
    graph = helper.make_graph(
        nodes,
        net.network,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(now, TensorProto.FLOAT, [net.batch, net.classes])],
        values,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
