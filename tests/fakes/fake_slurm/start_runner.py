"""Start a detached runner; called by path, without site packages."""

from __future__ import annotations

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from fake_slurm.runner import detached  # type: ignore[import-not-found,unused-ignore] # noqa: E402

detached(sys.argv[1])
