"""Trains a certified network: `python train.py --help`."""

import sys

from lipnets.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
