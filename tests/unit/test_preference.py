"""Preferences hold in their own context: threads, nested blocks, and what is said once."""

import threading

import numpy as np
import pytest

from gpukit.dispatch.preference import FallbackWarning, no_fallbacks, prefer, preferred
from gpukit.dispatch.primitive import Primitive

X = np.ones(5)


def relu_that_takes_little() -> Primitive:
    def relu(x):  # type: ignore[no-untyped-def]
        return x * 1

    made = Primitive(relu)
    made.on("cpu", name="small", supports=lambda x: x.size < 3)(lambda x: x * 2)
    return made


def test_blocks_of_two_threads_have_their_own_listeners_and_say_each_fallback() -> None:
    relu = relu_that_takes_little()
    said: dict[str, list[str]] = {"a": [], "b": []}
    entered = threading.Barrier(2, timeout=20)

    def run(name: str) -> None:
        with prefer({"relu": "small"}, said[name].append):
            entered.wait()
            relu(X)
            relu(X)
            entered.wait()

    threads = [threading.Thread(target=run, args=(name,)) for name in said]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(lines) for lines in said.values()] == [1, 1]


def test_a_listener_ends_with_its_block_whatever_order_threads_leave_in() -> None:
    relu = relu_that_takes_little()
    said: list[str] = []
    entered, left = threading.Event(), threading.Event()

    def run() -> None:
        with prefer({}, said.append):
            entered.set()
            left.wait(20)

    thread = threading.Thread(target=run)
    thread.start()
    entered.wait(20)
    with prefer({}):
        left.set()
        thread.join()
    with prefer({}), pytest.warns(FallbackWarning, match="small does not take"):
        relu(X, algo="small")
    assert said == []


def test_an_inner_block_keeps_the_listener_and_says_anew() -> None:
    relu = relu_that_takes_little()
    said: list[str] = []
    with prefer({"relu": "small"}, said.append):
        relu(X)
        with prefer({"relu": "small"}):
            relu(X)
            relu(X)
        relu(X)
    assert len(said) == 2
    assert preferred("relu") is None


def test_an_inner_block_stays_without_fallbacks() -> None:
    relu = relu_that_takes_little()
    with no_fallbacks(), prefer({"relu": "small"}), pytest.raises(ValueError, match="does not"):
        relu(X)
