"""Handwritten digits of 8 x 8 pixels, which come with scikit-learn.

References:
    | Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998)
    | https://archive.ics.uci.edu/dataset/80
"""

__all__ = ["digits"]

import torch

from ._registry import datasets
from .dataset import Dataset, Split
from .splitting import hold_out_third


@datasets.register
def digits() -> Dataset:
    """Loads 1797 grey images of digits, 8 x 8 pixels with values k/16, a third of them held out.

    It needs no file and no network.  The authors publish no test split for this half of their
    data: the one made here is always the same, and stratified by class.
    """
    # An import that takes a second, for those who need it.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).to(torch.float32).reshape(-1, 1, 8, 8) / 16
    train, test = hold_out_third(Split(images, torch.from_numpy(labels).to(torch.int64)))
    return Dataset("digits", train, test, tuple("0123456789"))
