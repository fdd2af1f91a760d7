"""Large numbers as people read them."""

from __future__ import annotations


def short(n: int) -> str:
    """A number below 10 000 as it is, others by their thousands, millions, …: 9,999 and 12.3 k."""
    power = (len(str(n)) - 1) // 3
    return f"{n:,}" if n < 10_000 else f"{n / 1000**power:.1f} {' kMGTPE'[power]}"


def short_bytes(n: int) -> str:
    """The same of bytes: 9,999 B and 12.3 kB."""
    return f"{short(n)}{' ' if n < 10_000 else ''}B"
