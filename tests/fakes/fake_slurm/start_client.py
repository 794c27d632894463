"""Run one client; called by path, without site packages, by the executables in bin/."""

from __future__ import annotations

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from fake_slurm.program import main  # type: ignore[import-not-found,unused-ignore] # noqa: E402

sys.exit(main(sys.argv[1], sys.argv[2:]))
