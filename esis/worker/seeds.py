"""Make seeds for random numbers: the same on every attempt, and apart for any two tasks, names and runs.

A seed is the first 16 hex digits of a SHA-256 without the highest bit. Two of a million of them are alike with a
probability of 5 in 10^8; formulas such as `base + index` give task 1 of one run the numbers of task 0 of the next.
"""

from __future__ import annotations

import hashlib

BITS = 63  # what fits into a signed 64-bit integer and isn't negative


def seed_of(*parts: object) -> int:
    """Return the seed of what the parts name, e.g. a run's hash and a task's index; joined by slashes."""
    return int(digest_of(*parts)[:16], 16) & ((1 << BITS) - 1)


def digest_of(*parts: object) -> str:
    """Return the whole SHA-256, in hex digits."""
    return hashlib.sha256("/".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()
