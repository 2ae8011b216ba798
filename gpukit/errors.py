"""Every error that a user's input can cause: one line with the place, the values, the way out.

The command line turns a `GpukitError` into exit code 2; anything else is a fault of gpukit's.
"""


class GpukitError(Exception):
    """Base of all errors caused by what the caller asked for."""


class ShapeError(GpukitError, ValueError):
    """Shapes that do not go together."""


class DTypeError(GpukitError, TypeError):
    """Element types that an operation does not take, or that must not be mixed."""


class DeviceError(GpukitError, RuntimeError):
    """An unknown or absent device, or arrays of one call on different devices."""


class SettingError(GpukitError, ValueError):
    """A setting outside its range, or a name that does not exist."""


class DataError(GpukitError, ValueError):
    """Data files or labels that are missing, damaged or out of range."""


class CheckpointError(GpukitError, ValueError):
    """A checkpoint or run folder that cannot be read, or belongs to another model."""


class TapeError(GpukitError, RuntimeError):
    """A backward pass that cannot be made: freed tape, missing gradient, changed parameter."""


class WorkerError(GpukitError, RuntimeError):
    """A process that worked for this one ended before its work was done."""


class ReplayError(GpukitError, RuntimeError):
    """A step of training that was computed twice and gave other bits the second time."""


class OutOfMemoryError(GpukitError, MemoryError):
    """A step of training for which memory did not suffice: which layers hold it, what would fit."""
