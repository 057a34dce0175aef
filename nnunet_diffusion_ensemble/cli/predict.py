"""`nnunet-diffusion predict`: options of `nnUNetv2_predict`, under its names."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunet_diffusion_ensemble.prediction.folder import CaseUncertainty
    from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings

from nnunet_diffusion_ensemble.cli.argument_types import fold

HELP = "nnU-Net's prediction with probability, entropy, timesteps, a score for unusual images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("-i", type=Path, required=True, metavar="IMAGES", help="folder of images (CASE_0000.png, ...)")
    parser.add_argument("-o", type=Path, required=True, metavar="OUTPUT", help="folder to write")
    parser.add_argument("--dicom", action="store_true", help="images are DICOM; write DICOM SEG, too")
    parser.add_argument("--segment-codes", type=Path, metavar="JSON", help="with --dicom: codes of the labels")
    add_model_arguments(parser)
    parser.add_argument("--continue_prediction", "--c", action="store_true", help="leave out cases that are there")
    parser.add_argument(
        "--on-problem",
        choices=("refuse", "skip"),
        default="refuse",
        help="about images that cannot be predicted: predict none, or leave them out and count them (%(default)s)",
    )
    parser.add_argument(
        "--denoiser",
        help="measure the denoising error of this pretrained denoiser: checkpoint, or name of a shipped one",
    )
    parser.add_argument(
        "--postprocessed",
        action="store_true",
        help="without the components that `nnunet-diffusion postprocessing` found to be too small",
    )
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="probabilities with the temperature that `nnunet-diffusion calibrate` found; segmentations stay",
    )
    parser.add_argument(
        "--review-below",
        type=float,
        metavar="DICE",
        help="mark cases whose Dice may lie below it, by the interval that `nnunet-diffusion calibrate` found",
    )


def add_naming_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name a trained model."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("-m", type=Path, metavar="MODEL_FOLDER", help="folder of the trained model, or:")
    model.add_argument("-d", metavar="DATASET", help="number or name of the data set it was trained on")
    parser.add_argument("-c", metavar="CONFIGURATION", help="with -d: e.g. 2d")
    parser.add_argument("-tr", default="DiffusionEnsembleTrainer", metavar="TRAINER", help="with -d: %(default)s")
    parser.add_argument("-p", default="nnUNetDiffusionEnsemblePlans", metavar="PLANS", help="with -d: %(default)s")
    parser.add_argument("-f", nargs="+", default=[0, 1, 2, 3, 4], type=fold, metavar="FOLD", help="folds (0 1 2 3 4)")
    parser.add_argument("-chk", default="checkpoint_final.pth", metavar="NAME", help="checkpoint (%(default)s)")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name a trained model, and how it predicts."""
    add_naming_arguments(parser)
    parser.add_argument("-step_size", type=float, default=0.5, metavar="SHARE", help="between tiles (0.5)")
    parser.add_argument("--disable_tta", action="store_true", help="no mirroring")
    parser.add_argument(
        "--timesteps",
        type=int,
        nargs="+",
        metavar="TIMESTEP",
        help="average over these: fewer are faster (all of its plans)",
    )
    parser.add_argument("-device", default="cuda", help="cuda, cpu or mps (cuda)")


def run(args: argparse.Namespace) -> int:
    """Predicts, with a line for each case."""
    from nnunet_diffusion_ensemble.prediction.folder import SETTINGS, TABLE
    from nnunet_diffusion_ensemble.prediction.from_dicom import predict_dicom
    from nnunet_diffusion_ensemble.prediction.predict import LeftOut, predict

    if args.segment_codes and not args.dicom:
        raise ValueError("--segment-codes describes the segments of DICOM SEG: add --dicom, or leave it out.")
    settings, model = settings_of_arguments(args).changed(postprocessed=args.postprocessed), model_folder(args)
    left_out = num_cases = 0
    how = (args.denoiser, args.continue_prediction, args.on_problem, args.calibrated, args.review_below)
    arguments = (args.i, args.o, model, settings, *how)
    cases = predict_dicom(*arguments, codes=args.segment_codes) if args.dicom else predict(*arguments)
    to_review = 0
    for case in cases:
        if isinstance(case, LeftOut):
            print(f"{'Left out' if case.is_problem else 'Not looked at'}: {case}", flush=True)
            left_out += case.is_problem
            continue
        num_cases += 1
        values = (("entropy", case.scores.entropy), ("denoising error", case.scores.denoising_error))
        known = ", ".join(f"{name} {value:.3f}" for name, value in values if value is not None)
        known += _judged(case.scores)
        to_review += bool(case.scores.review)
        print(f"{case.position}/{case.total} {case.scores.case}: {known if case.is_new else 'is there'}", flush=True)
    print(f"Wrote {args.o / TABLE}")
    if args.review_below is not None:
        print(f"To review: {to_review} of {num_cases} case(s), whose Dice may be below {args.review_below:g}")
    if left_out:
        print(f"Predicted {num_cases} case(s), left out {left_out}: see {args.o / SETTINGS}")
    return 0


def _judged(scores: "CaseUncertainty") -> str:
    """What a calibration says of a case, for the end of its line."""
    review = ", to review" if scores.review else ""
    if scores.predicted_dice is None:
        return review
    return f", Dice about {scores.predicted_dice:.3f} ({scores.lower:.3f} to {scores.upper:.3f}){review}"


def settings_of_arguments(args: argparse.Namespace) -> "PredictionSettings":
    """How the options of `add_model_arguments` say to predict; ValueError says what is wrong with them."""
    from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings

    return PredictionSettings(
        folds=tuple(args.f),
        checkpoint_name=args.chk,
        tile_step_size=args.step_size,
        use_mirroring=not args.disable_tta,
        timesteps=None if args.timesteps is None else tuple(args.timesteps),
        device=args.device,
    )


def model_folder(args: argparse.Namespace) -> Path:
    """The folder that the options name.

    Raises:
        ValueError: a data set without a configuration.
    """
    from nnunetv2.utilities.file_path_utilities import get_output_folder

    from nnunet_diffusion_ensemble.nnunet.datasets import RESULTS, find_dataset

    if args.m is not None:
        return args.m
    if args.c is None:
        raise ValueError("With -d, name the configuration as well: -c 2d, -c 3d_fullres, ...")
    return Path(get_output_folder(find_dataset(args.d, RESULTS), args.tr, args.p, args.c))
