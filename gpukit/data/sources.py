"""What is known of the public data sets: their addresses, files, checksums and class names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# (file, bytes done, bytes in all or None where the server does not say)
Progress = Callable[[str, int, int | None], None]

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR_ARCHIVE = "cifar-10-binary.tar.gz"

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CIFAR = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class RemoteFile:
    """A file of a set.

    `checksum` is of the uncompressed bytes when `unpacked` is their number, else of the file: the
    IDX files travel in several gzip forms with the same contents, and all of them are right.
    `algorithm` is a name of hashlib; `largest` bounds the download in bytes.
    """

    name: str
    algorithm: str
    checksum: str
    largest: int
    unpacked: int | None = None


@dataclass(frozen=True)
class Source:
    """A public data set: the folders it is served from (in order of trial) and its files."""

    name: str
    description: str
    addresses: tuple[str, ...]
    files: tuple[RemoteFile, ...]
    class_names: tuple[str, ...]


def _idx_files(checksums: tuple[str, str, str, str]) -> tuple[RemoteFile, ...]:
    """The four files, with SHA-256 of their uncompressed bytes."""
    sizes = (47_040_016, 60_008, 7_840_016, 10_008)
    return tuple(
        RemoteFile(f"{name}.gz", "sha256", checksum, largest=2 * size + 4096, unpacked=size)
        for name, checksum, size in zip(IDX_NAMES, checksums, sizes, strict=True)
    )


SOURCES = {
    source.name: source
    for source in (
        Source(
            "mnist",
            "60,000 + 10,000 handwritten digits, 28×28 grey",
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
            _idx_files(
                (
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                )
            ),
            DIGITS,
        ),
        Source(
            "fashion-mnist",
            "60,000 + 10,000 pieces of clothing, 28×28 grey (Zalando, MIT)",
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            _idx_files(
                (
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                )
            ),
            FASHION,
        ),
        Source(
            "cifar10",
            "50,000 + 10,000 photographs of things and animals, 32×32 colour",
            ("https://www.cs.toronto.edu/~kriz/",),
            # Only an MD5 is published for the binary archive.
            (
                RemoteFile(
                    CIFAR_ARCHIVE, "md5", "c32a1d4ab5d03f1284b67883e8d87530", 2 * 170_052_171
                ),
            ),
            CIFAR,
        ),
    )
}
EMBEDDED_NAME = "fashion-mnist-small"
