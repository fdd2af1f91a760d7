"""Programs: functions of tensors recorded once, brought into a better order, and run as one native call."""

from fastbp.program.compile import Compiled, CompileError, compile

__all__ = ["CompileError", "Compiled", "compile"]
