"""Independent random streams from one seed."""

from __future__ import annotations

import hashlib


def stream(seed: int, *names: str | int) -> int:
    """Return the seed of a named stream, in 63 bits.

    Streams of different names are independent, so that adding a consumer of randomness leaves the others as they were;
    the same names give the same stream on every machine.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
