"""Points come from the table; figures are the same for the same points, and say on their axes what they show."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from esis.errors import BadInput
from esis.operations.table import plot
from esis.operations.table.frame import Frame
from esis.operations.table.plot import Axes, Series, check_log, figure_format, save, series_of, show
from tests.operations.table.test_collect import frame_of

TASKS = [
    ({"T": 3.0, "L": 8}, {"e": -1.0, "err": 0.1}),
    ({"T": 2, "L": 16}, {"e": -2, "err": -0.2}),
    ({"T": 1.0, "L": 8}, {"e": -1.5, "err": 0.3}),
    ({"T": 4.0, "L": 8}, None),
    ({"T": 5.0, "L": 16}, {"e": float("nan"), "err": 0.1}),
]
LINES = [Series("L = 8", (1.0, 3.0), (-1.5, -1.0), (0.3, 0.1)), Series("L = 16", (2.0,), (-2.0,), (0.2,))]
LOOK = Axes("T", "e", by="L", title="an $odd$ title_1")


def a_frame(tasks: Sequence[Any] = TASKS) -> Frame:
    return frame_of(tasks)


def test_series_are_sorted_and_grouped() -> None:
    """By the value, not by its text; what has no number is left out and counted."""
    assert series_of(a_frame(), "T", "e", "err", "L") == (LINES, 2)
    (single,), left_out = series_of(a_frame(), "T", "e", None, None)
    assert (single.label, single.x, single.error, left_out) == (None, (1.0, 2.0, 3.0), None, 2)


def test_a_task_that_exported_no_number_is_left_out() -> None:
    """The text that stands for NaN is a point less, and no reason to draw nothing."""
    found, left_out = series_of(a_frame([({"T": 1}, {"e": 2.0}), ({"T": 2}, {"e": "NaN"})]), "T", "e", None, None)
    assert ([item.y for item in found], left_out) == ([(2.0,)], 1)


def test_integers_beyond_any_float_are_left_out_or_sorted() -> None:
    """Moduli: as a coordinate nothing can draw them, as the value of a series they are values like others."""
    tasks = [({"p": 10**400, "x": 1}, {"e": 1.0}), ({"p": 7, "x": 2}, {"e": 10**400}), ({"p": 5, "x": 3}, {"e": 3})]
    (single,), left_out = series_of(a_frame(tasks), "p", "e", None, None)
    assert (single.x, single.y, left_out) == ((5.0,), (3.0,), 2)
    found, left_out = series_of(a_frame(tasks), "x", "x", None, "p")
    assert ([item.label for item in found], left_out) == (["p = 5", "p = 7", f"p = {10**400}"], 0)
    with pytest.raises(BadInput, match="no task has both 'x' and 'p', as numbers that can be drawn"):
        series_of(a_frame(tasks[:1]), "x", "p", None, None)


@pytest.mark.parametrize("form", plot.FIGURES)
def test_f316_names_that_no_font_and_no_file_can_hold_are_drawn_all_the_same(form: str) -> None:
    """F316: bytes that are no UTF-8, control characters, letters of a script that the font lacks."""
    look = Axes("caf\udce9", "e", by="file", title="a\x01b\ud800 \U00013000")
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save([Series("file = caf\udce9.dat", (1.0,), (2.0,), None)], look, form, stream)
    if form == "svg":
        ElementTree.fromstring(stream.getvalue())


@pytest.mark.parametrize(
    ("name", "value"),
    [("MPLBACKEND", "module://not_here.backend"), ("MPLBACKEND", "Qt4Agg"), ("SOURCE_DATE_EPOCH", "abc")],
)
def test_f316_what_matplotlib_hears_in_the_environment_is_not_heard(tmp_path: Path, name: str, value: str) -> None:
    """F316: a notebook names a backend that another environment lacks."""
    code = (
        "import io; from esis.operations.table.plot import Axes, Series, save; "
        "save([Series(None, (1.0,), (2.0,), None)], Axes('x', 'y'), 'pdf', io.BytesIO())"
    )
    argv = [sys.executable, "-c", code]
    env = {**os.environ, name: value}
    assert subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, check=True).stderr == b""


def test_f316_a_matplotlibrc_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """F316: bad lines of it don't count; bytes that are no UTF-8 keep matplotlib from starting."""
    code = (
        "import io; from esis.errors import BadInput; from esis.operations.table.plot import Axes, Series, save\n"
        "try: save([Series(None, (1.0,), (2.0,), None)], Axes('x', 'y'), 'pdf', io.BytesIO())\n"
        "except BadInput as error: print(error.advice)"
    )
    for content, told in (
        (b"no such key: 1\nlines.linewidth: wide\n", b""),
        (b"# caf\xe9\n", b"look into your matplotlibrc\n"),
    ):
        (tmp_path / "matplotlibrc").write_bytes(content)
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
        assert (done.stdout, done.stderr) == (told, b"")


def test_a_column_of_text_can_not_be_plotted() -> None:
    with pytest.raises(BadInput, match=r"the column 'e' holds other values than numbers \(bool, str\)"):
        series_of(a_frame([({"T": 1}, {"e": "x"}), ({"T": 2}, {"e": True})]), "T", "e", None, None)
    with pytest.raises(BadInput, match="no task has both 'T' and 'e'"):
        series_of(a_frame([({"T": 1}, {"e": None})]), "T", "e", None, None)


def test_a_logarithmic_axis_needs_positive_values() -> None:
    check_log(LINES, Axes("T", "e", log_x=True))
    with pytest.raises(BadInput, match=r"'e' holds -2: .* --where 'e>0'"):
        check_log(LINES, Axes("T", "e", log_y=True))


@pytest.mark.parametrize(("form", "beginning"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_figures_are_reproducible(form: str, beginning: bytes) -> None:
    """Byte for byte, and without a date."""
    written = []
    for _ in range(2):
        stream = io.BytesIO()
        save(LINES, LOOK, form, stream)
        written.append(stream.getvalue())
    assert written[0] == written[1]
    assert written[0].startswith(beginning)
    assert not re.search(rb"CreationDate|<dc:date>|20\d\d-\d\d-\d\d", written[0])


def test_a_figure_shows_points_bars_names_and_groups() -> None:
    figure = Figure()
    plot._draw(figure, LINES, Axes("T", "e", by="L", title="energy", log_x=True))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("T", "e", "energy")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["L = 8", "L = 16"]
    for container, item in zip(axes.containers, LINES):
        line, _, (bars,) = container.lines  # type: ignore[attr-defined]
        assert line.get_xydata().tolist() == [list(point) for point in zip(item.x, item.y)]
        assert item.error is not None
        assert [bar[1][1] - bar[0][1] for bar in bars.get_segments()] == pytest.approx([2 * e for e in item.error])
    lines = [container.lines[0] for container in axes.containers]  # type: ignore[attr-defined]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 2


def test_a_name_is_no_formula() -> None:
    stream = io.BytesIO()
    save(LINES, Axes("$x", "a_$b$", title=r"\frac $"), "svg", stream)
    with pytest.raises(ValueError, match="frac"):  # what would come of it else
        figure = Figure()
        figure.add_subplot().set_title(r"$\frac $")
        figure.savefig(io.BytesIO())


@pytest.mark.parametrize("name", ["a.jpg", "a", "png"])
def test_other_formats_are_refused(name: str) -> None:
    assert figure_format("x/A.PNG") == "png"
    with pytest.raises(BadInput, match=r"tells no format of figures; end it with \.png, \.svg, \.pdf"):
        figure_format(name)


def test_a_plot_on_a_terminal_has_points_bars_and_groups() -> None:
    text = show(LINES, LOOK, 60, 16, colour=False)
    lines = text.split("\n")
    assert all(len(line) <= 60 for line in lines)
    assert len(lines) <= 17
    assert "\x1b" not in text
    for part in ("oo L = 8", "xx L = 16", "│", LOOK.title or "", "T", "e"):
        assert part in text
    assert text.count("o") >= 4
    assert "\x1b[" in show(LINES, LOOK, 60, 16, colour=True)
    assert show(LINES, LOOK, 60, 16, colour=False) == text
