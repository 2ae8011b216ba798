"""What is measured: layer shapes of the networks that everybody knows."""

from __future__ import annotations

from dataclasses import dataclass

BATCH = 32


@dataclass(frozen=True)
class Conv:
    """A convolution of square images and kernels: channels C to K, kernel R×R."""

    name: str
    size: int
    channels: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    batch: int = BATCH

    @property
    def output_size(self) -> int:
        """Height and width of the output."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def gflop(self) -> float:
        """10⁹ floating-point operations of one pass, a multiply-add counted as two."""
        pixels = self.batch * self.output_size**2
        depth = self.kernel**2 * self.channels // self.groups
        return 2e-9 * pixels * depth * self.outputs


CONVS = [
    Conv("alexnet-conv1", 227, 3, 96, 11, 4),
    Conv("alexnet-conv2", 27, 96, 256, 5, padding=2, groups=2),
    Conv("alexnet-conv3", 13, 256, 384, 3, padding=1),
    Conv("alexnet-conv4", 13, 384, 384, 3, padding=1, groups=2),
    Conv("alexnet-conv5", 13, 384, 256, 3, padding=1, groups=2),
    Conv("vgg-conv1_1", 224, 3, 64, 3, padding=1, batch=8),
    Conv("vgg-conv2_2", 112, 128, 128, 3, padding=1, batch=8),
    Conv("vgg-conv3_2", 56, 256, 256, 3, padding=1, batch=8),
    Conv("vgg-conv5_1", 14, 512, 512, 3, padding=1),
    Conv("resnet-stem", 224, 3, 64, 7, 2, 3),
    Conv("resnet-3x3-64", 56, 64, 64, 3, padding=1),
    Conv("resnet-3x3-128-down", 56, 128, 128, 3, 2, 1),
    Conv("resnet-3x3-512", 7, 512, 512, 3, padding=1),
    Conv("resnet-1x1-256-64", 56, 256, 64, 1),
    Conv("resnet-1x1-512-1024-down", 28, 512, 1024, 1, 2),
    Conv("depthwise-3x3-256", 28, 256, 256, 3, padding=1, groups=256),
    Conv("lenet-conv1", 28, 1, 6, 5, padding=2, batch=64),
    Conv("lenet-conv2", 14, 6, 16, 5, batch=64),
]


@dataclass(frozen=True)
class Image:
    """A batch of square feature maps, with a window where it is pooled."""

    name: str
    size: int
    channels: int
    window: int = 1
    stride: int = 1
    batch: int = BATCH


POOLS = [
    Image("alexnet-pool1", 55, 96, 3, 2),
    Image("vgg-pool2", 112, 128, 2, 2, batch=8),
    Image("lenet-s2", 28, 6, 2, 2, batch=64),
]
RESPONSES = [Image("alexnet-norm1", 55, 96), Image("alexnet-norm2", 27, 256)]
LRN_POOLS = [
    Image("alexnet-norm1-pool1", 55, 96, 3, 2),
    Image("alexnet-norm2-pool2", 27, 256, 3, 2),
]
STORED = [Image("alexnet-input", 227, 3, batch=128)]
BATCH_NORMS = [Image("resnet-56x56x64", 56, 64), Image("resnet-14x14x256", 14, 256)]
SOFTMAXES = [Image("softmax-128x1000", 1, 1000, batch=128)]
DENSES = [
    Image("alexnet-fc6", 4096, 9216, batch=128),
    Image("alexnet-fc8", 1000, 4096, batch=128),
]
LENETS = [Image("lenet-step-64", 28, 1, batch=64), Image("lenet-step-128", 28, 1, batch=128)]
