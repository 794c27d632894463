"""esis doctor tells ESIS from the other distribution that is named `esis`, and says how to get it back."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import sys
from pathlib import Path

import pytest

from esis.operations.advice.findings import Finding, Level
from esis.operations.advice.installation import check_installation

COMMAND = "[console_scripts]\nesis = {}\n"
STRANGER = {"METADATA": "Name: esis\nVersion: 0.2.0\nSummary: Search in an index\n\nNot for Slurm\n"}
OLD = {"METADATA": "Name: esis\nVersion: {}\nSummary: Easy SLURM Isolated Scanner\n"}


def hashed(path: Path) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")


class Site:
    """A directory of packages in which distributions are written by hand, as pip leaves them, and a bin beside it."""

    def __init__(self, place: Path) -> None:
        self.packages = place / "lib" / "site-packages"
        self.command = place / "bin" / "esis"
        self.package = self.packages / "esis"
        self.package.mkdir(parents=True)
        self.command.parent.mkdir()
        self.command.touch(0o755)
        for name in ("__init__", "version"):
            (self.package / f"{name}.py").write_text(f"# {name}\n")

    def install(self, name: str, files: dict[str, str], version: str = "0.1.0", record: tuple[str, ...] = ()) -> None:
        """Write a dist-info directory; RECORD has the hashes that the files have now."""
        about = self.packages / f"{name}-{version}.dist-info"
        about.mkdir()
        for file, text in files.items():
            (about / file).write_text(text)
        (about / "RECORD").write_text("".join(f"{file},{hashed(self.packages / file)},1\n" for file in record))

    def install_ours(self, origin: Path | None = None, editable: bool = False) -> None:
        told = {"url": origin.as_uri(), "dir_info": {"editable": editable}} if origin is not None else None
        record = ("../../bin/esis",) if editable else ("../../bin/esis", "esis/__init__.py", "esis/version.py")
        self.install(
            "esis_slurm",
            {
                "METADATA": "Name: esis-slurm\nVersion: 0.1.0\n",
                **({"direct_url.json": json.dumps(told)} if told else {}),
            },
            record=record,
        )

    def look(self) -> Finding:
        return check_installation([str(self.packages)], self.package)

    def told(self) -> tuple[Level, str]:
        found = self.look()
        assert found.subject == "installation"
        return found.level, found.message


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site whose command comes first on PATH."""
    made = Site(tmp_path / "my site's")
    monkeypatch.setenv("PATH", str(made.command.parent))
    return made


def advice(*wanted: str) -> str:
    pip = f"{shlex.quote(sys.executable)} -m pip"
    return f"{pip} uninstall esis; {pip} install --force-reinstall --no-deps {shlex.join(wanted)}"


def test_an_installation_as_pip_made_it_is_well(place: Site) -> None:
    place.install_ours()
    assert place.told() == (Level.OK, f"esis-slurm 0.1.0 in {place.packages}")


def test_a_copy_that_was_never_installed_is_well(place: Site) -> None:
    level, message = place.told()
    assert (level, "is not installed" in message) == (Level.OK, True)


@pytest.mark.parametrize(
    "ways",
    [
        {"record": ("esis/__init__.py",)},
        {"files": {"top_level.txt": "esis\n"}},
        {"files": {"entry_points.txt": COMMAND.format("searcher.main:run")}},
    ],
    ids=["RECORD", "top_level.txt", "command"],
)
@pytest.mark.parametrize("ours", [True, False])
def test_a_stranger_is_a_problem_however_its_package_or_command_is_told(
    place: Site, ways: dict[str, object], ours: bool
) -> None:
    """Its version is no sign of anything: it has had those of ours."""
    if ours:
        place.install_ours()
    place.install("esis", {**STRANGER, **ways.get("files", {})}, "0.2.0", ways.get("record", ()))  # type: ignore
    level, message = place.told()
    assert level is Level.PROBLEM
    assert message.startswith(f"the distribution esis 0.2.0 in {place.packages} is not ESIS, ")
    assert message.endswith(f"; {advice('esis-slurm')}")
    assert "wrote over" not in message


def test_what_the_stranger_wrote_over_is_named(place: Site) -> None:
    place.install_ours()
    (place.package / "__init__.py").write_text("# theirs\n")
    place.install("esis", STRANGER, "0.2.0", ("esis/__init__.py",))
    assert "it wrote over esis/__init__.py (changed or missing); " in place.told()[1]


def test_a_distribution_of_that_name_without_that_package_and_command_is_nobodys_business(place: Site) -> None:
    place.install_ours()
    place.install("esis", {**STRANGER, "entry_points.txt": "[console_scripts]\nsearch = searcher:run\n"}, "0.2.0")
    (place.packages / "esis-9.dist-info").mkdir()  # an interrupted pip left it
    assert place.told()[0] is Level.OK


@pytest.mark.parametrize("version", ["0.0.4", "0.1.0.dev3", "0.1.0"])
@pytest.mark.parametrize("ours", [True, False])
def test_the_old_name_of_esis_is_a_note(place: Site, version: str, ours: bool) -> None:
    if ours:
        place.install_ours()
    place.install(
        "esis",
        {"METADATA": OLD["METADATA"].format(version), "entry_points.txt": COMMAND.format("esis.__main__:start")},
        version,
        ("esis/__init__.py",),
    )
    level, message = place.told()
    assert level is Level.NOTE
    assert message.startswith(f"ESIS is installed under its old name, esis {version}, in ")
    assert message.endswith(f"; {advice('esis-slurm')}")


def test_an_old_installation_that_a_setup_py_linked_is_known_by_its_summary(place: Site) -> None:
    about = place.packages / "esis.egg-info"
    about.mkdir()
    (about / "PKG-INFO").write_text(OLD["METADATA"].format("0.0.4"))
    (about / "top_level.txt").write_text("esis\n")
    assert place.told()[0] is Level.NOTE


def test_a_stranger_outranks_an_old_name(place: Site, tmp_path: Path) -> None:
    """Of two directories of packages the first has the old ESIS, the second the stranger."""
    second = Site(tmp_path / "second")
    place.install("esis", OLD, "0.1.0", ("esis/__init__.py",))
    second.install("esis", STRANGER, "0.2.0", ("esis/__init__.py",))
    found = check_installation([str(place.packages), str(second.packages)], place.package)
    assert (found.level, str(second.packages) in found.message) == (Level.PROBLEM, True)


@pytest.mark.parametrize("editable", [True, False])
def test_the_advice_installs_from_where_it_came(place: Site, tmp_path: Path, editable: bool) -> None:
    """A checkout is installed again from there, if it is still there, else by its name."""
    checkout = tmp_path / "a checkout"
    place.install_ours(checkout, editable)
    place.install("esis", STRANGER, "0.2.0", ("esis/__init__.py",))
    assert place.told()[1].endswith(advice("esis-slurm"))
    checkout.mkdir()
    assert place.told()[1].endswith(advice(*["-e"] * editable, str(checkout)))


@pytest.mark.parametrize("text", ["[]", "{", '{"url": 3}', '{"url": "file://[", "dir_info": 1}'])
def test_an_odd_origin_is_none(place: Site, text: str) -> None:
    place.install("esis_slurm", {"METADATA": "Name: esis-slurm\nVersion: 0.1.0\n", "direct_url.json": text})
    place.install("esis", STRANGER, "0.2.0", ("esis/__init__.py",))
    assert place.told()[1].endswith(advice("esis-slurm"))


@pytest.mark.parametrize("gone", [True, False])
def test_files_that_are_not_those_of_the_record_are_a_problem(place: Site, gone: bool) -> None:
    """As `pip uninstall` of the stranger leaves them, or another program of the same name."""
    place.install_ours()
    for name in ("__init__.py", "version.py"):
        (place.package / name).unlink()
        if not gone:
            (place.package / name).write_text("# theirs\n")
    level, message = place.told()
    assert (level, "esis/__init__.py and 1 more (changed or missing)" in message) == (Level.PROBLEM, True)
    assert message.endswith(" install --force-reinstall --no-deps esis-slurm")


def test_another_esis_first_on_path_is_a_note(place: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.install_ours()
    other = tmp_path / "other" / "esis"
    other.parent.mkdir()
    other.touch(0o755)
    monkeypatch.setenv("PATH", f"{other.parent}:{place.command.parent}")
    level, message = place.told()
    assert (level, f"is {other}, not this one, {place.command}: " in message) == (Level.NOTE, True)
    other.unlink()
    other.symlink_to(place.command)  # as pipx does
    assert place.told()[0] is Level.OK
    monkeypatch.setenv("PATH", str(tmp_path))
    assert place.told()[0] is Level.OK


def test_another_copy_of_the_package_is_a_note(place: Site, tmp_path: Path) -> None:
    place.install_ours()
    found = check_installation([str(place.packages)], tmp_path / "checkout" / "esis")
    assert (found.level, "PYTHONPATH" in found.message) == (Level.NOTE, True)
