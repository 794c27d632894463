"""The two-dimensional Ising model: L x L spins, periodic boundaries, coupling J = 1, no field, k_B = 1."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator


class Lattice:
    """Know the neighbours and the observables of a periodic square lattice.

    A configuration is an integer of L*L bits, one per spin, row by row: 1 is up, 0 is down.
    """

    def __init__(self, size: int) -> None:
        """Prepare a lattice of size x size spins."""
        self.size = size
        self.sites = size * size
        self.neighbours = [
            (
                row * size + (column + 1) % size,
                row * size + (column - 1) % size,
                (row + 1) % size * size + column,
                (row - 1) % size * size + column,
            )
            for row in range(size)
            for column in range(size)
        ]
        self._lowest_column = sum(1 << (row * size) for row in range(size))
        self._other_columns = (1 << self.sites) - 1 - (self._lowest_column << (size - 1))

    def energy(self, configuration: int) -> int:
        """Return the total energy, minus the sum of s_i s_j over the 2 L^2 bonds."""
        size = self.size
        wrapped = (configuration & self._lowest_column) << (size - 1)
        beside = (configuration >> 1) & self._other_columns | wrapped
        wrapped = (configuration & ((1 << size) - 1)) << (self.sites - size)
        below = configuration >> size | wrapped
        unequal = bin(configuration ^ beside).count("1") + bin(configuration ^ below).count("1")
        return 2 * unequal - 2 * self.sites

    def magnetisation(self, configuration: int) -> int:
        """Return the sum of all spins."""
        return 2 * bin(configuration).count("1") - self.sites


class Wolff:
    """Walk through configurations with the single-cluster update of Wolff, PRL 62, 361 (1989)."""

    def __init__(self, lattice: Lattice, temperature: float, seed: int) -> None:
        """Start with all spins up; the walk is a function of these three arguments alone."""
        self._lattice = lattice
        self._spins = bytearray(b"1" * lattice.sites)
        self._join = -math.expm1(-2.0 / temperature)
        # Of all its methods, random() is the one whose sequence Python promises to keep between versions.
        self._random = random.Random(seed).random

    def configuration(self) -> int:
        """Return the present configuration."""
        return int(self._spins, 2)

    def step(self) -> int:
        """Flip one cluster and return its number of spins."""
        spins, neighbours, join, uniform = self._spins, self._lattice.neighbours, self._join, self._random
        start = int(uniform() * len(spins))
        old = spins[start]
        new = old ^ 1  # "0" and "1" differ in this bit
        spins[start] = new
        cluster = 1
        edge = [start]
        while edge:
            for site in neighbours[edge.pop()]:
                if spins[site] == old and uniform() < join:
                    spins[site] = new
                    edge.append(site)
                    cluster += 1
        return cluster

    def thermalise(self, steps: int) -> int:
        """Forget the start, and return how many clusters flip about as many spins as the lattice has.

        This number has to stay fixed while one measures: to stop whenever enough spins are flipped would
        prefer configurations with large clusters.
        """
        for _ in range(steps):
            self.step()
        flipped = sum(self.step() for _ in range(steps))
        return max(1, round(steps * self._lattice.sites / flipped))

    def measurements(self, count: int, clusters: int) -> Iterator[int]:
        """Yield `count` configurations, `clusters` cluster flips apart."""
        for _ in range(count):
            for _ in range(clusters):
                self.step()
            yield self.configuration()
