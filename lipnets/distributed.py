"""Training by several processes, started by `torchrun`: what each of them computes, and who speaks.

References:
    | PyTorch Distributed: Experiences on Accelerating Data Parallel Training (Li et al., 2020)
    | https://arxiv.org/abs/2006.15704: gradients, averaged by torch

Every process, or rank, draws each batch whole, from the same seeds, and computes the logits of its part.
These are gathered, so that every rank has the loss of the batch, whatever that makes of it: a part may be
smaller than others, or empty, and no part has to be weighed.  Means over the batch inside of layers are
those of the whole batch as well.  So the weights become those that one process gives them, up to rounding,
and are the same on all ranks, to the bit.

The first rank alone writes and speaks.  Where there is one process, nothing here does anything.
"""

__all__ = [
    "batch_mean",
    "command",
    "device_name",
    "from_first",
    "gathered",
    "is_first",
    "parallel",
    "rank",
    "size",
    "started",
    "tell_first",
    "was_told",
    "whole_batch",
]

import io
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

T = TypeVar("T")
Forward = Callable[[Tensor], Tensor]  # images (B, C, H, W) to logits (B, K)

# The first rank may certify for hours while others wait; torchrun ends all when one of them fails.
_PATIENCE = timedelta(days=7)
_HEARING = timedelta(seconds=5)  # what the first rank has to tell the mistake that all ranks made
_EAR = 1.0  # seconds between two looks at what others have told

_store: Store | None = None  # what ranks tell each other in besides collectives, from `command` on
_looked = 0.0  # when the first rank last did


def started() -> bool:
    """Whether this is one of the processes of `command`."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process, from 0 on."""
    return dist.get_rank() if started() else 0


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def size() -> int:
    """The number of processes that compute together."""
    return dist.get_world_size() if started() else 1


def command(main: Callable[[], int]) -> int:
    """Runs a command, together with the other processes if `torchrun` started this one.

    The first rank speaks for all.  What others would have said is left out, unless one fails alone.

    Arguments:
        main: The command, which returns its exit status.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        return main()
    shared, number, count = next(rendezvous("env://"))
    global _store
    _store = store = PrefixStore("lipnets", shared)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=_PATIENCE)
    status = _lead(main, store) if number == 0 else _follow(main, store)
    if status == 0:  # else others may wait for what will not come: torchrun ends them
        dist.destroy_process_group()
    return status


def device_name(name: str) -> str:
    """The device of this process among those of its machine: each has a GPU of its own."""
    if not started() or name != "cuda":
        return name
    return f"cuda:{os.environ.get('LOCAL_RANK', rank())}"


def from_first(value: Callable[[], T]) -> T:
    """What a function returns on the first rank, the only one that calls it.

    Arguments:
        value: A function that returns tensors and plain data.
    """
    if not started():
        return value()
    found = value() if is_first() else None
    buffer = io.BytesIO()
    if is_first():
        torch.save(found, buffer)
    size = torch.tensor(len(buffer.getbuffer()), dtype=torch.int64)
    dist.broadcast(size, 0)
    content = torch.empty(int(size), dtype=torch.uint8)
    if is_first():
        content = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
    dist.broadcast(content, 0)
    if found is None:
        found = torch.load(io.BytesIO(content.numpy().tobytes()), weights_only=True)
    return found  # pyright: ignore[reportReturnType]


def gathered(value: T) -> list[T]:
    """The values of all ranks, in their order: plain data."""
    if not started():
        return [value]
    values: list[Any] = [None] * size()
    dist.all_gather_object(values, value)
    return values


def tell_first(word: str) -> None:
    """Tells the first rank something, from any rank, at any time: see `was_told`."""
    if _store is not None:
        with suppress(RuntimeError):  # there is nobody to tell
            _store.set(word, "")


def was_told(word: str) -> bool:
    """Whether a rank has told the first one this; on the first, which looks once a second at most.

    It is told everything if `torchrun`, which keeps what is told, is gone.
    """
    global _looked
    if _store is None or time.monotonic() < _looked + _EAR:
        return False
    _looked = time.monotonic()
    try:
        return _store.check([word])
    except RuntimeError:
        return True


def parallel(model: nn.Module) -> nn.Module:
    """The model with gradients that are averaged over ranks; the model itself if there is one."""
    if not started():
        return model
    devices = {each.device for each in model.parameters() if each.is_cuda}
    return nn.parallel.DistributedDataParallel(model, device_ids=list(devices) or None)


def whole_batch(forward: Forward, model: nn.Module) -> Forward:
    """The forward of a batch, of which each rank computes a part, and has the logits of all.

    Gradients of the logits are multiplied with the number of ranks: the average over ranks of the
    gradients of weights is then the gradient of the loss.

    Arguments:
        forward: What `parallel` of the model computes, of a part.
        model: The model.
    """
    if not started():
        return forward
    normalizes = any(isinstance(each, _BatchNorm) for each in model.modules())

    def whole(images: Tensor) -> Tensor:
        part = _Part.of(len(images))
        # Some layers take no empty batch: a rank without images computes one, and leaves it out.
        own = images[part.start : part.stop] if part.own else images[:1]
        with _sharing(part, normalizes):
            logits = forward(own)[: part.own]
        return _Gather.apply(logits, part)  # pyright: ignore[reportReturnType]

    return whole


def batch_mean(x: Tensor, dim: Sequence[int]) -> Tensor:
    """The mean over axes, the first among them; in training by several processes that of the whole batch.

    Arguments:
        x: What is to be averaged, with the examples, or equal shares of them, along the first axis.
        dim: The axes.
    """
    return x.mean(dim=tuple(dim)) if _part is None else _shared_mean(x, tuple(dim), _part)


def _eager(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Leaves a function to Python where torch compiles: what ranks tell each other is no part of it."""
    return torch.compiler.disable(function)  # pyright: ignore[reportReturnType, reportArgumentType]


@dataclass(frozen=True)
class _Part:
    """The examples of a batch that a rank computes, from `start` until `stop` of `whole`."""

    start: int
    stop: int
    whole: int

    @classmethod
    def of(cls, whole: int) -> "_Part":
        """That of this rank: parts differ by one example at most."""
        share, more = divmod(whole, size())
        start = rank() * share + min(rank(), more)
        return cls(start, start + share + (rank() < more), whole)

    @property
    def own(self) -> int:
        return self.stop - self.start

    def count(self, x: Tensor, dim: Sequence[int]) -> int:
        """How many numbers a mean is of, over the whole batch."""
        return math.prod(x.shape[axis] for axis in dim) * self.whole // max(self.own, 1)


_part: _Part | None = None  # of the batch whose forward is being computed; compilers read it too


@contextmanager
def _sharing(part: _Part, normalizes: bool) -> Iterator[None]:
    """Inside, means over the batch are those of all ranks, which have to compute the same ones.

    Not outside: what the first rank measures alone must not wait for others.
    """
    global _part
    _part = part
    try:
        with ExitStack() as stack:
            if normalizes:
                stack.enter_context(_BatchStatistics())
            yield
    finally:
        _part = None


@_eager
def _shared_mean(x: Tensor, dim: tuple[int, ...], part: _Part) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    summed: Any = _Sum.apply((x if part.own else x[:0]).sum(dim=dim, dtype=wide))
    return (summed / part.count(x, dim)).to(x.dtype)


class _BatchStatistics(TorchFunctionMode):
    """Batch normalization of torch by the statistics of the whole batch, on any device.

    `nn.SyncBatchNorm` needs a GPU, and another model: here modules stay what they are.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.batch_norm:
            return _batch_norm(_part, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@_eager
def _batch_norm(
    part: _Part | None,
    x: Tensor,  # (B, C, ...)
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training or part is None:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    axes = (0, *range(2, x.ndim))
    count = part.count(x, axes)
    if count == 1:
        raise ValueError("Batch normalization needs more than one value of each channel.")

    def column(values: Tensor) -> Tensor:
        return values.view(-1, *[1] * (x.ndim - 2))

    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = _shared_mean(wide, axes, part)
    centered = wide - column(mean)
    variance = _shared_mean(centered.square(), axes, part)
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            unbiased = variance * (count / (count - 1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    scale = (variance + eps).rsqrt()
    out = centered * column(scale if weight is None else scale * weight)
    return (out if bias is None else out + column(bias)).to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over ranks, on every rank: what torch.distributed.nn had, until it was deprecated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


class _Gather(torch.autograd.Function):
    """The rows of all ranks, one below the other."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, part: _Part) -> Tensor:
        ctx.part = part
        whole = rows.new_zeros(part.whole, *rows.shape[1:])
        whole[part.start : part.stop] = rows
        dist.all_reduce(whole)  # each row and zeros: exact
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        [gradient], part = gradients, ctx.part
        return gradient[part.start : part.stop] * size(), None


def _lead(main: Callable[[], int], store: Store) -> int:
    try:
        return main()
    except Exception:
        if store.check(["failed"]):  # another rank has told what, and this one has missed it
            return 1
        raise
    finally:
        with suppress(RuntimeError):  # torchrun is gone
            store.set("ended", "")


def _follow(main: Callable[[], int], store: Store) -> int:
    """Runs the command without a word; where it fails and the first rank does not, tells why."""
    said, status = io.StringIO(), 1
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(said):
        try:
            status = main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - told below, or by the first rank
            traceback.print_exc()
    if status:
        try:
            store.wait(["ended"], _HEARING)
        except dist.DistStoreError:  # it has not
            store.set("failed", "")
            sys.stderr.write(f"rank {rank()}: {said.getvalue()}")
        except (
            RuntimeError
        ):  # torchrun is gone, and with it all who could be told; the first rank says so
            pass
    return status
