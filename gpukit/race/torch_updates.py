"""An optimiser's step as PyTorch's own optimisers do it, over the same parameter buffer.

Its momentum has the other sign and is not yet multiplied by the rate: v = -lr·buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import optim

from gpukit.dispatch.declaration import Problem

# PyTorch's optimiser, and names of its state in the order of gpukit's arguments after the
# parameters.
_OPTIMISERS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "sgd_update": (optim.SGD, ("momentum_buffer",)),
    "adam_update": (optim.Adam, ("exp_avg", "exp_avg_sq")),
    "rmsprop_update": (optim.RMSprop, ("square_avg", "momentum_buffer")),
    "adagrad_update": (optim.Adagrad, ("sum",)),
}
# What it calls gpukit's settings.
_NAMES = {
    "lr": "lr", "weight_decay": "weight_decay", "momentum": "momentum", "epsilon": "eps",
    "rho": "alpha",
}  # fmt: skip
# One kernel, or one for each operation; "foreach" does the latter where there is but one buffer.
_FORMS: dict[str, dict[str, bool]] = {"fused": {"fused": True}, "plain": {"foreach": False}}


def step(optimiser: Any, *results: Any) -> list[Any]:
    """One step; the parameters and the state, which it changes."""
    optimiser.step()
    return list(results)


def prepared(problem: Problem, tensors: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """By the name of each form that PyTorch has here: an optimiser, its parameters, its state."""
    for name, form in _FORMS.items():
        try:
            with torch.no_grad():  # some say only at the first step that there is no such form
                step(*_optimiser(problem, tensors, form))
        except (RuntimeError, TypeError):
            continue
        yield name, _optimiser(problem, tensors, form)


def _optimiser(problem: Problem, tensors: list[Any], form: dict[str, bool]) -> list[Any]:
    """The optimiser in the middle of its work, its parameters and its state."""
    s, (made_by, names) = problem.settings, _OPTIMISERS[problem.primitive]
    w, *state = (t.clone() for t in tensors[:-1])
    parameters = torch.nn.Parameter(w)
    parameters.grad = tensors[-1]  # which no step changes
    settings = {_NAMES[name]: value for name, value in s.items() if name in _NAMES}
    if "beta1" in s:
        settings["betas"] = s["beta1"], s["beta2"]
    optimiser = made_by([parameters], **settings, **form)
    kept = dict(zip(names, state))
    if "momentum_buffer" in kept:
        kept["momentum_buffer"] /= -s["lr"]
    optimiser.state[parameters].update(kept)
    if problem.primitive != "sgd_update":
        count = torch.tensor(float(s.get("step", 1) - 1))
        optimiser.state[parameters]["step"] = count.to(w.device) if form.get("fused") else count
    return [optimiser, parameters, *kept.values()]


def as_ours(problem: Problem, results: list[Any]) -> list[Any]:
    """Results with gpukit's sign and scale."""
    names = ("", *_OPTIMISERS[problem.primitive][1])
    lr = problem.settings["lr"]
    return [r * -lr if n == "momentum_buffer" else r.detach() for n, r in zip(names, results)]
