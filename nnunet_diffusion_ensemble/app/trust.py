"""How far to trust a prediction, in plain sentences made of its numbers.

Where the model has a calibration, the verdict is the Dice that it predicts, with its interval and what that rests on.
Otherwise none of the numbers has a threshold of its own: the image is compared with the model's training images, and
how well timesteps agree is told in words for orientation.
"""

from collections.abc import Sequence

import numpy as np

from nnunet_diffusion_ensemble.app.look import Inspection

UNDECIDED = 0.5  # entropy, where 1 is that all classes are as likely
NEARLY_THE_SAME, SIMILAR = 0.95, 0.85  # mean Dice between timesteps, for words
CAUTION = "These numbers are hints, not a verdict, and nothing here is meant for diagnosis."


def trust_sentences(look: Inspection) -> str:
    """A verdict in bold, what it rests on, and where to look; Markdown."""
    told = (*_dice_sentences(look), *_image_sentences(look), *_outline_sentences(look), CAUTION)
    return "\n".join([f"**{_verdict(look)}**\n", *(f"- {sentence}" for sentence in told)])


def is_unusual(score: float, training_scores: Sequence[float]) -> bool:
    """Whether a score lies outside those of the training images; blurred images have too low a score."""
    return bool(training_scores) and not min(training_scores) <= score <= max(training_scores)


def _verdict(look: Inspection) -> str:
    prediction, score = look.prediction, look.prediction.score
    if not prediction.segmentation.any():
        return "The model finds nothing in this image."
    if _is_unlike(look):
        return "Do not rely on this outline without checking all of it: the image is unlike those of the training."
    if (dice := look.expected_dice) is not None:
        return f"Expect a Dice of about {dice.predicted:.2f}, between {dice.lower:.2f} and {dice.upper:.2f}."
    agreement = prediction.timestep_dice
    if agreement is not None and agreement < SIMILAR:
        return "Do not rely on this outline without checking all of it: the timesteps draw different ones."
    if agreement is None or (score is not None and not look.training_scores) or score is None:
        return "Check all of this outline: too little is known to compare the image with those of the training."
    return "Nothing speaks against this outline; check it where the entropy is high."


def _dice_sentences(look: Inspection) -> list[str]:
    """What a predicted Dice rests on, or why there is none."""
    fit, found = look.calibration, look.expected_dice
    if fit is None or not look.prediction.segmentation.any():
        return []
    if isinstance(fit, str):
        return [f"No Dice is predicted: {fit.rstrip('.')}."]
    rests_on = (
        f"{fit.num_cases} labelled cases that the training had not seen (nnunet-diffusion calibrate), by "
        f"{', '.join(name.replace('_', ' ') for name in fit.scores)}"
    )
    if found is None:
        return [f"No Dice is predicted: the image lacks one of the scores that it would rest on ({rests_on})."]
    if _is_unlike(look):
        return [f"Its Dice cannot be told: what is known rests on {rests_on}, and this image is none of their kind."]
    proved = "" if fit.promised == fit.coverage else f", proved for {fit.promised:.0%}"
    return [
        f"Dice is 1 where outline and truth are the same. This rests on {rests_on}; the interval is made to hold for "
        f"{fit.coverage:.0%} of cases like those{proved}, and not for those of another hospital."
    ]


def _is_unlike(look: Inspection) -> bool:
    """Whether the image is unlike those of the training, as far as that is known."""
    score = look.prediction.score
    return score is not None and is_unusual(score, look.training_scores)


def _image_sentences(look: Inspection) -> list[str]:
    score, known = look.prediction.score, look.training_scores
    if score is None:
        return ["The model has no denoiser that could tell whether the image is unusual."]
    if not known:
        return [
            f"The denoising error is {score:.3f}; those of training images, which it should be compared with, are not "
            "known here (set nnUNet_preprocessed to where the training images lie)."
        ]
    spread = f"{min(known):.3f} to {max(known):.3f} for {len(known)} training images"
    where = "which is beyond" if is_unusual(score, known) else "which is among"
    return [f"The denoising error is {score:.3f}, {where} those of the training ({spread})."]


def _outline_sentences(look: Inspection) -> list[str]:
    prediction = look.prediction
    sentences = []
    if prediction.timesteps is not None and prediction.timestep_dice is not None:
        agreement = prediction.timestep_dice
        how = (
            "nearly the same outline"
            if agreement >= NEARLY_THE_SAME
            else "similar outlines"
            if agreement >= SIMILAR
            else "different outlines"
        )
        sentences.append(f"Its {len(prediction.timesteps)} timesteps draw {how} (mean Dice {agreement:.3f}).")
    foreground = prediction.segmentation != 0
    if foreground.any():
        undecided = int(np.count_nonzero(prediction.entropy > UNDECIDED))
        share = 100 * undecided / int(np.count_nonzero(foreground))
        area = f"an area of {share:.0f}% of what it marks" if share <= 100 else "a larger area than it marks"
        sentences.append(f"The model is undecided about {area}.")
    return sentences


def score_rows(look: Inspection) -> list[list[str]]:
    """For a table: the score of the image, and of the training images the lowest, the median and the highest."""
    score, known = look.prediction.score, look.training_scores
    if score is None:
        return []
    rows = [["this image", f"{score:.3f}"]]
    if known:
        named = {"lowest": min(known), "median": float(np.median(known)), "highest": max(known)}
        rows += [[f"training images, {name}", f"{value:.3f}"] for name, value in named.items()]
    return rows
