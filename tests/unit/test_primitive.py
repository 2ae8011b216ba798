"""Dispatch: which implementation a call takes."""

import numpy as np
import pytest

from gpukit.device import get_device
from gpukit.dispatch.primitive import Primitive
from gpukit.dispatch.registry import Registry
from gpukit.errors import DeviceError, SettingError


def make() -> Primitive:
    def twice(x, *, bias=0):  # type: ignore[no-untyped-def]
        return ("reference", x * 2 + bias)

    made = Primitive(twice)

    @made.on("cpu", name="small", supports=lambda x, *, bias=0: x.size < 3)
    def _(x, *, bias=0):  # type: ignore[no-untyped-def]
        return ("small", x)

    @made.on("cpu", name="any")
    def _(x, *, bias=0):  # type: ignore[no-untyped-def]
        return ("any", x)

    return made


def test_the_first_that_supports_the_arguments_is_the_default() -> None:
    assert make()(np.ones(2))[0] == "small"
    assert make()(np.ones(5))[0] == "any"


def test_a_name_chooses() -> None:
    assert make()(np.ones(2), algo="any")[0] == "any"
    assert make()(np.ones(2), algo="reference")[0] == "reference"


def test_outside_its_limits_a_named_one_falls_to_the_default() -> None:
    assert make()(np.ones(5), algo="small")[0] == "any"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SettingError, match="small, any, reference"):
        make()(np.ones(2), algo="best")


def test_without_an_implementation_the_definition_runs() -> None:
    bare = Primitive(lambda x: np.maximum(x, 0))
    np.testing.assert_array_equal(bare(np.array([-1.0, 2.0])), [0, 2])


def test_implementations_get_plain_arrays_on_twins() -> None:
    made = Primitive(lambda x: x)

    @made.on("cpu", name="typed")
    def _(x):  # type: ignore[no-untyped-def]
        assert type(x) is np.ndarray
        return x + 1

    result = made(get_device("cpu:1").asarray(np.zeros(2)))
    assert result.device.name == "cpu:1"


def test_what_needs_a_real_card_is_not_for_emu() -> None:
    made = Primitive(lambda x: x)
    made.on("cuda", name="real", emulated=False)(lambda x: ("real", x))
    made.on("cuda", name="any")(lambda x: ("any", x))
    assert list(made.implementations("cuda")) == ["real", "any", "reference"]
    assert list(made.implementations("emu")) == ["any", "reference"]
    x = get_device("emu").asarray(np.zeros(2))
    assert made(x)[0] == "any"
    with pytest.raises(SettingError, match=r"'real' on emu \(it needs a real card\); use any, ref"):
        made(x, algo="real")
    with pytest.raises(SettingError, match=r"'real' on cpu \(it is one for cuda\); use ref"):
        made(np.zeros(2), algo="real")


def test_a_signature_that_differs_is_refused() -> None:
    made = make()
    for wrong in (lambda y, *, bias=0: y, lambda x: x, lambda x, *, bias=1: x):
        with pytest.raises(TypeError, match="has parameters"):
            made.on("cpu", name="wrong")(wrong)


def test_a_name_is_taken_once() -> None:
    made = make()
    for name in ("small", "reference"):
        with pytest.raises(TypeError, match="already"):
            made.on("cpu", name=name)(lambda x, *, bias=0: x)


def test_a_registry_loads_a_kind_once_and_searches_for_unknown_names() -> None:
    asked: list[str] = []

    def load() -> None:
        def own(x):  # type: ignore[no-untyped-def]
            return ("loaded", x)

        asked.append("load")
        own.__module__ = "gpukit.backends.cpu"
        made.on("cpu", name="loaded")(own)

    def search(name: str) -> None:
        asked.append(name)
        if name == "found":
            made.on("cpu", name="found")(lambda x: ("found", x))

    fresh: Registry[Primitive] = Registry({"cpu": load}, [search])
    made = Primitive(lambda x: ("reference", x), fresh)
    for _ in range(2):
        assert made(np.ones(2))[0] == "loaded"
        assert made(np.ones(2), algo="found")[0] == "found"
    with pytest.raises(SettingError, match="has no algo 'lost' on cpu; use loaded, found, ref"):
        made(np.ones(2), algo="lost")
    assert asked == ["load", "found", "lost"]


def test_a_registry_makes_an_engine_once_and_puts_another_in_its_place() -> None:
    fresh: Registry[Primitive] = Registry()
    fresh.makers["emu"] = object
    made = fresh.engine("emu")
    other = object()
    with fresh.instead("emu", other):
        assert fresh.engine("emu") is other
    assert fresh.engine("emu") is made
    with pytest.raises(DeviceError, match="cpu runs no CUDA kernels"):
        fresh.engine("cpu")


def test_a_registry_knows_what_a_plug_in_brings() -> None:
    fresh: Registry[Primitive] = Registry()
    made = Primitive(lambda x: x, fresh)
    with fresh.recording("acme 1.0") as brought:
        made.on("cpu", name="acme")(lambda x: x + 1)
    made.on("cpu", name="own")(lambda x: x)
    ((primitive, impl),) = brought
    assert primitive is made and (impl.name, impl.origin) == ("acme", "acme 1.0")
    primitive.remove(impl)
    assert list(made.implementations("cpu")) == ["own", "reference"]
