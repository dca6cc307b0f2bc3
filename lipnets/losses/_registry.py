"""The table of losses by name, in a module of its own so that every loss can import it."""

__all__ = ["registry"]

from ..registry import Registry
from ._loss import Loss

registry: Registry[Loss] = Registry("loss")
