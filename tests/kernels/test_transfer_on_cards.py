"""Copies between cards, on cards: with one, from it to itself; with two, from card to card."""

from __future__ import annotations

import numpy as np
import pytest
from alexnets import GROUPED, assert_agree, loss_and_gradients, narrow, samples

from gpukit.device import cuda_count, get_device, to_host, transfer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not cuda_count(), reason="this machine has no card"),
]

needs_two = pytest.mark.skipif(cuda_count() < 2, reason="this machine has no second card")


def transfers_that(direct: bool):
    """Transfers that copy directly or through the host, whatever the cards allow by themselves."""
    home, target = get_device("cuda:0"), get_device(f"cuda:{min(1, cuda_count() - 1)}")
    made = transfer._Transfers()
    if home is target:
        made.peers = {(0, 0): direct}
    elif not direct:
        made.peers = {(0, 1): False, (1, 0): False}
    return made, home, target


@pytest.mark.parametrize("direct", [True, False])
def test_values_arrive_and_the_memory_of_sources_is_safe(direct):
    transfers, home, target = transfers_that(direct)
    values = np.arange(2_600_001, dtype=np.float32) % 1000  # three stages, the last one short
    start, results = home.asarray(values), []
    for number in range(30):
        with home.current():
            x = start + np.float32(number)
        y, arrival = transfers.copy(x, home, target)
        arrival.wait()
        with target.current():
            results.append(y * np.float32(2))
        del x, y, arrival
        with home.current():
            start * np.float32("nan")  # into the memory that x had, if that were free
    for number, result in enumerate(results):
        np.testing.assert_array_equal(to_host(result), 2 * (values + np.float32(number)))


@needs_two
@pytest.mark.parametrize("direct", [True, False])
def test_two_cards_have_the_gradients_of_one_cpu(monkeypatch, direct):
    monkeypatch.setattr(transfer, "_made", [transfers_that(direct)[0]])
    x, y = samples("float32")
    whole = loss_and_gradients(narrow("float32", **GROUPED, device="cpu"), x, y)
    model = narrow("float32", devices=("cuda:0", "cuda:1"))
    first = loss_and_gradients(model, x, y)
    assert_agree(first, whole, 2e-5)
    for _ in range(5):
        again = loss_and_gradients(model, x, y)
        assert all(again[name].tobytes() == first[name].tobytes() for name in first)
