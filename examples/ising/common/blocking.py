"""Averages of a correlated series, with errors that account for the correlation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import mul

FEWEST_BLOCKS = 32
"""An error from n blocks is itself uncertain by 1/sqrt(2n): 12 % here."""


class SeriesTooShortError(Exception):
    """Too few independent measurements for an error that one can believe."""


def autocorrelation_time(series: Sequence[float], window: float = 6.0) -> float:
    """Return the integrated autocorrelation time 1/2 + sum of rho(t), in measurements.

    The sum ends at the first t that exceeds `window` times its own result (Madras and Sokal 1988).
    """
    count = len(series)
    mean = math.fsum(series) / count
    centred = [value - mean for value in series]
    variance = math.fsum(map(mul, centred, centred)) / count
    if variance == 0.0:
        return 0.5
    time = 0.5
    for lag in range(1, count):
        time += math.fsum(map(mul, centred, centred[lag:])) / (count - lag) / variance
        if lag >= window * time:
            break
    return max(0.5, time)


def block_length(time: float, count: int) -> int:
    """Return the power of two that is at least 20 autocorrelation times; raise if too few such blocks fit."""
    length = 1
    while length < 20.0 * time:
        length *= 2
    if count < FEWEST_BLOCKS * length:
        message = (
            f"{count} measurements with an autocorrelation time of {time:.1f} make {count // length} blocks"
            f" of {length}, of which {FEWEST_BLOCKS} are needed: take {FEWEST_BLOCKS * length} or more"
        )
        raise SeriesTooShortError(message)
    return length


def block_means(series: Sequence[float], length: int) -> list[float]:
    """Return the means of successive blocks; what doesn't fill a block is left out at the beginning."""
    first = len(series) % length
    return [math.fsum(series[i : i + length]) / length for i in range(first, len(series), length)]


def jackknife(blocks: Sequence[Sequence[float]], estimate: Callable[[Sequence[float]], float]) -> tuple[float, float]:
    """Return the value and the error of a function of averages, by leaving out one block after the other.

    `blocks` holds one sequence of block means per averaged quantity. The value is free of the bias of order
    1/n that a function such as <e^2> - <e>^2 has.
    """
    count = len(blocks[0])
    totals = [math.fsum(means) for means in blocks]
    whole = estimate([total / count for total in totals])
    parts = [estimate([(total - means[i]) / (count - 1) for total, means in zip(totals, blocks)]) for i in range(count)]
    middle = math.fsum(parts) / count
    variance = (count - 1) / count * math.fsum((part - middle) ** 2 for part in parts)
    return count * whole - (count - 1) * middle, math.sqrt(variance)
