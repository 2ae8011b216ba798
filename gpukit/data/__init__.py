"""Data sets: the embedded one, the public ones, folders of the user's."""

from gpukit.data.batches import batch_count, batches
from gpukit.data.catalogue import catalogue
from gpukit.data.dataset import Dataset
from gpukit.data.describe import contact_sheet, describe
from gpukit.data.feed import ArrayFeed, Batch, Feed
from gpukit.data.fetch import fetch
from gpukit.data.images import read_picture
from gpukit.data.load import load
from gpukit.data.normalise import Normalise
from gpukit.data.split import train_validation_split

__all__ = [
    "ArrayFeed",
    "Batch",
    "Dataset",
    "Feed",
    "Normalise",
    "batch_count",
    "batches",
    "catalogue",
    "contact_sheet",
    "describe",
    "fetch",
    "load",
    "read_picture",
    "train_validation_split",
]
