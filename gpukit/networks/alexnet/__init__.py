"""AlexNet, in two columns or in one."""

from gpukit.inspect import summary
from gpukit.networks.alexnet.network import alexnet
from gpukit.networks.alexnet.notes import notes
from gpukit.networks.alexnet.sizes import GAUSSIAN, INPUT_SIZE, MAPS, UNITS

summary.NOTES["alexnet"] = notes

__all__ = ["GAUSSIAN", "INPUT_SIZE", "MAPS", "UNITS", "alexnet"]
