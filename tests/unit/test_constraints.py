import json

import numpy as np
import pytest

from gpukit import constraints, get_device, to_host
from gpukit.errors import SettingError

W = np.array([[3.0, 0.1], [-4.0, 0.2]])


def test_max_norm_scales_only_what_is_too_long():
    w = constraints.max_norm(2.5)(W)
    np.testing.assert_allclose(np.linalg.norm(w[:, 0]), 2.5, rtol=1e-6)
    np.testing.assert_array_equal(w[:, 1], W[:, 1])
    by_filter = constraints.MaxNorm(1.0, axis=(0, 1, 2))(np.ones((3, 3, 4, 5)))
    np.testing.assert_allclose((by_filter**2).sum((0, 1, 2)), 1, rtol=1e-6)


def test_unit_norm_and_non_neg():
    np.testing.assert_allclose(np.linalg.norm(constraints.unit_norm()(W), axis=0), 1, rtol=1e-6)
    assert (constraints.UnitNorm(axis=0)(np.zeros((2, 2))) == 0).all()
    np.testing.assert_array_equal(constraints.non_neg()(W), np.maximum(W, 0))


@pytest.mark.parametrize(
    "constraint",
    [constraints.MaxNorm(1.5, axis=[0, 1]), constraints.UnitNorm(), constraints.NonNeg()],
)
def test_device_dtype_and_config(constraint):
    again = constraints.get(json.loads(json.dumps(constraint.get_config())))
    w = W.astype(np.float32)
    there = again(get_device("cpu:1").asarray(w))
    assert there.device is get_device("cpu:1") and there.dtype == np.float32
    np.testing.assert_array_equal(to_host(there), constraint(w))


def test_names_functions_and_mistakes():
    assert constraints.get(None) is None
    assert constraints.get(lambda w: w * 2)(np.ones(1)) == 2
    for name in ("max_norm", "MaxNorm", "non_neg", "nonneg", "unit_norm"):
        constraints.get(name)
    for call in (
        lambda: constraints.MaxNorm(-1),
        lambda: constraints.MaxNorm(axis="rows"),
        lambda: constraints.get("max"),
        lambda: constraints.get(3),
    ):
        with pytest.raises(SettingError):
            call()
