"""Makes `embedded/`, the part of Fashion-MNIST that ships with gpukit, from the official files.

    python -m gpukit.data.make_embedded SOURCE_DIR

SOURCE_DIR holds the four official files (`gpukit data fetch fashion-mnist`) and, for the notice,
LICENSE.txt. The result is 1,800 train images a class and the whole test set, each an IDX file in
xz: 10.6 MB, where gzip needs 12.3.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpukit.data.idx import read_idx, write_idx
from gpukit.data.load import EMBEDDED
from gpukit.data.sources import IDX_NAMES

IMAGES_A_CLASS = 1800

# All settings that shape the output are written down, so that the bytes do not depend on the
# defaults of an xz library. lc=4 predicts a pixel from the upper bits of the one before it.
_XZ_FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "dict_size": 1 << 25,
        "lc": 4,
        "lp": 0,
        "pb": 0,
        "mode": lzma.MODE_NORMAL,
        "nice_len": 64,
        "mf": lzma.MF_BT4,
        "depth": 0,
    }
]


def chosen(labels: NDArray[np.generic]) -> NDArray[np.intp]:
    """Indices, in order, of the train images that are kept: `IMAGES_A_CLASS` of each class.

    Image i is ranked by SHA-256 of its decimal number: a shuffle that no version of any random
    generator can change. The first of each class are kept, in that order, so any prefix is
    balanced as a random sample is.
    """
    ranks = [hashlib.sha256(str(index).encode()).digest() for index in range(len(labels))]
    order = np.array(sorted(range(len(labels)), key=ranks.__getitem__), dtype=np.intp)
    kept = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        kept[order[labels[order] == label][:IMAGES_A_CLASS]] = True
    return order[kept[order]]


def pack(array: NDArray[np.uint8]) -> bytes:
    """`array` as an IDX file in xz."""
    stream = io.BytesIO()
    write_idx(stream, array)
    return lzma.compress(
        stream.getvalue(), lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=_XZ_FILTERS
    )


def make(source: Path, target: Path = EMBEDDED) -> None:
    """Write the four files and the notice into `target`."""
    arrays = {name: read_idx(source / f"{name}.gz").astype(np.uint8) for name in IDX_NAMES}
    indices = chosen(arrays["train-labels-idx1-ubyte"])
    target.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        kept = array[indices] if name.startswith("train") else array
        (target / f"{name}.xz").write_bytes(pack(kept))
    notice = source / "LICENSE.txt"
    if notice.exists():
        shutil.copyfile(notice, target / "LICENSE.txt")


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m gpukit.data.make_embedded SOURCE_DIR", file=sys.stderr)
        return 2
    make(Path(sys.argv[1]))
    for path in sorted(EMBEDDED.iterdir()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{digest}  {path.stat().st_size:>9}  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
