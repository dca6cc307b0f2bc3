"""Metrics: what one number an example, or an average of examples, says about a classifier.

All are pure functions of logits, labels, radii and scores.  Conventions:

- The prediction is the class of the largest logit, the first one on ties.  A row that holds a
  logit that is not finite predicts nothing: it is wrong, whatever the label.
- An average is a total over all examples divided by their number, never a mean of batch means.
- Certified accuracy is strict: radius > ε.  The ball that a radius certifies is open, and a tie
  has radius 0, so that the certified accuracy at 0 leaves ties out, where the accuracy does not.
- Scores that tell known images from unknown ones are high for known ones, which are the positives.
"""

__all__ = [
    "RADII",
    "RADII_LINF",
    "Bins",
    "CertifiedCurve",
    "Difference",
    "Separation",
    "accuracy",
    "bootstrap_mean",
    "brier",
    "calibration_error",
    "certified_accuracy",
    "clopper_pearson",
    "clopper_pearson_low",
    "correct",
    "dkw",
    "fit_temperature",
    "log_probabilities",
    "margins",
    "mcnemar",
    "mean_radius",
    "mean_radius_of_correct",
    "negative_log_likelihoods",
    "paired_difference",
    "predictions",
    "reliability",
    "separation",
    "standard_radii",
]

from .calibration import (
    Bins,
    brier,
    calibration_error,
    fit_temperature,
    log_probabilities,
    negative_log_likelihoods,
    reliability,
)
from .classification import accuracy, correct, margins, predictions
from .curves import (
    RADII,
    RADII_LINF,
    CertifiedCurve,
    certified_accuracy,
    mean_radius,
    mean_radius_of_correct,
    standard_radii,
)
from .detection import Separation, separation
from .intervals import (
    Difference,
    bootstrap_mean,
    clopper_pearson,
    clopper_pearson_low,
    dkw,
    mcnemar,
    paired_difference,
)
