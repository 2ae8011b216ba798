"""Calls of everything public with an argument that nobody meant.

Each is a right result or one clear line of gpukit's own, never an error from its depths.
"""

from __future__ import annotations

import json
import random
import resource
import warnings

import numpy as np
import pytest
from harness import count
from wrong_calls import VALUES, calls, wrong_calls

import gpukit
from gpukit import callbacks, layers, losses, models, ops
from gpukit.errors import GpukitError

CHUNKS = 4
LINE = 500  # characters of a message
ENDLESS = {("Sequential.fit", "epochs", "10**30")}  # right, and not over in this universe


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some calls write files
    monkeypatch.delenv("GPUKIT_DEVICE", raising=False)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_wrong_calls(request, chunk):
    functions = {name: (function, given) for name, function, given in calls()}
    every = [case for case in wrong_calls() if case not in ENDLESS]
    draw = random.Random(f"wrong calls {chunk}")
    for name, argument, value in draw.sample(every, count(20_000, CHUNKS)):
        function, given = functions[name]
        try:
            function(**{**given, argument: VALUES[value]})
        except GpukitError as error:
            text = str(error)
            assert text and "\n" not in text and len(text) < LINE, (name, argument, value, text)
        except Exception as error:
            pytest.fail(f"{name}({argument}={value}): {type(error).__name__}: {error}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        request.node.user_properties.append(("fault", json.dumps(["wrong calls", peak])))


def test_there_are_enough_of_them():
    assert len(wrong_calls()) > 20_000
    assert len({name for name, _, _ in wrong_calls()}) > 150


def fit(**given):
    model = models.Sequential([layers.Flatten(), layers.Dense(2, activation="softmax")], seed=0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
    return model.fit(**{"x": x, "y": y, "verbose": 0, **given})


M = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ops.pad(M, -1), r"pad: widths -1 need one \(before, after\) pair"),
        (lambda: ops.mean(M, axis="x"), r"mean: axis='x': use a whole number, a tuple"),
        (lambda: ops.sum(M, axis=1.0), r"sum: axis=1.0: use a whole number"),
        (lambda: ops.sum(M, keepdims="no"), r"sum: keepdims='no': use True or False"),
        (lambda: ops.elu(M, alpha=float("nan")), r"elu: alpha=nan: use a finite number"),
        (lambda: ops.relu(np.ma.masked_array(M)), r"relu: argument 'x' is a MaskedArray"),
        (lambda: ops.dropout(M, rate=0.5, seed=-1), r"dropout: seed=-1"),
        (lambda: ops.index(M, key="x"), r"index: \(2, 3\) has no \['x'\]"),
        (lambda: fit(callbacks=5), r"fit: callbacks=5: use a list"),
        (lambda: fit(batch_size=2.5), r"batch_size=2.5: use a whole number"),
        (lambda: fit(batch_size="32"), r"batch_size='32': use a whole number"),
        (lambda: fit(batch_size=True), r"batch_size=True: use a whole number"),
        (lambda: fit(batch_size=np.float64(2)), r"batch_size=2.0: use a whole number"),
        (lambda: fit(epochs=1.0), r"epochs=1.0: use a whole number"),
        (lambda: fit(accumulate=0), r"accumulate=0: use a whole number, 1 or more"),
        (lambda: fit(shuffle="no"), r"shuffle='no': use True or False"),
        (lambda: fit(x=np.array(["a"] * 4)), r"x is <U1 of shape \(4,\); pass an array of numbers"),
        (lambda: fit(x=[[1.0], [1.0, 2.0]] * 2), r"x is no array"),
        (lambda: fit(x=np.ma.masked_array(np.ones((4, 3), "f4"))), r"x is masked float32"),
        (lambda: models.load_model(5), r"path=5: use a path, as a text"),
        (lambda: gpukit.Tensor([1j]), r"a tensor cannot be made of a ndarray of complex128"),
        (lambda: gpukit.Tensor(np.zeros(2, "datetime64[s]")), r"ndarray of datetime64"),
        (lambda: gpukit.Tensor(np.array([None])), r"ndarray of object"),
        (lambda: gpukit.get_device(5), r"device 5: use a name"),
        (lambda: losses.mean_squared_error(M, None), r"mean_squared_error: got a NoneType"),
        (lambda: callbacks.EarlyStopping(patience=1.5), r"patience=1.5: use a whole number"),
        (lambda: callbacks.LambdaCallback(on_epoch_end=3), r"on_epoch_end=3: use a function"),
        (lambda: layers.Dense(3, use_bias="False"), r"use_bias='False': use True or False"),
    ],
)  # fmt: skip
def test_what_is_said(call, says):
    with pytest.raises(GpukitError, match=says):
        call()
