"""cupy.cuda.compiler."""

from cupy._errors import CompileException as CompileException
