"""How often each case is listed in a fold, so that nnU-Net's loader, which draws evenly, draws a share of true labels.

nnU-Net draws the cases of a batch independently and with replacement from the fold's list. A case that is listed k
times is drawn k times as often, by any trainer, without a loader of its own.
"""

from collections.abc import Sequence
from fractions import Fraction

MOST_REPEATED = 8  # of the larger group, so that lists stay short; the share is met within two hundredths


def mixed_cases(true: Sequence[str], pseudo: Sequence[str], true_share: float) -> list[str]:
    """Both groups in one list, repeated so that a share of it is truly labelled.

    Args:
        true: truly labelled cases, one or more.
        pseudo: pseudo-labelled cases; without any, the list is `true`.
        true_share: above 0, below 1.
    """
    if not pseudo:
        return list(true)
    ratio = Fraction(true_share / (1 - true_share)) * len(pseudo) / len(true)
    rounded = max(ratio, 1 / ratio).limit_denominator(MOST_REPEATED)
    of_true, of_pseudo = rounded.as_integer_ratio() if ratio >= 1 else rounded.as_integer_ratio()[::-1]
    return [*true] * of_true + [*pseudo] * of_pseudo
