"""`nnunet-diffusion self-train`: a student on the sure predictions of a teacher, round by round."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_diffusion_ensemble.cli import predict as cli_predict
from nnunet_diffusion_ensemble.cli import train as cli_train
from nnunet_diffusion_ensemble.cli.argument_types import positive

if TYPE_CHECKING:
    from nnunet_diffusion_ensemble.self_training.loop import SelfTrainingRun

HELP = "train on unlabelled images: pseudo-labels of any trained model, chosen, shown, and learned from"
STOPPED = 1  # exit status when the areas have drifted
RULES = {
    "upper": "a pixel is kept as a label from this probability on (0.9)",
    "lower": "and as not that label up to this one; of two classes, or regions (0.1)",
    "kept_share": "of the images, those whose timesteps agree best, or of the least entropy (0.75)",
    "smallest_area": "of a label, times the smallest of the labelled cases (0.5)",
    "largest_area": "of a label, times the largest of them (2)",
    "largest_drift": "of the mean areas from round to round, beyond which it stops (0.1)",
    "true_share": "of truly labelled cases in a batch, on average (0.5)",
    "true_labels_at_end": "share of the training, its end, on true labels alone (0.15)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand; the teacher is named as for `nnunet-diffusion predict`."""
    cli_predict.add_model_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for predictions, table and picture")
    parser.add_argument(
        "--images", type=Path, nargs="+", default=[], metavar="DIR", help="further unlabelled images beside imagesUn"
    )
    parser.add_argument("--number", type=positive, required=True, help="of the student's data set, e.g. 101")
    parser.add_argument(
        "--student", metavar="TRAINER", help="trainer of the student (the teacher's, for self-training)"
    )
    parser.add_argument("--student-plans", metavar="PLANS", help="plans of the student (the teacher's)")
    parser.add_argument("--rounds", type=int, help="the student of one is the teacher of the next (1)")
    for name, text in RULES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", help=text)
    parser.add_argument("--dry-run", action="store_true", help="end with table and picture, before anything is trained")
    parser.add_argument("--num-processes", "-np", type=positive, default=8, help="processes of preprocessing (8)")
    cli_train.add_length(parser)


def run(args: argparse.Namespace) -> int:
    """Goes through the rounds, or on with them."""
    from nnunet_diffusion_ensemble.system.signals import ending_on_signals

    self_training, choices = _self_training(args)
    with ending_on_signals():  # Ctrl-C ends a training as well; the same command goes on with it
        return 0 if self_training.run(choices, args.dry_run) else STOPPED


def _self_training(args: argparse.Namespace) -> "tuple[SelfTrainingRun, dict[str, Any]]":
    """Everything checked before anything is written."""
    from nnunet_diffusion_ensemble.nnunet.register import SELF_TRAINERS
    from nnunet_diffusion_ensemble.prediction.model_folder import check_model, trainer_class
    from nnunet_diffusion_ensemble.self_training.images import find_images
    from nnunet_diffusion_ensemble.self_training.loop import SelfTrainingRun
    from nnunet_diffusion_ensemble.self_training.settings import SelfTrainingSettings
    from nnunet_diffusion_ensemble.self_training.teacher import LabelledCases, Teacher
    from nnunet_diffusion_ensemble.self_training.work import NnunetWork
    from nnunet_diffusion_ensemble.study.few_label import LabelledDataset, Rival
    from nnunet_diffusion_ensemble.system.child_processes import Screen

    chosen = {name: getattr(args, name) for name in ("rounds", *RULES)}
    rules = SelfTrainingSettings(**{name: value for name, value in chosen.items() if value is not None})
    how = cli_predict.settings_of_arguments(args)
    teacher = Teacher(cli_predict.model_folder(args).absolute(), how)
    check_model(teacher.folder, how)
    labelled = LabelledCases.of(teacher)
    images = find_images(labelled, args.images)
    trainer, configuration = teacher.trainer_and_configuration()
    student = args.student or SELF_TRAINERS.get(trainer, trainer)
    plans = args.student_plans or teacher.descriptions()[0].plans_name
    trainer_class(student)
    LabelledDataset(labelled.name).check_plans([Rival(student, student, plans)], configuration)
    limit = None if args.minutes is None else cli_train.budget(args)
    screen = Screen()
    work = NnunetWork(student, plans, configuration, how, args.num_processes, screen, limit)
    output, number = args.output.absolute(), args.number
    choices = {"student": student, "plans": plans, "number": number, "time": None if limit is None else str(limit)}
    return SelfTrainingRun(output, teacher, labelled, images, rules, number, work, screen), choices
