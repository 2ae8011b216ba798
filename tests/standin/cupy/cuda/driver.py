"""cupy.cuda.driver."""

from cupy._errors import CUDADriverError as CUDADriverError
