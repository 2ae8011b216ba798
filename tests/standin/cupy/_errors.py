"""What CUDA's calls raise through CuPy."""

from __future__ import annotations

_NAMES = {
    1: "cudaErrorInvalidValue: invalid argument",
    2: "cudaErrorMemoryAllocation: out of memory",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    217: "cudaErrorPeerAccessUnsupported: peer access is not supported between these two devices",
    400: "cudaErrorInvalidResourceHandle: invalid resource handle",
    700: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    701: "cudaErrorLaunchOutOfResources: too many resources requested for launch",
    704: "cudaErrorPeerAccessAlreadyEnabled: peer access is already enabled",
}


class CUDARuntimeError(RuntimeError):
    """Of the runtime, with its number."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(_NAMES.get(status, f"cudaError {status}"))


class CUDADriverError(RuntimeError):
    """Of the driver, with its number."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(
            _NAMES.get(status, f"CUDA_ERROR {status}").replace("cudaError", "CUDA_ERROR_")
        )


class CompileException(Exception):
    """What NVRTC refuses; here: the compiler of the emulator."""

    def __init__(
        self, msg: str, source: str, name: str, options: tuple[str, ...], backend: str = "nvrtc"
    ) -> None:
        super().__init__(msg)
        self._msg = msg
        self.source = source
        self.name = name
        self.options = options
        self.backend = backend

    def get_message(self) -> str:
        """The compiler's log."""
        return self._msg
