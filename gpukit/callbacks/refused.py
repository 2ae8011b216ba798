"""Keras's callbacks that gpukit does not have, each refused with what to use instead."""

from __future__ import annotations

from typing import Any, ClassVar

from gpukit.callbacks.base import Callback
from gpukit.errors import SettingError


class _Refused(Callback):
    why: ClassVar[str]

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        raise SettingError(f"{type(self).__name__}: {self.why}")


class RemoteMonitor(_Refused):
    """Refused: gpukit sends nothing over a network."""

    why = (
        "gpukit sends nothing over a network while it trains; write figures with CSVLogger, or "
        "send them yourself in LambdaCallback(on_epoch_end=…)"
    )


class TensorBoard(_Refused):
    """Refused: its event files are TensorFlow's."""

    why = (
        "event files need TensorFlow's writer, which gpukit does not use; write figures with "
        "CSVLogger, or hand them to a writer of yours in LambdaCallback(on_epoch_end=…)"
    )
