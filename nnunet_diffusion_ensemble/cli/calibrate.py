"""`nnunet-diffusion calibrate`: how far a trained model may be trusted, by labelled cases that it has not seen."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_diffusion_ensemble.cli import predict as cli_predict

if TYPE_CHECKING:
    from nnunet_diffusion_ensemble.calibration.file import Calibration
    from nnunet_diffusion_ensemble.held_out.calibrate import Calibrating, DiceSettings

HELP = "fit temperature and predicted Dice of a trained model on labelled cases that it has not seen"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand; the model is named as for `nnunet-diffusion predict`."""
    cli_predict.add_model_arguments(parser)
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="labelled cases that training has not seen (those that the folds left out), with:",
    )
    parser.add_argument("--references", type=Path, metavar="DIR", help="their label maps, CASE.png and the like")
    parser.add_argument(
        "--coverage",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="of cases whose Dice lies in the interval (%(default)s)",
    )
    parser.add_argument(
        "--conformal", choices=("split", "jackknife+"), help="way of the interval (split if there are cases enough)"
    )
    parser.add_argument(
        "--scores", nargs="+", default=[], metavar="SCORE", help="columns of uncertainty.csv to predict Dice from"
    )
    parser.add_argument("--temperature-only", action="store_true", help="predict no Dice: one case is enough")


def run(args: argparse.Namespace) -> int:
    """Calibrates, with a line for each case, and says what was found."""
    calibrating = _calibrating(args)
    for position, case in enumerate(calibrating.measure_all(), start=1):
        print(f"{position}/{calibrating.num_cases} {case.name}: Dice {case.dice:.3f}", flush=True)
    calibration = calibrating.fit()
    for line in _told(calibration, len(calibrating.measured)):
        print(line)
    print(f"Wrote {calibrating.write(calibration)}")
    print("Next: nnunet-diffusion predict with the same model and folds; --calibrated, --review-below DICE")
    return 0


def _calibrating(args: argparse.Namespace) -> "Calibrating":
    """Everything checked before anything is predicted."""
    from nnunet_diffusion_ensemble.held_out.calibrate import Calibrating
    from nnunet_diffusion_ensemble.held_out.cases import of_folders, of_the_data_set

    if (args.images is None) != (args.references is None):
        raise ValueError("--images and --references go together: name both, or neither for the data set's own cases.")
    settings, folder = cli_predict.settings_of_arguments(args), cli_predict.model_folder(args)
    dice = None if args.temperature_only else _dice_settings(args)
    if args.images is None:
        return Calibrating(folder, settings, of_the_data_set(folder, settings), dice)
    group, warning = of_folders(folder, settings, args.images, args.references)
    if warning:
        print(f"Warning: {warning}")
    return Calibrating(folder, settings, [group], dice)


def _dice_settings(args: argparse.Namespace) -> "DiceSettings":
    from nnunet_diffusion_ensemble.calibration.dice_line import SCORES
    from nnunet_diffusion_ensemble.held_out.calibrate import DiceSettings

    if not 0 < args.coverage < 1:
        raise ValueError(f"--coverage is a share above 0 and below 1, such as 0.9, got {args.coverage:g}.")
    if unknown := [name for name in args.scores if name not in SCORES]:
        raise ValueError(f"--scores {unknown[0]}: name some of {', '.join(SCORES)}.")
    return DiceSettings(args.coverage, args.conformal, tuple(dict.fromkeys(args.scores)))


def _told(calibration: "Calibration", num_measured: int) -> list[str]:
    temperatures = ", ".join(f"{one:.3f}" for one in calibration.temperatures)
    lines = [
        f"Temperature {temperatures}: negative log-likelihood {calibration.nll_before:.4f}, with it "
        f"{calibration.nll_after:.4f}"
    ]
    if left_out := num_measured - len(calibration.cases):
        lines.append(f"Left out of the prediction of Dice: {left_out} case(s) without foreground or without labels")
    if (dice := calibration.dice) is not None:
        lines.append(
            f"Dice from {', '.join(dice.scores)}, {dice.num_cases} cases, {dice.method}: intervals aim at "
            f"{dice.coverage:.0%} of cases like these, {dice.promised:.0%} is proved"
        )
    return lines
