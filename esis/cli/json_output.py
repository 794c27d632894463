"""Print JSON, for all commands in one way: it is valid whatever a name or a parameter holds, and wherever it goes."""

from __future__ import annotations

import codecs
import json
import math
import sys
from collections.abc import Mapping
from typing import Any

import click

from esis.errors import BadInput

SCHEMA = 1


def show_object(value: Mapping[str, Any]) -> None:
    """Print a JSON object, its schema first."""
    click.echo(as_json({"schema": SCHEMA, **value}, indent=2))


def as_json(value: Any, indent: int | None = None, sort_keys: bool = False) -> str:
    """Return JSON in UTF-8, with escapes for what that, or the stream, can't hold. Raises BadInput.

    JSON itself can spell halves of characters (surrogates), and so are bytes of names kept that are no UTF-8. It has no
    NaN and no infinity: they become texts, as those of results do (esis.export).
    """
    text = _dumped(value, indent, sort_keys, False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return _dumped(value, indent, sort_keys, True)
    unicode_stream = codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8"
    return text if unicode_stream or text.isascii() else _dumped(value, indent, sort_keys, True)


def _dumped(value: Any, indent: int | None, sort_keys: bool, ascii_only: bool) -> str:
    for way in dict.fromkeys((indent, None)):  # to indent, json needs a call of Python for each level
        try:
            try:
                return json.dumps(value, indent=way, sort_keys=sort_keys, ensure_ascii=ascii_only, allow_nan=False)
            except ValueError:
                spelt = _spelt(value)
                return json.dumps(spelt, indent=way, sort_keys=sort_keys, ensure_ascii=ascii_only, allow_nan=False)
        except RecursionError:
            continue
    raise BadInput("a value is nested too deep to be shown", "esis export --columns leaves it out")


def _spelt(value: Any) -> Any:
    """Return a value with texts in the place of what JSON has no number for. Raises RecursionError."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _spelt(item) for key, item in value.items()}
    return [_spelt(item) for item in value] if isinstance(value, (list, tuple)) else value
