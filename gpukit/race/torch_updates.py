"""An optimiser's step as PyTorch's own optimisers do it, over the same flat buffer.

Its momentum has the other sign and is not yet multiplied by the rate: v = -lr·buffer.
"""

from __future__ import annotations

from typing import Any

from gpukit.dispatch.declaration import Problem

# Names of the state, in the order of gpukit's arguments after the parameters.
_STATE = {
    "sgd_update": ("momentum_buffer",),
    "adam_update": ("exp_avg", "exp_avg_sq"),
    "rmsprop_update": ("square_avg", "momentum_buffer"),
    "adagrad_update": ("sum",),
}
# One kernel, or one for each operation; "foreach" does the latter where there is but one buffer.
_VARIANTS: dict[str, dict[str, bool]] = {"fused": {"fused": True}, "plain": {"foreach": False}}


def variants(problem: Problem, tensors: list[Any]) -> tuple[Any, dict[str, list[Any]]]:
    """A step that returns parameters and state, and tensors and an optimiser for each variant."""
    import torch

    made = {}
    for name, settings in _VARIANTS.items():
        try:
            with torch.no_grad():  # some say only at the first step that there is no such form
                _step(*_optimiser(problem, tensors, settings))
        except (RuntimeError, TypeError):
            continue
        made[name] = _optimiser(problem, tensors, settings)
    return _step, made


def _step(optimiser: Any, *results: Any) -> list[Any]:
    optimiser.step()
    return list(results)


def _optimiser(problem: Problem, tensors: list[Any], how: dict[str, bool]) -> list[Any]:
    """The optimiser in the middle of its work, its parameters and its state."""
    import torch

    s, name = problem.settings, problem.primitive
    w, *state = (t.clone() for t in tensors[:-1])
    parameters = torch.nn.Parameter(w)
    parameters.grad = tensors[-1]  # which no step changes
    common = {"lr": s["lr"], "weight_decay": s["weight_decay"], **how}
    optimiser: Any
    if name == "sgd_update":
        optimiser = torch.optim.SGD([parameters], momentum=s["momentum"], **common)
    elif name == "adam_update":
        betas = s["beta1"], s["beta2"]
        optimiser = torch.optim.Adam([parameters], betas=betas, eps=s["epsilon"], **common)
    elif name == "rmsprop_update":
        optimiser = torch.optim.RMSprop(
            [parameters], alpha=s["rho"], eps=s["epsilon"], momentum=s["momentum"], **common
        )
    else:
        optimiser = torch.optim.Adagrad([parameters], eps=s["epsilon"], **common)
    kept = dict(zip(_STATE[name], state))
    if "momentum_buffer" in kept:
        kept["momentum_buffer"] /= -s["lr"]
    optimiser.state[parameters].update(kept)
    if name != "sgd_update":
        device = w.device if how.get("fused") else "cpu"
        step = torch.tensor(float(s.get("step", 1) - 1), device=device)
        optimiser.state[parameters]["step"] = step
    return [optimiser, parameters, *kept.values()]


def as_ours(problem: Problem, results: list[Any]) -> list[Any]:
    """Results with gpukit's sign and scale."""
    names = ("", *_STATE[problem.primitive])
    lr = problem.settings["lr"]
    return [r * -lr if n == "momentum_buffer" else r.detach() for n, r in zip(names, results)]
