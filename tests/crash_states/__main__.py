"""Start `tests.crash_states.tries`."""

import sys

from tests.crash_states.tries import main

if __name__ == "__main__":  # not in the processes that it starts
    sys.exit(main())
