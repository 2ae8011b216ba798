"""Layers of well-known networks, most for images of 3 channels and 1000 classes.

alexnet   Krizhevsky, Sutskever and Hinton, 2012, section 3.5 and figure 2: two columns, so groups
          of 2 in conv2, conv4 and conv5; images of 227×227, as its stride of 4 needs.
vgg16     Simonyan and Zisserman, 2014, table 1, column D; images of 224×224.
resnet50  He, Zhang, Ren and Sun, 2015, table 1, with the stride of a block in its 3×3 convolution,
          as most implementations have it; images of 224×224.
lenet5    LeCun, Bottou, Bengio and Haffner, 1998, as gpukit's lenet5 has it: one channel, 10
          classes, images of 28×28.
mobilenet Howard et al., 2017, table 1: depthwise convolutions, each before one of 1×1; images of
          224×224.

A layer that a network has several times stands here once, with its count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gpukit.dispatch.declaration import Sizes
from gpukit.primitives.geometry import conv_output_size


@dataclass(frozen=True)
class Layer:
    """A layer's `name`, its `sizes` without N in the order of its form, how often it is there."""

    name: str
    sizes: Sizes
    count: int = 1


@dataclass(frozen=True)
class Network:
    """Layers by kind. Convolutions H,W,C,K,R,S,stride,pad,groups; pools H,W,C,R,S,stride,pad;
    maps H,W,C; dense layers inputs, outputs; softmax C."""

    convs: tuple[Layer, ...]
    max_pools: tuple[Layer, ...]
    denses: tuple[Layer, ...]
    responses: tuple[Layer, ...] = ()
    normalised: bool = False
    global_pools: tuple[Layer, ...] = ()
    softmaxes: tuple[Layer, ...] = field(default=(Layer("classes", (1000,)),))

    @property
    def primitives(self) -> tuple[str, ...]:
        """What a training step calls, and its softmax: each with its gradients."""
        there = {
            ("conv2d", "conv2d_input_grad", "conv2d_weight_grad", "relu", "relu_grad"): self.convs,
            ("batch_norm", "batch_norm_grad"): self.normalised_maps,
            ("lrn", "lrn_grad"): self.responses,
            ("bias_relu_lrn_pool", "bias_relu_lrn_pool_grad"): self.responses,
            ("max_pool2d", "max_pool2d_grad"): self.max_pools,
            ("global_avg_pool2d", "global_avg_pool2d_grad"): self.global_pools,
            ("dense", "dense_input_grad", "dense_weight_grad"): self.denses,
            ("softmax", "softmax_cross_entropy", "softmax_cross_entropy_grad"): self.softmaxes,
            ("normalise_images", "sgd_update"): self.images,
        }
        return tuple(name for names, layers in there.items() if layers for name in names)

    @property
    def images(self) -> tuple[Layer, ...]:
        """What the first convolution sees."""
        return (Layer("images", self.convs[0].sizes[:3]),)

    @property
    def normalised_maps(self) -> tuple[Layer, ...]:
        """The maps, where they are normalised by their batch."""
        return self.maps if self.normalised else ()

    @property
    def response_pools(self) -> tuple[Layer, ...]:
        """The pools behind a response normalisation."""
        normal = {layer.sizes: layer.name for layer in self.responses}
        return tuple(
            Layer(f"{normal[pool.sizes[:3]]}, {pool.name}", pool.sizes)
            for pool in self.max_pools
            if pool.sizes[:3] in normal
        )

    @property
    def parameters(self) -> tuple[Layer, ...]:
        """All of them together: a convolution has a bias, or where it is normalised two vectors."""
        count = sum(i * o + o for i, o in (layer.sizes for layer in self.denses))
        for layer in self.convs:
            _, _, c, k, r, s, _, _, groups = layer.sizes
            count += layer.count * (r * s * c // groups * k + (2 if self.normalised else 1) * k)
        return (Layer("parameters", (count,)),)

    @property
    def maps(self) -> tuple[Layer, ...]:
        """What the convolutions put out: each shape once, named after its first convolution."""
        made = []
        for layer in self.convs:
            h, w, _, k, r, s, stride, pad, _ = layer.sizes
            image = (conv_output_size(n, f, stride, (pad, pad)) for n, f in ((h, r), (w, s)))
            made.append(Layer(layer.name, (*image, k), layer.count))
        return _unique(made)


def _conv(
    name: str,
    size: int,
    c: int,
    k: int,
    kernel: int,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
    count: int = 1,
) -> Layer:
    return Layer(name, (size, size, c, k, kernel, kernel, stride, pad, groups), count)


def _pool(name: str, size: int, c: int, window: int, stride: int, pad: int = 0) -> Layer:
    return Layer(name, (size, size, c, window, window, stride, pad))


ALEXNET = Network(
    convs=(
        _conv("conv1", 227, 3, 96, 11, 4),
        _conv("conv2", 27, 96, 256, 5, pad=2, groups=2),
        _conv("conv3", 13, 256, 384, 3, pad=1),
        _conv("conv4", 13, 384, 384, 3, pad=1, groups=2),
        _conv("conv5", 13, 384, 256, 3, pad=1, groups=2),
    ),
    max_pools=(
        _pool("pool1", 55, 96, 3, 2),
        _pool("pool2", 27, 256, 3, 2),
        _pool("pool5", 13, 256, 3, 2),
    ),
    denses=(
        Layer("fc6", (9216, 4096)),
        Layer("fc7", (4096, 4096)),
        Layer("fc8", (4096, 1000)),
    ),
    responses=(Layer("norm1", (55, 55, 96)), Layer("norm2", (27, 27, 256))),
)

VGG16 = Network(
    convs=(
        _conv("conv1_1", 224, 3, 64, 3, pad=1),
        _conv("conv1_2", 224, 64, 64, 3, pad=1),
        _conv("conv2_1", 112, 64, 128, 3, pad=1),
        _conv("conv2_2", 112, 128, 128, 3, pad=1),
        _conv("conv3_1", 56, 128, 256, 3, pad=1),
        _conv("conv3_2", 56, 256, 256, 3, pad=1, count=2),
        _conv("conv4_1", 28, 256, 512, 3, pad=1),
        _conv("conv4_2", 28, 512, 512, 3, pad=1, count=2),
        _conv("conv5_1", 14, 512, 512, 3, pad=1, count=3),
    ),
    max_pools=(
        _pool("pool1", 224, 64, 2, 2),
        _pool("pool2", 112, 128, 2, 2),
        _pool("pool3", 56, 256, 2, 2),
        _pool("pool4", 28, 512, 2, 2),
        _pool("pool5", 14, 512, 2, 2),
    ),
    denses=(
        Layer("fc6", (25088, 4096)),
        Layer("fc7", (4096, 4096)),
        Layer("fc8", (4096, 1000)),
    ),
)


def _stage(number: int, size: int, c: int, blocks: int) -> tuple[Layer, ...]:
    """The bottleneck blocks of a stage whose outputs are size×size, its 1×1 and 3×3 to c channels,
    its outputs 4c. Only from the second stage on does the first block halve the image."""
    stride = 1 if number == 2 else 2
    before, inputs = size * stride, c if number == 2 else 2 * c
    first = f"conv{number}_1"
    rest = f"conv{number}_2"
    made = [
        _conv(f"{first} 1x1 in", before, inputs, c, 1),
        _conv(f"{first} 3x3", before, c, c, 3, stride, pad=1),
        _conv(f"{first} shortcut", before, inputs, 4 * c, 1, stride),
        _conv(f"{rest} 1x1 in", size, 4 * c, c, 1, count=blocks - 1),
        _conv(f"{rest} 3x3", size, c, c, 3, pad=1, count=blocks - 1),
        _conv(f"{rest} 1x1 out", size, c, 4 * c, 1, count=blocks),
    ]
    return tuple(made)


def _unique(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    found: dict[Sizes, tuple[str, int]] = {}
    for layer in layers:
        name, count = found.get(layer.sizes, (layer.name, 0))
        found[layer.sizes] = name, count + layer.count
    return tuple(Layer(name, sizes, count) for sizes, (name, count) in found.items())


RESNET50 = Network(
    convs=_unique(
        (
            _conv("conv1", 224, 3, 64, 7, 2, pad=3),
            *_stage(2, 56, 64, 3),
            *_stage(3, 28, 128, 4),
            *_stage(4, 14, 256, 6),
            *_stage(5, 7, 512, 3),
        )
    ),
    max_pools=(_pool("pool1", 112, 64, 3, 2, pad=1),),
    denses=(Layer("fc", (2048, 1000)),),
    normalised=True,
    global_pools=(Layer("pool5", (7, 7, 2048)),),
)

LENET5 = Network(
    convs=(_conv("c1", 28, 1, 6, 5, pad=2), _conv("c3", 14, 6, 16, 5)),
    max_pools=(_pool("s2", 28, 6, 2, 2), _pool("s4", 10, 16, 2, 2)),
    denses=(Layer("f5", (400, 120)), Layer("f6", (120, 84)), Layer("output", (84, 10))),
    softmaxes=(Layer("classes", (10,)),),
)


def _separable(size: int, c: int, k: int, stride: int = 1, count: int = 1) -> tuple[Layer, ...]:
    """A depthwise convolution of size×size×c, and the 1×1 one to k channels behind it."""
    name = f"conv{size}_{c}_{k}"
    depthwise = _conv(f"{name} depthwise", size, c, c, 3, stride, pad=1, groups=c, count=count)
    return depthwise, _conv(f"{name} 1x1", size // stride, c, k, 1, count=count)


MOBILENET = Network(
    convs=(
        _conv("conv1", 224, 3, 32, 3, 2, pad=1),
        *_separable(112, 32, 64),
        *_separable(112, 64, 128, 2),
        *_separable(56, 128, 128),
        *_separable(56, 128, 256, 2),
        *_separable(28, 256, 256),
        *_separable(28, 256, 512, 2),
        *_separable(14, 512, 512, count=5),
        *_separable(14, 512, 1024, 2),
        *_separable(7, 1024, 1024),
    ),
    max_pools=(),
    denses=(Layer("fc", (1024, 1000)),),
    normalised=True,
    global_pools=(Layer("pool", (7, 7, 1024)),),
)

NETWORKS = {
    "alexnet": ALEXNET,
    "vgg16": VGG16,
    "resnet50": RESNET50,
    "lenet5": LENET5,
    "mobilenet": MOBILENET,
}
