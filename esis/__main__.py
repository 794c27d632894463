"""Let `python -m esis` do what the command `esis` does."""

from esis.cli.main import run

if __name__ == "__main__":
    run()
