"""What is known exactly of the Ising model on the square lattice (J = 1, no field, k_B = 1)."""

from __future__ import annotations

import math

CRITICAL_TEMPERATURE = 2.0 / math.log(1.0 + math.sqrt(2.0))


def _elliptic_k(complement: float) -> float:
    """Return the complete elliptic integral K for k' = sqrt(1 - k^2), by the arithmetic-geometric mean."""
    a, b = 1.0, complement
    while abs(a - b) > 1e-15 * a:
        a, b = (a + b) / 2.0, math.sqrt(a * b)
    return math.pi / (a + b)


def infinite_energy(temperature: float) -> float:
    """Return the energy per spin of the infinite lattice: Onsager, Phys. Rev. 65, 117 (1944)."""
    sinh = math.sinh(2.0 / temperature)
    cosh = math.cosh(2.0 / temperature)
    # Onsager's 2 tanh^2(2K) - 1 is, but for its sign, the complementary modulus k' of his k = 2 sinh/cosh^2.
    # Taken from here, it keeps its digits at T_c, where k is 1 and K(k) diverges but the product vanishes.
    complement = (sinh - 1.0 / sinh) * sinh / cosh**2
    product = complement * _elliptic_k(abs(complement)) if complement else 0.0
    return -cosh / sinh * (1.0 + 2.0 / math.pi * product)


def infinite_magnetisation(temperature: float) -> float:
    """Return the spontaneous magnetisation of the infinite lattice: Yang, Phys. Rev. 85, 808 (1952)."""
    if temperature >= CRITICAL_TEMPERATURE:
        return 0.0
    return math.pow(1.0 - math.sinh(2.0 / temperature) ** -4, 0.125)


def finite(size: int, temperature: float) -> tuple[float, float]:
    """Return energy and specific heat per spin of the periodic size x size lattice.

    Kaufman, Phys. Rev. 76, 1232 (1949), as written by Ferdinand and Fisher, Phys. Rev. 185, 832 (1969):
    Z = 1/2 (2 sinh 2K)^(N/2) (Z1 + Z2 + Z3 + Z4), each Zi a product over the modes gamma_l of
    cosh gamma_l = cosh^2(2K)/sinh(2K) - cos(pi l/L); e = -(ln Z)'/N, C = K^2 (ln Z)''/N, primes by K = 1/T.
    """
    coupling = 1.0 / temperature
    sites = size * size
    modes = [_mode(mode, size, coupling) for mode in range(2 * size)]
    products = [
        _product(modes[1::2], size, even=True),
        _product(modes[1::2], size, even=False),
        _product(modes[0::2], size, even=True),
        _product(modes[0::2], size, even=False),
    ]
    largest = max(logarithm for logarithm, _ in products)
    value, slope, curvature = (
        math.fsum(math.exp(logarithm - largest) * terms[k] for logarithm, terms in products) for k in range(3)
    )
    sinh, cosh = math.sinh(2.0 * coupling), math.cosh(2.0 * coupling)
    first = sites * cosh / sinh + slope / value
    second = -2.0 * sites / sinh**2 + curvature / value - (slope / value) ** 2
    return -first / sites, coupling**2 * second / sites


def _mode(mode: int, size: int, coupling: float) -> tuple[float, float, float]:
    """Return gamma_l and its first two derivatives by K."""
    sinh, cosh = math.sinh(2.0 * coupling), math.cosh(2.0 * coupling)
    if mode == 0:  # the one mode with a sign: negative above T_c
        return 2.0 * coupling + math.log(math.tanh(coupling)), 2.0 + 2.0 / sinh, -4.0 * cosh / sinh**2
    gamma = math.acosh(cosh**2 / sinh - math.cos(math.pi * mode / size))
    slope = 2.0 * cosh * (1.0 - sinh**-2) / math.sinh(gamma)
    bend = 4.0 * sinh - 4.0 / sinh + 8.0 * cosh**2 / sinh**3
    return gamma, slope, (bend - slope**2 * math.cosh(gamma)) / math.sinh(gamma)


def _log_2cosh(argument: float) -> float:
    """Return ln(2 cosh x), also where cosh x overflows."""
    return abs(argument) + math.log1p(math.exp(-2.0 * abs(argument)))


def _product(
    modes: list[tuple[float, float, float]], size: int, *, even: bool
) -> tuple[float, tuple[float, float, float]]:
    """Return the product of 2 cosh (even) or 2 sinh (odd) of L gamma/2 over the modes, and two derivatives.

    They come as a logarithm s and three numbers, each to be multiplied by e^s. The first mode is in s with
    its cosh only: its sinh vanishes for gamma_0 = 0, at T_c, and so does the product, though not its slope.
    """
    half = size / 2.0
    gamma, slope, bend = modes[0]
    scale = _log_2cosh(half * gamma)
    tanh = math.tanh(half * gamma)
    value, other = (1.0, tanh) if even else (tanh, 1.0)
    first, second = half * slope * other, half * bend * other + (half * slope) ** 2 * value
    # The logarithmic derivatives of all the other factors, whose gamma never vanishes.
    log_first = log_second = 0.0
    for gamma, slope, bend in modes[1:]:
        tanh = math.tanh(half * gamma)
        ratio = tanh if even else 1.0 / tanh
        scale += _log_2cosh(half * gamma) + (0.0 if even else math.log(tanh))
        log_first += half * slope * ratio
        log_second += half * bend * ratio + (half * slope) ** 2 * (1.0 - ratio**2)
    return scale, (
        value,
        first + value * log_first,
        second + 2.0 * first * log_first + value * (log_second + log_first**2),
    )
