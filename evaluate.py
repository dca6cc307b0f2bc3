"""Examines trained networks: `python evaluate.py --help`."""

import sys

from lipnets.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
