"""Runs: training from settings, kept in a folder, resumed to the bit."""

from gpukit.runs.folder import BEST, LAST, SETTINGS, exists, is_run, latest_folder, new_folder
from gpukit.runs.run import RunResult, load_best, train
from gpukit.runs.saver import Interrupted
from gpukit.runs.settings import RunSettings

__all__ = [
    "BEST",
    "LAST",
    "SETTINGS",
    "Interrupted",
    "RunResult",
    "RunSettings",
    "exists",
    "is_run",
    "latest_folder",
    "load_best",
    "new_folder",
    "train",
]
