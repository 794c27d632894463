#!/bin/bash
# Runs once, in wrkdir/, before any task.
set -eu
python3 -c 'import sys; sys.exit(sys.version_info < (3, 9) and "This scan needs Python 3.9 or newer.")'
python3 --version >python.version
# Compile the modules now, so that not every task does it anew.
python3 -m compileall -q includes
