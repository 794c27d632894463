"""What the commands do, callable without the command line: nothing here prints, exits or imports click."""
