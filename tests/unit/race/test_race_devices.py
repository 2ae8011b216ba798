"""Clocks and ceilings: the host's for real, a card's against a CuPy that remembers its orders."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from stand_ins import CEILINGS

from gpukit.device import CudaDevice, get_device
from gpukit.errors import DeviceError
from gpukit.race import ceilings as of_device
from gpukit.race import on_card, on_host

L2 = 1 << 20


class FakeCupy:
    """`log` lists orders; an event's time is the number of orders before it, in milliseconds."""

    def __init__(self, attributes: dict[str, int] | None = None) -> None:
        self.log: list[str] = []
        fake = self
        attributes = {"L2CacheSize": L2} if attributes is None else attributes

        class Event:
            def record(self):
                fake.log.append("record")
                self.at = len(fake.log)

            def synchronize(self):
                fake.log.append("synchronize")

        class OnDevice:
            def __init__(self, index):
                self.attributes = attributes

            def __enter__(self):
                fake.log.append("enter")

            def __exit__(self, *_):
                fake.log.append("leave")

        self.cuda = SimpleNamespace(
            Event=Event,
            Device=OnDevice,
            get_elapsed_time=lambda start, end: float(end.at - start.at),
            runtime=SimpleNamespace(getDeviceProperties=lambda index: {"name": b"Fake H1"}),
        )
        self.random = SimpleNamespace(
            standard_normal=lambda shape, dtype: FakeArray(self, shape, "random")
        )

    def empty(self, shape, dtype):
        return FakeArray(self, shape, "buffer")

    def empty_like(self, array):
        return FakeArray(self, array.shape, "target")

    def matmul(self, a, b):
        # Tensor cores: half precision takes one order, float32 takes eight.
        self.log += ["matmul half"] if a.name == "half" else ["matmul"] * 8

    def copyto(self, target, source):
        self.log += ["copy"] * 2


class FakeArray:
    def __init__(self, cupy, shape, name):
        self.cupy, self.shape, self.name = cupy, shape, name

    def astype(self, dtype):
        assert dtype == "float16"
        return FakeArray(self.cupy, self.shape, "half")

    def fill(self, value):
        self.cupy.log.append(f"fill {self.name}")

    def max(self):
        self.cupy.log.append("max")


CARD = CudaDevice(0)


def test_a_turn_flushes_the_cache_then_times_the_task_alone():
    cupy = FakeCupy()
    clock = on_card.CardClock(CARD, cupy)
    assert clock._buffer.shape * 4 == 4 * L2  # float32
    seconds = clock.seconds(lambda: cupy.log.append("task"))
    assert cupy.log == [
        *["fill buffer"] * on_card._FLUSHES, "record", "task", "record", "synchronize",
    ]  # fmt: skip
    assert seconds == pytest.approx(2e-3)  # the task, and the second event


def test_a_cards_ceilings():
    cupy = FakeCupy()
    found = on_card.measure(CARD, cupy)
    flop = 2 * on_card._SIDE**3
    assert found.gflops == pytest.approx(flop / 9e-3 / 1e9)
    assert found.most_gflops == pytest.approx(flop / 2e-3 / 2 / 1e9)  # TF32 is half as fast as half
    assert found.gbps == pytest.approx(2 * on_card._COPY / 3e-3 / 1e9)
    assert found.most_gbps == found.gbps
    assert (found.cache, found.flushed) == (L2, True)
    assert (cupy.log[0], cupy.log[-1]) == ("enter", "leave")


def test_a_card_that_does_not_say_its_l2_size():
    assert on_card.l2_bytes(FakeCupy({}), CARD) == 64 << 20
    assert on_card.name(CARD, FakeCupy()) == "Fake H1"


def test_the_hosts_clock_times_the_second_of_two_runs():
    calls = []
    assert on_host.HostClock().seconds(lambda: calls.append(1)) > 0
    assert len(calls) == 2


def test_the_hosts_clock_is_not_that_of_a_plugin(monkeypatch):
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    assert on_host.HostClock().seconds(lambda: None) > 0


def test_the_hosts_ceilings(monkeypatch):
    monkeypatch.setattr(on_host, "_SIDE", 64)
    monkeypatch.setattr(on_host, "_LEAST_COPY", 1 << 16)
    monkeypatch.setattr(on_host, "_MOST_COPY", 1 << 16)
    found = on_host.measure(get_device("cpu"))
    assert 0 < found.gflops <= found.most_gflops < 1e6
    assert 0 < found.gbps <= found.most_gbps < 1e6
    assert 0 < found.cached_gbps < 1e6
    assert not found.flushed
    assert "64×64" in found.how


def test_caches_are_counted_once_however_many_share_them(tmp_path):
    for cpu in range(4):
        for index, level, shared, size in (
            (0, 1, f"{cpu}", "32K"),
            (2, 2, f"{cpu}", "1024K"),
            (3, 3, "0-1" if cpu < 2 else "2-3", "16M"),
        ):
            folder = tmp_path / f"cpu{cpu}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            for name, text in (("level", level), ("shared_cpu_list", shared), ("size", size)):
                (folder / name).write_text(f"{text}\n")
    assert on_host.cache_bytes(tmp_path) == 4 * (1 << 20) + 2 * (16 << 20)
    assert on_host.cache_bytes(tmp_path / "nowhere") == 32 << 20


def test_ceilings_are_measured_once_a_process_and_again_only_to_be_raised(monkeypatch):
    monkeypatch.setattr(of_device, "_found", {})
    asked = []

    def measure(device):
        asked.append(device)
        return CEILINGS

    cpu = get_device("cpu")
    assert of_device.ceilings(cpu, measure) is of_device.ceilings(cpu, measure) is CEILINGS
    assert asked == [cpu]
    second = on_host.Ceilings(300, 1, 300, 1, 0)
    again = of_device.measure_again(cpu, lambda device: second, CEILINGS)
    assert again == CEILINGS.highest(second) == of_device.ceilings(cpu, measure)
    assert (again.gflops, again.gbps, again.cache) == (300, 10, CEILINGS.cache)


def test_emu_has_no_ceilings(monkeypatch):
    monkeypatch.setattr(of_device, "_found", {})
    with pytest.raises(DeviceError, match="no speed"):
        of_device.ceilings(get_device("emu"))


def test_arrays_of_random_numbers_are_no_zeros():
    from gpukit.race.problems import problem

    assert all(np.count_nonzero(a) > a.size / 2 for a in problem("add", (2, 3, 4, 5)).arrays(1))
