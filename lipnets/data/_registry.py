"""The table of data sets; their modules add to it."""

__all__ = ["datasets"]

from ..registry import Registry
from .dataset import Dataset

datasets: Registry[Dataset] = Registry("data set")
