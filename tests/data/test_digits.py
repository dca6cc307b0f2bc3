"""The digits are those of scikit-learn, split once and for all."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from lipnets import data


def test_digits_are_split_by_class_in_two_thirds_and_one() -> None:
    dataset = data.load("digits", data_dir="nowhere")
    pixels, labels = load_digits(return_X_y=True)
    assert (len(dataset.train), len(dataset.test)) == (1198, 599)
    assert dataset.img_size == (8, 8)
    assert dataset.classes == tuple("0123456789")
    held_out = dataset.test.labels.bincount().numpy()
    assert np.abs(held_out - np.bincount(labels) / 3).max() <= 1

    both = torch.cat([dataset.train.images, dataset.test.images]).reshape(1797, 64).numpy()
    targets = torch.cat([dataset.train.labels, dataset.test.labels]).numpy()
    ours = np.column_stack([both * 16, targets])
    theirs = np.column_stack([pixels, labels])
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


def test_the_split_does_not_depend_on_the_seeds_of_libraries() -> None:
    sums = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        sums.add(data.load("digits").sha256)
    assert len(sums) == 1
