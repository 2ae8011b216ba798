"""Data sets: the embedded one, the public ones, folders of the user's."""

from gpukit.data.dataset import Dataset
from gpukit.data.load import load

__all__ = ["Dataset", "load"]
