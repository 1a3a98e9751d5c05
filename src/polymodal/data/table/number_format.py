"""The format of numbers that are written with a currency, a unit, a percent sign or separators."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from polymodal.data.table.cell_kinds import MARKS, MAX_EXACT_INTEGER, NULL_WORDS

#: The smallest share of a column's texts that a format must read.
MIN_READABLE = 0.95

# fmt: off
_PREFIXES = frozenset([
    "$", "€", "£", "¥", "₹", "₩", "₽", "₺", "₴", "US$", "A$", "C$", "R$", "kr", "zł", "元", "円", "USD", "EUR",
    "GBP", "JPY", "CNY", "INR", "CHF", "CAD", "AUD", "KRW",
])
_UNITS = frozenset([
    "%", "‰", "°", "°C", "°F", "kg", "g", "mg", "µg", "t", "lb", "lbs", "oz", "km", "m", "cm", "mm", "µm", "nm",
    "mi", "ft", "in", "yd", "s", "sec", "ms", "µs", "min", "h", "hr", "hrs", "d", "days", "l", "L", "ml", "mL",
    "cl", "mph", "km/h", "m/s", "Hz", "kHz", "MHz", "GHz", "W", "kW", "MW", "kWh", "V", "mV", "mA", "kB", "KB",
    "MB", "GB", "TB", "px", "dpi", "dB", "bar", "Pa", "kPa", "hPa", "bpm", "kcal", "cal", "pcs", "m²", "m2",
    "sqft", "sqm",
])
# fmt: on
# Longer texts are not numbers; the first cells show whether it is worth while to read the others.
_MAX_LENGTH, _FIRST = 48, 20
_SYMBOLS = _PREFIXES | _UNITS
_NULL_WORDS = frozenset(NULL_WORDS)
# Cells that say nothing about the format: no value, and marks for broken values, which are bad cells.
_NO_NUMBER = frozenset([*NULL_WORDS, *MARKS])
_PARTS = re.compile(
    r"(?P<open>\()?(?P<sign>[-+−])?\s*(?P<prefix>[^\s0-9.,'’()+−-]*?)\s*(?P<sign2>[-+−])?"
    r"(?P<digits>[0-9.][0-9.,'’\u00a0\u202f ]*)(?P<exponent>[eE][-+]?[0-9]+)?"
    r"\s*(?P<suffix>[^\s0-9()]*[0-9²]?)(?P<close>\))?"
)
_CODE = re.compile(r"-?0[0-9]+")
#: Grouping and decimal marks, the more common first.
_MARKS = ((",", "."), (".", ","), (" ", "."), (" ", ","), ("'", "."))
_BLANKS = str.maketrans({"\u00a0": " ", "\u202f": " ", "’": "'", "−": "-"})


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a column are written.

    symbol: the currency, unit or percent sign; "" for none. 12 % is the number 12
    grouping: the mark between groups of three digits; "" for none
    decimal: the decimal mark

    Example:
        >>> NumberFormat("$", ",").read("$1,250.50")
        1250.5
    """

    symbol: str = ""
    grouping: str = ""
    decimal: str = "."

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as in Python."""
        return self == PLAIN

    def read(self, text: str) -> float | None:
        """The number in `text`; None if it means "no value".

        Raises:
            ValueError: it is not a number in this format.
        """
        stripped = text.strip()
        if stripped in _NULL_WORDS:
            return None
        parts = _split(stripped)
        if parts is not None and parts.symbol in ("", self.symbol):
            number = parts.value(self.grouping, self.decimal)
            if number is not None:
                return number
        wanted = "" if self.is_plain else f" (numbers of this column are written like {self.example!r})"
        raise ValueError(f"{text[:40]!r} is not a number{wanted}")

    @property
    def example(self) -> str:
        """A number in this format."""
        digits = f"1{self.grouping}234{self.decimal}5"
        return f"{self.symbol}{digits}" if self.symbol in _PREFIXES else f"{digits} {self.symbol}".strip()

    def to_dict(self) -> dict[str, str]:
        """The format as a JSON object: the arguments of the class."""
        return asdict(self)


PLAIN = NumberFormat()


@dataclass(frozen=True)
class _Parts:
    negative: bool
    symbol: str
    digits: str
    exponent: str

    def value(self, grouping: str, decimal: str) -> float | None:
        whole, mark, fraction = self.digits.partition(decimal)
        if (mark and not (whole or fraction)) or (fraction and not fraction.isdigit()):
            return None
        if grouping and grouping in whole:
            first, *others = whole.split(grouping)
            if not 1 <= len(first) <= 3 or any(len(one) != 3 for one in others):
                return None
            whole = first + "".join(others)
        if whole and not whole.isdigit():
            return None
        value = float(f"{whole or 0}.{fraction or 0}{self.exponent}")
        return -value if self.negative else value


def _split(text: str) -> _Parts | None:
    found = _PARTS.fullmatch(text.translate(_BLANKS)) if len(text) <= _MAX_LENGTH else None
    if found is None or bool(found["open"]) != bool(found["close"]) or (found["sign"] and found["sign2"]):
        return None
    symbols = {found["prefix"], found["suffix"]} - {""}
    if (
        len(symbols) > 1
        or (symbols and not symbols <= _SYMBOLS)
        or (found["prefix"] and found["prefix"] not in _PREFIXES)
    ):
        return None
    signs = (found["sign"] or "") + (found["sign2"] or "")
    negative = bool(found["open"]) or signs == "-"
    return _Parts(negative, next(iter(symbols), ""), found["digits"].strip(), found["exponent"] or "")


def infer_format(texts: Iterable[Any]) -> NumberFormat | None:
    """The format that reads at least `MIN_READABLE` of the texts; None if there is none, or if they are codes: a text
    with leading zeros (007), or a whole number with more digits than a number can hold.

    1,234 has a grouping mark, not a decimal mark, unless other cells of the column say otherwise.

    Example:
        >>> infer_format(["$25.10", "$1,300.00"])
        NumberFormat(symbol='$', grouping=',', decimal='.')
        >>> infer_format(["12,5 kg", "7,25 kg"]).read("1.000,5 kg")
        1000.5
        >>> infer_format(["007", "008"]) is None
        True
    """
    present = [stripped for text in texts if isinstance(text, str) and (stripped := text.strip()) not in _NO_NUMBER]
    if not present or any(_CODE.fullmatch(text) for text in present):
        return None
    if sum(_split(text) is not None for text in present[:_FIRST]) < len(present[:_FIRST]) / 2:
        return None
    parts = [found for text in present if (found := _split(text)) is not None]
    if len(parts) < MIN_READABLE * len(present):
        return None
    symbol = Counter(one.symbol for one in parts if one.symbol).most_common(1)
    kept = [one for one in parts if one.symbol in ("", symbol[0][0] if symbol else "")]
    best, most = None, MIN_READABLE * len(present)
    for grouping, decimal in _MARKS:
        values = [value for one in kept if (value := one.value(grouping, decimal)) is not None]
        if len(values) >= most and (best is None or len(values) > most):
            exact = all(
                abs(value) <= MAX_EXACT_INTEGER or one.exponent for value, one in zip(values, kept, strict=False)
            )
            best = (grouping, decimal) if exact else best
            most = len(values)
    if best is None:
        return None
    used = any(best[0] in one.digits for one in kept)
    return NumberFormat(symbol[0][0] if symbol else "", best[0] if used or best[1] == "," else "", best[1])


def share_of_numbers(texts: Sequence[str]) -> float:
    """The share of texts that are numbers in some format, or codes of digits."""
    return sum(_split(text.strip()) is not None for text in texts) / max(1, len(texts))


def column_format(columns: Sequence[Any]) -> NumberFormat:
    """The format of the texts in the blocks of one column; the plain format if there are none.

    columns: the cells of each block, as Arrow arrays or lists
    """
    texts: list[Any] = []
    for cells in columns:
        if isinstance(cells, pa.ChunkedArray | pa.Array):
            texts += cells.to_pylist() if pa.types.is_string(cells.type) else []
        else:
            texts += [cell for cell in cells if isinstance(cell, str)]
    return infer_format(texts) or PLAIN
