"""The same bits for any number of threads."""

import os
import subprocess
import sys

_CODE = """
import hashlib
import numpy as np
from gpukit import primitives as p
random = np.random.default_rng(0)
digest = hashlib.sha256()
def f(*shape):
    return random.standard_normal(shape, dtype=np.float32)
def note(*arrays):
    for a in arrays:
        digest.update(np.ascontiguousarray(a).tobytes())
for n, size, c, k, r, stride, pad, groups in (
    (33, 13, 32, 48, 3, 1, 1, 2), (5, 31, 3, 64, 7, 2, 3, 1), (64, 28, 1, 6, 5, 1, 2, 1),
    (9, 28, 64, 32, 1, 1, 0, 1), (7, 29, 48, 48, 3, 1, 1, 48),
):
    x, w, b = f(n, size, size, c), f(r, r, c // groups, k), f(k)
    settings = {"conv": p.Conv((stride,) * 2, ((pad, pad),) * 2, groups=groups)}
    y = p.conv2d(x, w, b, activation="relu", **settings)
    gy = f(*y.shape)
    note(y, p.conv2d_input_grad(gy, w, input_shape=x.shape, **settings))
    note(p.conv2d_weight_grad(x, gy, kernel_shape=w.shape, **settings), p.bias_grad(gy))
    window = dict(window=p.Window((3, 3), (2, 2)))
    top, index = p.max_pool2d(y, **window)
    note(top, index, p.max_pool2d_grad(top, index, input_shape=y.shape, **window))
    response = dict(response=p.Response(size=5, alpha=1e-4, beta=0.75, k=2.0))
    note(p.lrn(y, **response), p.lrn_grad(gy, y, **response))
    z, mean, variance = p.batch_norm(y, f(k), f(k), epsilon=1e-3)
    note(z, mean, variance, *p.batch_norm_grad(gy, y, f(k), mean, variance, epsilon=1e-3))
    note(p.dropout(y, rate=0.5, seed=1, layer=2, step=3, scale=2.0), p.tanh(y), p.softmax(y))
a, b, g = f(300, 700), f(700, 900), f(300, 900)
note(p.dense(a, b, f(900)), p.dense_input_grad(g, b), p.dense_weight_grad(a, g))
w, v, g = f(1_000_003), f(1_000_003), f(1_000_003)
p.sgd_update(w, v, g, lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=False)
note(w, v)
print(digest.hexdigest())
"""


def _digest(threads: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        env={**os.environ, "GPUKIT_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_results_do_not_depend_on_the_number_of_threads():
    assert _digest(1) == _digest(2) == _digest(3)
