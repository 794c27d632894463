"""What a command made for a while doesn't outlast it, whatever signal ends it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.contract.site import FakeSite, make_workflow


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_dry_run_that_is_ended_leaves_no_directory(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    script = f'#!/bin/sh\nls "$TMPDIR" >"{tmp_path}/seen"\nkill -{int(number)} $PPID\nexec sleep 60\n'
    flow = make_workflow(FakeSite(tmp_path), "w", 2)
    (flow.directory / "gen.py").write_text(script)
    ended = flow.esis("run", "--dry-run")
    assert (ended.code, ended.stderr.splitlines()[-1:]) == (130, ["esis: interrupted"])
    assert (tmp_path / "seen").read_text().startswith("esis-")
    assert os.listdir(place) == []
