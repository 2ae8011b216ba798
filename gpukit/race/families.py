"""Which primitives are raced: each belongs to a family, whose sizes have one form."""

from __future__ import annotations

from gpukit.race.tables import Sizes

# Family: the letters of its sizes and what those left out are.
FORMS: dict[str, tuple[tuple[str, ...], Sizes]] = {
    "conv": (("N", "H", "W", "C", "K", "R", "S", "stride", "pad", "groups"), (1, 0, 1)),
    "pool": (("N", "H", "W", "C", "R", "S", "stride", "pad"), (0,)),
    "map": (("N", "H", "W", "C"), ()),
    "rows": (("N", "C"), ()),
    "reduction": (("N", "C", "axis"), (1,)),
    "dense": (("N", "inputs", "outputs"), ()),
    "matmul": (("M", "L", "N"), ()),
    "update": (("parameters",), ()),
}
# Smallest and largest size of a letter, where they are not 1 and MOST_SIZE.
MOST_SIZE = 1 << 20
LIMITS = {"pad": (0, MOST_SIZE), "axis": (0, 1), "parameters": (1, 1 << 30)}

_ACTIVATIONS = ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "softplus")
UNARY = ("absolute", "exp", "log", "negative", "sign", "sqrt", "square")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power")
MOVES = ("transpose", "concat", "split", "pad", "broadcast_to")

FAMILIES = {
    "conv2d": "conv",
    "conv2d_input_grad": "conv",
    "conv2d_weight_grad": "conv",
    "bias_grad": "map",
    "max_pool2d": "pool",
    "max_pool2d_grad": "pool",
    "avg_pool2d": "pool",
    "avg_pool2d_grad": "pool",
    "bias_relu_lrn_pool": "pool",
    "bias_relu_lrn_pool_grad": "pool",
    "global_avg_pool2d": "map",
    "global_avg_pool2d_grad": "map",
    "lrn": "map",
    "lrn_grad": "map",
    "batch_norm": "map",
    "batch_norm_inference": "map",
    "batch_norm_grad": "map",
    "dense": "dense",
    "dense_input_grad": "dense",
    "dense_weight_grad": "dense",
    "matmul": "matmul",
    **{f"{a}{g}": "rows" for a in ("softmax", "log_softmax") for g in ("", "_grad")},
    "softmax_cross_entropy": "rows",
    "softmax_cross_entropy_grad": "rows",
    "squared_error": "rows",
    "squared_error_grad": "rows",
    "index": "rows",
    "index_grad": "rows",
    **dict.fromkeys(("reduce_sum", "reduce_mean", "reduce_max", "argmax"), "reduction"),
    "normalise_images": "map",
    "dropout": "map",
    "philox": "map",
    "all_finite": "map",
    **dict.fromkeys(MOVES, "map"),
    **{name: "map" for a in _ACTIVATIONS for name in (a, f"{a}_grad")},
    **dict.fromkeys((*UNARY, *BINARY), "map"),
    **{f"{rule}_update": "update" for rule in ("sgd", "adam", "rmsprop", "adagrad")},
}
# Not raced, and why.
UNRACED = {"reshape": "its result is a view of its argument: nothing moves"}
