"""The command line: options, rendering and exit codes; what a command does is in esis.operations."""
