"""The certificate of a classifier: what is proved of it, and what follows for images."""

__all__ = ["Certificate", "Norm"]

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from .. import certificate_file
from ..atomic import write_atomic
from ..bands import band_constants
from ..bounds import Bound, NotCertifiedError, Shape, chain, without_autocast
from ..export import export
from ..linalg import U
from ..program import lower
from ..rounding import FLOAT64, Analysis, Arithmetic, Ball, norms
from ..rounding import arithmetic as as_arithmetic
from ..tighter import LocalBounds, local_radii, tighter_pairs
from ._fingerprints import hashes, state
from ._margins import check_images, check_labels, column, margin_errors, nearest, slopes_of

Norm = Literal["l2", "linf", "l1"]


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is proved of a classifier, and the program it is proved of.

    Arguments:
        bound: The bound of the whole network and its derivation.
        slopes: Bounds of the Lipschitz constants L_ij of the margins f_i − f_j, with shape (K, K),
            in float64.
        shape: The shape of one image, without batch dimension.
        weights: The SHA-256 of each stored tensor of the program.
        program: The exported network in operations, in float64; None where only bounds are of interest.
        arithmetic: The arithmetic of the program that the certificate is about.
        band: The band of spatial frequencies that perturbations are confined to, or None.
        tighter: The derivation of a bound below the product of the layers', or None: see `tightened`.
    """

    bound: Bound
    slopes: Tensor
    shape: Shape
    weights: dict[str, str]
    program: nn.Module | None = field(default=None, repr=False)
    arithmetic: str = "float64"
    band: tuple[float, float] | None = None
    tighter: Bound | None = None
    _facts: Analysis = field(default_factory=Analysis, repr=False)
    _state: tuple[Any, ...] | None = field(
        default=None, repr=False
    )  # of the program: see `_fingerprints`

    @property
    def lipschitz(self) -> float:
        """A bound of the Lipschitz constant of the logits, for the ℓ2 norm."""
        return self.bound.value

    @property
    def num_classes(self) -> int:
        return len(self.slopes)

    @property
    def assumptions(self) -> frozenset[str]:
        """What radii rest on beside conventional arithmetic: "R3" of `rounding`, for smooth activations.

        Raises:
            ValueError: If the certificate was loaded without its network.
            NotCertifiedError: If no rule bounds the rounding of an operation.
        """
        program = self._unchanged()
        analysis = Analysis(FLOAT64, self._facts)
        analysis(program, self.shape, Ball(norm=1.0))
        return frozenset(analysis.assumptions)

    @property
    def vacuous(self) -> bool:
        """Whether there is a single class: no perturbation can change the prediction."""
        return self.num_classes == 1

    @torch.no_grad()
    def logits(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Runs the certified program.

        Arguments:
            images: The images, with shape (B, *shape), in [0, 1] and floating point.
            batch_size: The number of images at a time.

        Returns:
            The logits, with shape (B, K), in float64.
        """
        if self.program is None:
            raise ValueError("This certificate was loaded without its network: certify the model.")
        check_images(images, self.shape)
        device = next((p.device for p in self.program.parameters()), torch.device("cpu"))
        with without_autocast(self.program):
            parts = [  # of copies, since the program may work in place
                self.program(batch.to(device, torch.float64, copy=True))
                for batch in images.split(batch_size)
            ]
        return torch.cat(parts).cpu()

    def radii(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int = 256,
        *,
        arithmetic: str | Arithmetic = FLOAT64,
        norm: Norm = "l2",
        top: int = 1,
    ) -> Tensor:
        """Radii around images in which the prediction of a program stays the label.

        Logits are computed in float64 in any case.  In another arithmetic than that, activations
        are measured at each image, which costs as much again and makes errors smaller.

        The label stays among the `top` largest logits until as many other classes have overtaken
        it: their radii are the k smallest at the earliest.  For d coordinates, ‖δ‖₂ ≤ √d ‖δ‖_∞ and
        ‖δ‖₂ ≤ ‖δ‖₁: balls of the other norms are taken to be within one of ℓ2.

        Arguments:
            images: The images, with shape (B, *shape), in [0, 1] and floating point.
            labels: The classes, with shape (B,).
            batch_size: The number of images at a time.
            arithmetic: That of the program that is deployed, one of `rounding.ARITHMETICS`.
            norm: Of perturbations, "l2", "linf" or "l1".
            top: The number k of largest logits among which the label should stay.

        Returns:
            The radii, in the units of `images`, with shape (B,): negative where the prediction
            is wrong, 0 for ties and for logits that are not finite, infinite for a single class.

        Raises:
            ValueError: If images or labels are not as described.
            NotCertifiedError: If no rule bounds the rounding of an operation.
        """
        check_labels(labels, len(images), self.num_classes)

        def found(batch: Tensor, own: Tensor) -> Tensor:
            logits = self.logits(batch, batch_size)
            return self.radii_of(
                logits, own, arithmetic=arithmetic, norm=norm, top=top, images=batch
            )

        return self._by_batches(found, batch_size, images, labels)

    def predict(
        self,
        images: Tensor,
        radius: float = 0.0,
        batch_size: int = 256,
        *,
        arithmetic: str | Arithmetic = FLOAT64,
        norm: Norm = "l2",
    ) -> Tensor:
        """Predicts classes, and abstains where a perturbation of a radius might change one.

        Of an image that is answered, no image within the radius is given another class by the program:
        it may be abstained from.

        Arguments:
            images: The images, with shape (B, *shape), in [0, 1] and floating point.
            radius: The radius, in the units of `images`.
            batch_size: The number of images at a time.
            arithmetic: That of the program that is deployed.
            norm: Of perturbations, "l2", "linf" or "l1".

        Returns:
            The classes, −1 where it abstains, with shape (B,).
        """
        if not radius >= 0:
            raise ValueError(f"'radius' should not be negative, got {radius}.")

        def found(batch: Tensor) -> Tensor:
            logits = self.logits(batch, batch_size)
            classes = logits.nan_to_num().argmax(dim=1)
            radii = self.radii_of(logits, classes, arithmetic=arithmetic, norm=norm, images=batch)
            return classes.where((radii >= radius) & (radii > 0), -1)

        return self._by_batches(found, batch_size, images)

    def confined_to(self, band: tuple[float, float]) -> "Certificate":
        """The certificate of the same program for perturbations of a band of spatial frequencies.

        Its radii hold for perturbations whose Fourier coefficients vanish outside the band, and are at
        least as large as those for all: see `bands`.

        Arguments:
            band: The radii of the band, in cycles per pixel: the lower one is in it, the upper one not.

        Raises:
            ValueError: If the certificate was loaded without its network, or the band is none.
            NotCertifiedError: If examples are no images, or too large.

        Example:
            >>> from lipnets import certify
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
            >>> certificate = certify(model, (1, 4, 4))
            >>> fine = certificate.confined_to((0.4, 1.0))
            >>> bool((fine.slopes <= certificate.slopes).all())
            True
        """
        if not 0 <= band[0] < band[1]:
            raise ValueError(f"A band should have radii 0 ≤ low < high, got {band}.")
        program = self._unchanged()
        *before, _ = [module for _, module in chain(program)] or [program]
        backbone = nn.Sequential(*before).eval() if before else program
        whole, part = band_constants([program, backbone], self.shape, band)
        slopes = slopes_of(program, whole, part, self.num_classes)
        return replace(self, slopes=torch.minimum(slopes, self.slopes), band=band)

    def tightened(self) -> "Certificate":
        """The certificate of the same program with slopes below the product of the layers' constants.

        Several layers are bounded together: see `tighter`.  It takes seconds.

        Raises:
            ValueError: If the certificate was loaded without its network.

        Example:
            >>> from lipnets import certify
            >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)).eval()
            >>> certificate = certify(model, (4,))
            >>> bool((certificate.tightened().slopes <= certificate.slopes).all())
            True
        """
        found = tighter_pairs(self._unchanged(), self.shape, self._facts, self.slopes)
        tighter = found.bound if found.bound.value < self.bound.value else self.bound
        return replace(self, slopes=torch.minimum(self.slopes, found.pairs), tighter=tighter)

    def local_radii(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int = 64,
        *,
        arithmetic: str | Arithmetic = FLOAT64,
    ) -> Tensor:
        """Radii from what the program does around each image, none below those of `radii`.

        Pieces of activations that are fixed around an image leave it a smaller Lipschitz constant
        there: see `tighter.local`.  Those of `tightened().local_radii` are larger still.

        Arguments:
            images: The images, with shape (B, *shape), in [0, 1] and floating point.
            labels: The classes, with shape (B,).
            batch_size: The number of images at a time.
            arithmetic: That of the program that is deployed.

        Returns:
            The radii, as those of `radii`, with shape (B,).
        """
        check_labels(labels, len(images), self.num_classes)
        program, shape, facts = self._unchanged(), self.shape, self._facts
        bounds = facts.once(program, "local", lambda: LocalBounds(program, shape, facts))

        def found(batch: Tensor, own: Tensor) -> Tensor:
            return local_radii(self, bounds, batch, own, arithmetic)

        return self._by_batches(found, batch_size, images, labels)

    def _by_batches(
        self, found: Callable[..., Tensor], batch_size: int, images: Tensor, *others: Tensor
    ) -> Tensor:
        """What is found of images, a batch at a time."""
        check_images(images, self.shape)
        batches = zip(*(each.split(batch_size) for each in (images, *others)), strict=True)
        return torch.cat([found(*batch) for batch in batches])

    @torch.no_grad()
    def radii_of(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        arithmetic: str | Arithmetic = FLOAT64,
        norm: Norm = "l2",
        top: int = 1,
        images: Tensor | None = None,
    ) -> Tensor:
        """Radii around images of which the logits are known: see `radii`.

        Arguments:
            logits: The logits that the certified program computed, in float64, with shape (B, K).
            labels: The classes, with shape (B,).
            arithmetic: That of the program that is deployed.
            norm: Of perturbations, "l2", "linf" or "l1".
            top: The number k of largest logits among which the label should stay.
            images: The images, with shape (B, *shape); without them, they are taken to be in [0, 1].
        """
        if norm not in get_args(Norm) or top < 1:
            raise ValueError(
                f"'norm' should be one of {get_args(Norm)} and 'top' at least 1, got {norm!r} and {top}."
            )
        check_labels(labels, len(logits), self.num_classes)
        logits, labels = logits.detach().cpu().double(), labels.cpu().long()
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise ValueError(
                f"Logits should have shape (B, {self.num_classes}), got {tuple(logits.shape)}."
            )
        if top >= self.num_classes:
            inside = torch.full((len(logits),), math.inf, dtype=torch.float64)
            return inside.where(logits.isfinite().all(dim=1), 0.0)
        finite = logits.isfinite().all(dim=1)
        logits = logits.where(finite[:, None], torch.zeros_like(logits))
        margins = logits.gather(1, labels[:, None]) - logits  # (B, K)
        exact = nearest(margins, self.slopes, labels, top)  # were nothing rounded
        # The distance of two images in [0, 1] is `diagonal` at the most.
        diagonal = math.sqrt(math.prod(self.shape)) * (1 + 4 * U)
        sizes = torch.full_like(exact, diagonal) if images is None else norms(images)
        # Of images that are not finite, or whose squares are not, nothing is known.
        finite = finite & sizes.isfinite()
        sizes = sizes.where(finite, 0.0)
        # Perturbed images should fit the format, where they would be stored as infinite.
        around = exact.clamp(0, min(1024 * diagonal, as_arithmetic(arithmetic).largest / 4))
        errors = self.errors(labels, sizes) + self.errors(labels, sizes, around, arithmetic, images)
        reduced = (margins * (1 - 2 * U) - errors * (1 + 4 * U)).clamp_min(0)
        # Where the prediction is wrong there is nothing to certify: how far it is off, as computed.
        radii = nearest(margins.where(margins <= 0, reduced), self.slopes, labels, top)
        radii = torch.minimum(radii, around).where(radii > 0, radii)
        if norm == "linf":
            radii = radii / math.sqrt(math.prod(self.shape)) * (1 - 4 * U)
        return radii.where(finite, torch.zeros_like(radii))

    def unrounded(self, logits: Tensor, labels: Tensor, top: int = 1) -> Tensor:
        """What radii would be if programs did not round: to compare with, not to certify.

        Arguments:
            logits: The logits, with shape (B, K).
            labels: The classes, with shape (B,).
            top: The number k of largest logits among which the label should stay.

        Returns:
            The radii, ℓ2 in the units of images, with shape (B,).
        """
        logits, labels = logits.detach().cpu().double(), labels.cpu().long()
        return nearest(logits.gather(1, labels[:, None]) - logits, self.slopes, labels, top)

    @torch.no_grad()
    def errors(
        self,
        labels: Tensor,
        sizes: Tensor,
        radii: Tensor | float = 0.0,
        arithmetic: str | Arithmetic = FLOAT64,
        images: Tensor | None = None,
    ) -> Tensor:
        """Bounds of what a program rounds in the margins of labels, around images.

        Arguments:
            labels: The classes y, with shape (B,).
            sizes: Bounds of the norms of images, with shape (B,).
            radii: How far from the images inputs are, with shape (B,).
            arithmetic: That of the program.
            images: The images, with shape (B, *shape), to measure activations at; they are not in float64,
                where errors are small without.

        Returns:
            Bounds of |(F_y − F_j) − (f_y − f_j)|, with shape (B, K).

        Raises:
            ValueError: If the certificate was loaded without its network.
            NotCertifiedError: If no rule bounds the rounding of an operation, or the program was changed.
        """
        program, labels = self._unchanged(), labels.cpu().long()
        analysis = Analysis(arithmetic, self._facts)
        unit = analysis.arithmetic.unit
        lost = analysis.arithmetic.tiny * math.sqrt(math.prod(self.shape))  # what underflows
        reach = ((sizes + radii) * (1 + unit) + lost) * (1 + 8 * U)
        ball = Ball(norm=reach, error=unit * reach + lost)
        if images is not None and analysis.arithmetic != FLOAT64:
            device = next((p.device for p in program.parameters()), torch.device("cpu"))
            center = images.to(device, torch.float64)
            ball = Ball(ball.norm, ball.error, center=center, drift=radii + ball.error)
        errors = self.margin_errors(program, ball, analysis, labels)
        # A pixel above the largest number is stored as infinite.
        return errors.where(column(reach < analysis.arithmetic.largest, labels).bool(), math.inf)

    def _unchanged(self) -> nn.Module:
        """The program, if it is the one that was certified.

        Raises:
            ValueError: If the certificate was loaded without it.
            NotCertifiedError: If its weights or settings were changed since.
        """
        if self.program is None:
            raise ValueError("This certificate was loaded without its network: certify the model.")
        if self._state is not None and state(self.program) != self._state:
            raise NotCertifiedError(
                "The program of this certificate was changed since it was certified: certify what it "
                "is now."
            )
        return self.program

    def margin_errors(
        self, program: nn.Module, ball: Ball, analysis: Analysis, labels: Tensor
    ) -> Tensor:
        """Bounds of what a program rounds in the margins of labels: see `errors`.

        Arguments:
            program: The certified program, or another one of the same real function and head.
            ball: The ball of its inputs.
            analysis: The analysis that bounds what it rounds.
            labels: The classes y, with shape (B,).
        """
        return margin_errors(program, self.shape, ball, analysis, labels, self.num_classes)

    def save(
        self,
        path: str | os.PathLike[str],
        images: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        """Writes the certificate as an `.npz` file without pickles, whole or not at all.

        It holds the program, what is proved of each of its operations, and of images their logits
        and radii: `python -m lipnets.verify` proves all of it again.  What is claimed in a file is a
        little less than what was proved: see `certificate_file`.

        Arguments:
            path: The file.
            images: Images to say the radii of, with shape (B, *shape), in [0, 1].
            labels: Their classes, with shape (B,).

        Raises:
            ValueError: If the certificate has no program, or images or labels are not as described.
            NotCertifiedError: If images are given, and no rule bounds the rounding of an operation or
                it has no form in files.
        """
        self._unchanged()
        if self.band is not None:
            raise ValueError(
                "Files are of all perturbations, not of a band: save the certificate it is of."
            )
        if images is not None:
            check_images(images, self.shape)
            if labels is None:
                raise ValueError("Images to be stored should have a label each, got none.")
            check_labels(labels, len(images), self.num_classes)
        write_atomic(path, certificate_file.write(self, images, labels))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Certificate":
        """Reads a certificate, and proves it anew: the program of the file is certified as it stands.

        Raises:
            ValueError: If the file is not a certificate of this format, or is damaged; if its program
                does not support the bounds that it claims, or has no form in files.
        """
        content = Path(path).read_bytes()
        try:
            meta, program = certificate_file.read(content)
            from . import certify  # which imports this module

            certificate = certify(program, tuple(meta["shape"]))
            certificate_file.refuse_claims(certificate, meta)
        except Exception as error:
            raise ValueError(f"'{path}' is not a readable certificate: {error}.") from error
        return replace(certificate, weights=meta["weights"])

    def matches(self, model: nn.Module) -> bool:
        """Whether a model is the one that the certificate was proved of, bit by bit.

        Its stored tensors have the same hashes; and the operations that it is lowered to, if the certificate
        has them, are the same with the same numbers: a file may say of hashes what it likes.
        """
        plain = export(model, self.shape)
        if hashes(plain) != self.weights:
            return False
        if self.program is None:
            return True
        lowered = lower(plain.double(), self.shape)
        return certificate_file.same_program(lowered, self.program, self.shape)
