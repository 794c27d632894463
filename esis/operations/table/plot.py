"""Make series of points of an exported table, and draw them: as a figure in a file, or on a terminal."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from esis.errors import BadInput, printable
from esis.operations.table.columns import ABSENT, MISSING, sort_key
from esis.operations.table.frame import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("png", "svg", "pdf")
_INSTALL = "install it with: pip install 'esis-slurm[plot]'"
# Okabe and Ito's colours, which colour-blind people can tell apart, the yellow left out: too pale for a line.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vP*X"
_LETTERS = "ox*#@%&$"  # markers on a terminal
_TONES = ("blue+", "orange+", "green+", "magenta+", "cyan+", "red+", "default")
_SETTINGS: Mapping[str, Any] = {
    "svg.hashsalt": "esis",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "font.size": 11,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "errorbar.capsize": 3,
    "savefig.dpi": 150,
    "text.usetex": False,
    "font.family": ["DejaVu Sans"],
}
_NOT_HEARD = ("MPLBACKEND", "SOURCE_DATE_EPOCH")  # what matplotlib reads, and may stumble over
_DATELESS: Mapping[str, Mapping[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Series:
    """Hold the points of one line, sorted by x."""

    label: str | None
    x: tuple[float, ...]
    y: tuple[float, ...]
    error: tuple[float, ...] | None


@dataclass(frozen=True)
class Axes:
    """Say how the axes are to be."""

    x: str
    y: str
    by: str | None = None
    title: str | None = None
    log_x: bool = False
    log_y: bool = False


def series_of(table: Table, x: str, y: str, error: str | None, by: str | None) -> tuple[list[Series], int]:
    """Return the series by the values of `by`, in their order, and how many rows were left out: values are missing.

    Raises BadInput for a column without numbers, and where no point is left.
    """
    for name in [x, y] + ([error] if error is not None else []):
        others = {
            kind.__name__ for kind in table.kinds[list(table.names).index(name)] - {int, float, ABSENT, type(None)}
        }
        if others:
            raise BadInput(
                f"the column {name!r} holds other values than numbers ({', '.join(sorted(others))})",
                "leave them out with --where, or plot another column",
            )
    groups: dict[str, tuple[Any, list[tuple[float, float, float]]]] = {}
    left_out = 0
    for row in _rows(table):
        numbers = [row[x], row[y], 0 if error is None else row[error]]
        if not all(map(_can_be_drawn, numbers)):
            left_out += 1
            continue
        value = None if by is None or row[by] is MISSING else row[by]
        points = groups.setdefault(repr(value), (value, []))[1]
        points.append((float(numbers[0]), float(numbers[1]), abs(float(numbers[2]))))
    if not groups:
        raise BadInput(
            f"no task has both {x!r} and {y!r}, as numbers that can be drawn", "esis export shows what there is"
        )
    found = []
    for value, points in sorted(groups.values(), key=lambda group: sort_key(group[0])):
        xs, ys, errors = zip(*sorted(points))
        label = None if by is None else f"{by} = {value if isinstance(value, str) else _number(value)}"
        found.append(Series(label, xs, ys, errors if error is not None else None))
    return found, left_out


def figure_format(name: str) -> str:
    """Return the format that the ending of a file's name means. Raises BadInput."""
    ending = os.path.splitext(name)[1].lower().lstrip(".")  # noqa: PTH122
    if ending not in FIGURES:
        raise BadInput(f"the name {name!r} tells no format of figures", f"end it with .{', .'.join(FIGURES)}")
    return ending


def save(series: Sequence[Series], look: Axes, form: str, stream: BinaryIO) -> None:
    """Write a figure: the same series give the same bytes. Raises BadInput without matplotlib, OSError."""
    import logging
    import warnings

    for name in _NOT_HEARD:
        os.environ.pop(name, None)
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)  # what it says of a matplotlibrc that doesn't count
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BadInput(f"a figure needs matplotlib, which can't be imported ({error})", _INSTALL) from None
    except (ValueError, OSError, RuntimeError) as error:
        raise BadInput(f"matplotlib can't be started: {error}", "look into your matplotlibrc") from None

    # No pyplot: it would look for a screen, and keep the figure.
    settings: Any = {**mpl.rcParamsDefault, **_SETTINGS}  # not those of the user's matplotlibrc
    with mpl.rc_context(rc=settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that no font has
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        _draw(figure, series, look)
        figure.savefig(stream, format=form, metadata=dict(_DATELESS[form]))


def _draw(figure: Figure, series: Sequence[Series], look: Axes) -> None:
    axes = figure.add_subplot()
    many = max(len(item.x) for item in series) > 60
    for number, item in enumerate(series):
        axes.errorbar(
            item.x,
            item.y,
            yerr=item.error,
            label=_plain(item.label),
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=3 if many else 5,
            linewidth=1.0,
            elinewidth=1.2,
            linestyle=("-", "--", ":")[number // len(_COLOURS) % 3],
        )
    axes.set_xlabel(_plain(look.x) or "")
    axes.set_ylabel(_plain(look.y) or "")
    if look.log_x:
        axes.set_xscale("log")
    if look.log_y:
        axes.set_yscale("log", nonpositive="clip")
    if look.title is not None:
        axes.set_title(_plain(look.title) or "")
    if any(item.label is not None for item in series):
        axes.legend(fontsize="small", ncols=1 + len(series) // 12)


def show(series: Sequence[Series], look: Axes, width: int, height: int, colour: bool) -> str:
    """Return a plot made of text. Raises BadInput without plotext."""
    try:
        import plotext
    except ImportError as error:
        raise BadInput(
            f"a plot in the terminal needs plotext, which can't be imported ({error})",
            f"{_INSTALL}, or write a figure with -o",
        ) from None
    plotext.clear_figure()
    plotext.theme("clear" if not colour else "default")
    if colour:
        plotext.canvas_color("default")
        plotext.axes_color("default")
        plotext.ticks_color("default")
    plotext.plot_size(width, height)
    for number, item in enumerate(series):
        tone = _TONES[number % len(_TONES)]
        if item.error is not None and any(item.error):
            # plotext takes the whole length of a bar, and has no legend for bars.
            plotext.error(list(item.x), list(item.y), yerr=[2 * error for error in item.error], color=tone)
        plotext.scatter(
            list(item.x), list(item.y), marker=_LETTERS[number % len(_LETTERS)], color=tone, label=item.label
        )
    plotext.xlabel(look.x)
    plotext.ylabel(look.y)
    if look.title is not None:
        plotext.title(look.title)
    if look.log_x:
        plotext.xscale("log")
    if look.log_y:
        plotext.yscale("log")
    text: str = plotext.build()
    plotext.clear_figure()
    if not colour:
        text = plotext.uncolorize(text)
    return "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")


def check_log(series: Sequence[Series], look: Axes) -> None:
    """Raise BadInput where a logarithmic axis would have to show something that is not positive."""
    for wanted, name, values in (
        (look.log_x, look.x, [item.x for item in series]),
        (look.log_y, look.y, [item.y for item in series]),
    ):
        if wanted and min(map(min, values)) <= 0:
            raise BadInput(
                f"the column {name!r} holds {min(map(min, values)):g}: no logarithmic axis can show it",
                f"leave it out: --where '{name}>0'",
            )


def _can_be_drawn(value: Any) -> bool:
    """Return whether a value is there, and a number that a float can hold."""
    if value is MISSING or value is None:
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _rows(table: Table) -> Iterator[dict[str, Any]]:
    for chunk in table.chunks():
        for row in zip(*chunk):
            yield dict(zip(table.names, row))


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(text: str | None) -> str | None:
    """Return text in which matplotlib finds no formula, and a file no letter that it can't hold.

    Names have underscores and perhaps dollars, and bytes that are no UTF-8.
    """
    return None if text is None else printable(text).replace("\\", "\\\\").replace("$", r"\$")
