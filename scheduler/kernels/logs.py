"""Logarithm and exponential by plain arithmetic: the same bits on every machine, and many at once in a loop.

The C library's are called one by one and differ between systems by a last digit; a score must not. Relative errors are
below 1e-15 for the logarithm away from 1 and for the exponential; near 1 the logarithm's absolute error is.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import intrinsic

from shunter.scheduler.jit import arithmetic

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
"""ln 2 in two parts, of which the first has trailing zeros: fdlibm."""

LOG2_E = 1.4426950408889634
SQRT_2 = 1.4142135623730951

MANTISSA = 0x000F_FFFF_FFFF_FFFF
ONE = 0x3FF0_0000_0000_0000
MAGIC = 6755399441055744.0
"""3 · 2^51: adding it to a small number leaves the number's whole part in the last bits."""

MAGIC_BITS = 0x4338_0000_0000_0000


def _bits_of(_typing: Any, value: Any) -> Any:
    """The memory of a float64 as an int64."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return (types.int64(types.float64), generate) if value == types.float64 else None


def _float_of(_typing: Any, value: Any) -> Any:
    """The float64 whose memory is an int64."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return (types.float64(types.int64), generate) if value == types.int64 else None


bits_of: Any = intrinsic(_bits_of)
float_of: Any = intrinsic(_float_of)


@arithmetic
def log_of(x: float) -> float:
    """The natural logarithm of a positive normal number; NaN stays NaN.

    x = 2^e · m with m in [√½, √2); log m = 2 artanh s with s = (m − 1) / (m + 1), of which s² < 0.03.
    """
    bits = bits_of(x)
    m = float_of((bits & MANTISSA) | ONE)
    e = float_of((bits >> 52) - 1023 + MAGIC_BITS) - MAGIC
    is_large = m > SQRT_2
    m = 0.5 * m if is_large else m
    e = e + 1.0 if is_large else e
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    tail = 1 / 13 + z * (1 / 15 + z * (1 / 17 + z * (1 / 19 + z * (1 / 21 + z * (1 / 23)))))
    series = 1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11 + z * tail))))
    log_m = 2.0 * s + (2.0 * s) * z * series
    return e * LN2_HIGH + (log_m + e * LN2_LOW) + (x - x)


@arithmetic
def exp_of(x: float) -> float:
    """e^x for −700 < x < 700; NaN stays NaN. x = k ln 2 + r with |r| ≤ ½ ln 2, and Taylor's series for e^r."""
    shifted = x * LOG2_E + MAGIC
    k = shifted - MAGIC
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    tail = 1 / 5040 + r * (1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * (1 / 39916800 + r / 479001600))))
    series = 1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720 + r * tail))))
    power = float_of((bits_of(shifted) - MAGIC_BITS + 1023) << 52)
    return (1.0 + (r + r * r * series)) * power + (x - x)
