"""What a command line runs: `train.py` and `evaluate.py` of a clone, and the commands that a wheel brings.

Nothing is imported here: each command sets what torch reads once before it imports torch.
"""
