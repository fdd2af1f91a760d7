"""Passes over a program's calls, one a file: each takes the calls and the memory that outlives them, and returns calls
that leave the same bits in that memory."""
