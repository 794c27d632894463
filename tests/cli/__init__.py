"""The command line itself: its streams, signals, exit codes."""
