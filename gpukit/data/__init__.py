"""Data sets (embedded, public, the user's folders), and the feeds that cut them into batches."""

from gpukit.data.augment import Augment, ColourNoise
from gpukit.data.dataset import Dataset
from gpukit.data.describe import contact_sheet, describe, describe_folder
from gpukit.data.directory import from_directory
from gpukit.data.export import export
from gpukit.data.feed import ArrayFeed, Batch, Feed, batch_count, batches
from gpukit.data.fetch import fetch
from gpukit.data.folder import ImageFolder, is_image_folder, scan
from gpukit.data.image_feed import ImageFeed, colours
from gpukit.data.images import read_picture
from gpukit.data.load import catalogue, load
from gpukit.data.mixing import cutmix, mixup
from gpukit.data.normalise import Normalise
from gpukit.data.order import train_validation_split

__all__ = [
    "ArrayFeed",
    "Augment",
    "Batch",
    "ColourNoise",
    "Dataset",
    "Feed",
    "ImageFeed",
    "ImageFolder",
    "Normalise",
    "batch_count",
    "batches",
    "catalogue",
    "colours",
    "contact_sheet",
    "cutmix",
    "describe",
    "describe_folder",
    "export",
    "fetch",
    "from_directory",
    "is_image_folder",
    "load",
    "mixup",
    "read_picture",
    "scan",
    "train_validation_split",
]
