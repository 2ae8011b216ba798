"""Devices and where arrays live: cpu, its logical twins cpu:1 …, cuda:0 …, and emu:0 ….

An array belongs to exactly one device. NumPy arrays are on `cpu` (that is `cpu:0`), CuPy arrays on
their card, and a `DeviceArray` on the twin or emulated card that it names. Twins let code for two
devices run, and fail the same way, on a machine that has only one. `emu` runs the kernels of a card
on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from gpukit.core.config import show
from gpukit.device.base import Device, DeviceArray, mixed, on_host
from gpukit.device.cpu import CPU, CpuDevice, TwinDevice
from gpukit.device.cuda import CudaDevice, probe
from gpukit.device.emulated import EmulatedDevice
from gpukit.errors import DeviceError, ShapeError

__all__ = [
    "ARRAY_TYPES",
    "BACKENDS",
    "CPU",
    "CpuDevice",
    "CudaDevice",
    "Device",
    "DeviceArray",
    "EmulatedDevice",
    "TwinDevice",
    "cuda_count",
    "cuda_problem",
    "default_device",
    "device_of",
    "get_device",
    "homes",
    "to_host",
]

TWINS = 16  # cpu:0 … cpu:15, emu:0 … emu:15

INSTALL_CUDA = (
    "install an NVIDIA driver and `pip install 'gpukit[cuda13]'` (or cuda12 for older drivers)"
)

ARRAY_TYPES = (np.ndarray, DeviceArray)

# By kind of device, the one for which the implementations that it runs are registered.
BACKENDS = {one.kind: one.backend for one in (CpuDevice, CudaDevice, EmulatedDevice)}


def get_device(spec: str | Device | None = None) -> Device:
    """The device called `spec` ("cpu", "cpu:1", "cuda", "cuda:0"); None gives the default one."""
    if spec is None:
        return default_device()
    if isinstance(spec, Device):
        return spec
    if not isinstance(spec, str):
        raise DeviceError(f"device {show(spec)}: use a name, as 'cpu'")
    kind, _, number = str(spec).partition(":")
    if (
        kind not in BACKENDS
        or (number and not number.isdecimal())
        or not number.isascii()
        or spec.endswith(":")
    ):
        raise DeviceError(
            f"unknown device {show(spec)}: use cpu, cpu:1 (a logical twin), cuda, cuda:0, or emu "
            "(a card's kernels run on the CPU)"
        )
    index = int(number or 0)
    if kind == "cuda":
        count = cuda_count()
        if count == 0:
            raise DeviceError(f"device {show(spec)}: {cuda_problem()}; {INSTALL_CUDA}")
        if index >= count:
            raise DeviceError(
                f"device {show(spec)}: this machine has {count}, cuda:0 to cuda:{count - 1}"
            )
        return CudaDevice.at(index)
    if index >= TWINS:
        what = {"cpu": "CPU twins", "emu": "emulated cards"}[kind]
        raise DeviceError(
            f"device {show(spec)}: there are {TWINS} {what}, {kind}:0 to {kind}:{TWINS - 1}"
        )
    if kind == "emu":
        return EmulatedDevice.at(index)
    return TwinDevice.at(index) if index else CPU


def default_device() -> Device:
    """GPUKIT_DEVICE, else the first card, else the CPU; emu only where someone names it."""
    chosen = os.environ.get("GPUKIT_DEVICE")
    if chosen:
        return get_device(chosen)
    return get_device("cuda:0") if cuda_count() else CPU


def device_of(*arrays: Any) -> Device:
    """The one device on which all `arrays` live; two different ones are an error."""
    found: Device | None = None
    for array in arrays:
        here = homes.get(type(array), _learn_home)(array)
        if found is None:
            found = here
        elif here is not found:
            raise mixed(found, here)
    return found or CPU


def to_host(array: Any) -> np.ndarray:
    """`array` as a NumPy array: itself on cpu, the data of a twin or emu, a copy from a card."""
    if isinstance(array, np.ndarray):
        return array
    refuse_sequences(array)
    try:
        return np.asarray(on_host(array))
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{show(array)} is no array: {error}") from None


def refuse_sequences(value: Any) -> None:
    """Raise ShapeError for an object of items that is no array: NumPy would ask for them all."""
    kind = type(value)
    if (
        hasattr(kind, "__getitem__")
        and not hasattr(value, "__array__")
        and not hasattr(value, "__cuda_array_interface__")
        and not isinstance(value, (list, tuple))
        and kind.__module__ not in ("builtins", "array", "collections")
    ):
        raise ShapeError(
            f"{show(value)} is no array; pass an array or a list of numbers, and what gives "
            "batches to fit, evaluate or predict alone, without y"
        )


def _on_cpu(array: Any) -> Device:
    return CPU


# By class of arrays that were met: what finds the device of one.
homes: dict[type, Callable[[Any], Device]] = {
    np.ndarray: _on_cpu,
    DeviceArray: attrgetter("device"),
}


def _learn_home(array: Any) -> Device:
    """Where an array of a class not met before lives, which is remembered for its class."""
    kind = type(array)
    if isinstance(array, np.ndarray):
        homes[kind] = _on_cpu
    elif isinstance(array, np.generic):  # a number; other devices may have theirs beside it
        return CPU
    elif hasattr(array, "__cuda_array_interface__"):
        homes[kind] = CudaDevice.holding
    else:
        raise DeviceError(
            f"{kind.__name__} is not an array of any device; pass NumPy or CuPy arrays"
        )
    return homes[kind](array)


def cuda_count() -> int:
    """Number of CUDA cards that CuPy can use on this machine."""
    return probe()[0]


def cuda_problem() -> str:
    """Why there is no CUDA card, in words; empty where there is one."""
    return probe()[1]
