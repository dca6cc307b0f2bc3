"""Pickles give arrays of bytes, and never do anything."""

import os
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from lipnets import data
from lipnets.data import cifar
from lipnets.data.unpickling import load_arrays


class _Calls:
    """An object that is pickled as a call."""

    def __init__(self, function: Callable, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


def test_arrays_and_lists_are_read(py2_pickle) -> None:
    array = np.random.default_rng(0).integers(256, size=(4, 300)).astype(np.uint8)
    loaded = load_arrays(py2_pickle(array, [3, 0, 255], "labels"), "it")
    assert set(loaded) == {b"batch_label", b"labels", b"data"}
    assert loaded[b"labels"] == [3, 0, 255]
    assert loaded[b"batch_label"] == b"a batch"
    assert loaded[b"data"].dtype == np.uint8
    assert np.array_equal(loaded[b"data"], array)


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path, protocol) -> None:
    mark = tmp_path / "ran"
    attacks = [
        _Calls(os.mkdir, str(mark)),
        _Calls(eval, f"__import__('os').mkdir({str(mark)!r})"),
        {"data": _Calls(os.system, f"mkdir {mark}")},
    ]
    for attack in attacks:
        content = pickle.dumps(attack, protocol=protocol)
        with pytest.raises(ValueError, match=r"it asks for '.*\.(mkdir|eval|system)'"):
            load_arrays(content, "it")
        assert not mark.exists()
        pickle.loads(content)  # the attack is real
        assert mark.exists()
        mark.rmdir()


def test_a_malicious_file_is_refused_even_if_it_is_not_verified(tmp_path, lay) -> None:
    mark = tmp_path / "ran"
    content = pickle.dumps(_Calls(os.mkdir, str(mark)), protocol=2)
    lay(tmp_path, dict.fromkeys(cifar.CIFAR10_PYTHON.sums, content))
    with pytest.raises(ValueError, match="SHA-256"):
        data.load("cifar10", data_dir=tmp_path)
    with pytest.raises(ValueError, match="it asks for"):
        data.load("cifar10", data_dir=tmp_path, verify=False)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        b"\x80\x02}",  # no end
        b"cnumpy\nload\n.",  # another name of a known module
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"cnumpy\nndarray\n}b.",  # a state for the class itself
        b"cnumpy\ndtype\n(N}tb.",
        b"cnumpy.core.multiarray\n_reconstruct\n(N}tb.",
        b"\x82\x01.",  # a name from the table of extensions
        b"P1\n.",  # a name from outside
        b"](K\x01e.",  # a list
        b"N.",
    ],
)
def test_damaged_and_odd_pickles_are_refused(content) -> None:
    with pytest.raises(ValueError, match=r"^it "):
        load_arrays(content, "it")


@pytest.mark.parametrize("code", [b"O8", b"f8", b"i2"])
def test_arrays_of_other_things_are_refused(py2_pickle, code) -> None:
    content = py2_pickle(np.zeros((2, 8), np.uint8), [1], "labels", code)
    with pytest.raises(ValueError, match="arrays of bytes only"):
        load_arrays(content, "it")


def test_an_array_with_a_false_shape_is_refused(py2_pickle) -> None:
    content = py2_pickle(np.zeros((2, 8), np.uint8), [1], "labels")
    shape = b"J\x02\x00\x00\x00J\x08\x00\x00\x00\x86"
    assert shape in content
    with pytest.raises(ValueError, match="arrays of bytes only"):
        load_arrays(content.replace(shape, shape.replace(b"\x08", b"\x09")), "it")
