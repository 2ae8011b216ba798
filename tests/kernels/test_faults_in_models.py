"""A kernel that fails while a model trains: the message names the layer, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gpukit import models
from gpukit.emulator import compiler_problem
from gpukit.emulator.run import Emulator
from gpukit.errors import GpukitError
from gpukit.launch.cupy import _failure
from gpukit.launch.engine import Call

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())


@pytest.fixture
def fail_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From now on, fail as a card does under GPUKIT_SYNC=1 in kernels with `part` in their name."""

    def arm(part: str) -> None:
        real = Emulator.launch

        def launch(self: Emulator, call: Call) -> None:
            if part in call.bound.expression:
                raise GpukitError(_failure(call, RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")))
            real(self, call)

        monkeypatch.setattr(Emulator, "launch", launch)

    return arm


@pytest.mark.parametrize(
    ("kernel", "layer"),
    [
        ("conv2d_forward", "Conv2D 'c1'"),
        ("max_pool<", "MaxPooling2D 's2'"),
        ("max_pool_grad", "MaxPooling2D 's4'"),
        ("weight_grad", "Conv2D 'c3'"),
    ],
)
def test_a_fault_names_layer_kernel_and_shapes(
    fail_from: Callable[[str], None], kernel: str, layer: str
) -> None:
    model = models.lenet5(seed=0, device="emu")
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = np.zeros((2, 28, 28, 1), np.float32), np.zeros(2, np.int64)
    model.train_on_batch(x, y)
    fail_from(kernel)
    with pytest.raises(GpukitError, match=r"ILLEGAL_ADDRESS; arguments: \w+ \(") as caught:
        model.train_on_batch(x, y)
    assert str(caught.value).startswith(f"{layer}: kernel ")
    assert kernel in str(caught.value)
