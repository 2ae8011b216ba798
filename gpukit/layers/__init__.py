"""Layers: functions with parameters, for models and for training loops of one's own."""

from gpukit.layers.activation import ELU, Activation, LeakyReLU, ReLU, Softmax
from gpukit.layers.augmentation import (
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
)
from gpukit.layers.base import Context, Layer, from_config, register
from gpukit.layers.conv import Conv2D, DepthwiseConv2D
from gpukit.layers.dense import Dense
from gpukit.layers.device import ToDevice
from gpukit.layers.dropout import Dropout
from gpukit.layers.merge import Add, Concatenate
from gpukit.layers.normalisation import BatchNormalization, LocalResponseNormalization
from gpukit.layers.pooling import AveragePooling2D, GlobalAveragePooling2D, MaxPooling2D
from gpukit.layers.preprocessing import CenterCrop, Rescaling, Resizing
from gpukit.layers.shape import Flatten, Input, InputLayer, Reshape
from gpukit.layers.shard import Shard
from gpukit.layers.symbolic import Symbolic

__all__ = [
    "ELU",
    "Activation",
    "Add",
    "AveragePooling2D",
    "BatchNormalization",
    "CenterCrop",
    "Concatenate",
    "Context",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "Input",
    "InputLayer",
    "Layer",
    "LeakyReLU",
    "LocalResponseNormalization",
    "MaxPooling2D",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Resizing",
    "Shard",
    "Softmax",
    "Symbolic",
    "ToDevice",
    "from_config",
    "register",
]
