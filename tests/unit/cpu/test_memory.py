"""Memory goes back to the shelf when its last view is gone, never before."""

import gc
import threading

import numpy as np

from gpukit.backends.cpu.runtime import memory
from gpukit.backends.cpu.runtime.common import plain

FLOAT = np.dtype(np.float32)


def _address(x):
    return x.__array_interface__["data"][0]


def test_memory_is_used_again_once_nobody_looks_at_it():
    memory.release()
    x = memory.empty((1000, 100), FLOAT)
    address = _address(x)
    view = x[500:].reshape(-1)[:10]
    del x
    gc.collect()
    assert _address(memory.empty((1000, 100), FLOAT)) != address
    del view
    assert _address(memory.empty((1000, 100), FLOAT)) == address


def test_shapes_dtypes_and_flags_are_numpys():
    for shape in ((), (0,), (3, 0, 5), (7,), (64, 33, 5), (300, 300)):
        for dtype in (np.float32, np.float64, np.uint8):
            x = memory.empty(shape, np.dtype(dtype))
            assert x.shape == shape and x.dtype == dtype
            assert x.flags.carray
            x[...] = 1


def test_arrays_in_use_never_share_memory():
    arrays = [memory.empty((100, 1000), FLOAT) for _ in range(20)]
    for i, x in enumerate(arrays):
        x[...] = i
    assert all((x == i).all() for i, x in enumerate(arrays))


def test_threads_may_take_and_return_at_once():
    def use(number: int) -> None:
        for _ in range(200):
            x = memory.empty((20_000,), FLOAT)
            x[...] = number
            failures.extend([number] if (x != number).any() else [])

    failures: list[int] = []
    users = [threading.Thread(target=use, args=(i,)) for i in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not failures


def test_read_only_arrays_are_passed_without_a_copy():
    x = np.arange(12.0).reshape(3, 4)
    x.flags.writeable = False
    alias = plain(x)
    assert alias.flags.writeable and np.shares_memory(alias, x)
    assert (plain(x.T) == x.T).all() and not np.shares_memory(plain(x.T), x)
