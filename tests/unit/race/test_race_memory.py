"""Sizes that do not fit are refused before anything is made."""

from __future__ import annotations

import tracemalloc

import pytest
from stand_ins import CEILINGS, race

from gpukit.device import get_device
from gpukit.errors import SettingError
from gpukit.race import memory
from gpukit.race.problems import problem, problems

CPU = get_device("cpu")


def test_what_does_not_fit_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 22 * 10**9)
    memory.check([problem("relu", (1, 1000, 1000, 100))], CPU)
    with pytest.raises(SettingError) as told:
        memory.check([problem("relu", (4, 1000, 1000, 1000))], CPU)
    assert str(told.value) == (
        "relu on 4,1000,1000,1000 needs about 257 GB of memory to be proven and timed, and 22 GB "
        "are free; use smaller sizes in --layers"
    )


def test_the_largest_layer_of_a_network_counts(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    with pytest.raises(SettingError, match=r"on conv1_1 .* use a smaller --batch"):
        memory.check(problems("relu", "vgg16", 16), CPU)
    with pytest.raises(SettingError, match="use smaller sizes in --layers"):
        memory.check(problems("adam_update", "vgg16", None), CPU)


def test_rivals_need_memory_too(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    made = [problem("relu", (8, 64, 64, 64))]
    memory.check(made, CPU)
    with pytest.raises(SettingError):
        memory.check(made, CPU, rivals=2)


def test_a_cards_memory_is_asked_for_too(monkeypatch):
    from gpukit.device import CudaDevice

    monkeypatch.setattr(memory, "available", lambda: None)
    monkeypatch.setattr(memory, "_free_on", lambda device: 10**8)
    card = CudaDevice(0)
    memory.check([problem("relu", (1, 64, 64, 64))], card)
    with pytest.raises(SettingError, match="memory on cuda:0"):
        memory.check(
            [
                problem(
                    "relu",
                    (
                        8,
                        64,
                        64,
                        64,
                    ),
                )
            ],
            card,
            rivals=2,
        )


def test_what_linux_says(tmp_path):
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  9 kB\nMemAvailable:    2048 kB\n")
    assert memory.available(file) == 2 << 20
    assert memory.available(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("primitive", "sizes"),
    [
        ("relu", (4, 128, 128, 64)),
        ("lrn_grad", (8, 64, 64, 64)),
        ("softmax", (4000, 1000)),
        ("conv2d", (8, 32, 32, 32, 32, 3, 3, 1, 1, 1)),
    ],
)
def test_the_estimate_is_not_passed(primitive, sizes, monkeypatch):
    monkeypatch.setattr("gpukit.race.contest.SECONDS", 1e-9)
    monkeypatch.setattr("gpukit.race.proof._PIECE", 1 << 18)

    def peak() -> int:
        tracemalloc.start()
        try:
            race(primitive, *sizes, algos=[], ceilings=CEILINGS)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    race(primitive, *sizes, algos=[], ceilings=CEILINGS)  # compiles what such a call takes
    made = problem(primitive, sizes)
    most = memory._on_host(made, CPU, 0) - memory._ITSELF
    # What is imported or compiled once more, for a thread that had nothing to do before, counts
    # too, but not again.
    least = next((taken for _ in range(3) if (taken := peak()) < most), most)
    assert 2 * made.bytes < least < most
