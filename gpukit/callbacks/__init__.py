"""Callbacks: what `fit` calls at the beginning and end of training, epochs and batches.

Logs hold epoch (from 0), loss, accuracy and other metrics, val_loss, val_accuracy …, lr, seconds. A
callback with state returns it as JSON from `state`, so that a resumed run continues as an
uninterrupted one would have.
"""

from gpukit.callbacks.backup import BackupAndRestore
from gpukit.callbacks.base import Callback, CallbackList
from gpukit.callbacks.control import LambdaCallback, LearningRateScheduler, TerminateOnNaN
from gpukit.callbacks.monitor import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from gpukit.callbacks.records import CSVLogger, History
from gpukit.callbacks.refused import RemoteMonitor, TensorBoard

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "RemoteMonitor",
    "TensorBoard",
    "TerminateOnNaN",
]
