import json

import numpy as np
import pytest

from gpukit import Tensor, ops, regularizers
from gpukit.errors import SettingError

X = np.array([[1.0, -2.0], [0.5, 0.0]])


@pytest.mark.parametrize(
    ("penalty", "value", "gradient"),
    [
        (regularizers.l2(0.1), 0.1 * 5.25, 0.2 * X),
        (regularizers.L2(), 0.01 * 5.25, 0.02 * X),
        (regularizers.l1(0.1), 0.1 * 3.5, 0.1 * np.sign(X)),
        (regularizers.l1_l2(0.1, 0.2), 0.35 + 1.05, 0.1 * np.sign(X) + 0.4 * X),
        (regularizers.L1L2(l1=0.1), 0.35, 0.1 * np.sign(X)),
        (regularizers.L1L2(), 0, 0 * X),
        (regularizers.get("l2"), 0.01 * 5.25, 0.02 * X),
        (regularizers.get("l1_l2"), 0.01 * 8.75, 0.01 * np.sign(X) + 0.02 * X),
    ],
)
def test_value_and_gradient(penalty, value, gradient):
    x = Tensor(X, requires_grad=True)
    y = penalty(x)
    assert y.shape == () and y.item() == pytest.approx(value)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), gradient)
    again = regularizers.get(json.loads(json.dumps(penalty.get_config())))
    assert again(Tensor(X)).item() == y.item()


def test_functions_none_and_mistakes():
    assert regularizers.get(None) is None
    assert regularizers.get(lambda w: ops.max(w))(Tensor(X)).item() == 1.0
    with pytest.raises(SettingError, match="l2=-1"):
        regularizers.l2(-1)
    with pytest.raises(SettingError, match="l1=nan"):
        regularizers.l1(float("nan"))
    with pytest.raises(SettingError, match="unknown regularizer 'l3'; use one of l1, l1_l2"):
        regularizers.get("l3")
