"""`nnunet-diffusion distil`: an ensemble's knowledge in a plain U-Net, which stock nnU-Net predicts with."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_diffusion_ensemble.cli import predict as cli_predict
from nnunet_diffusion_ensemble.cli import train as cli_train

if TYPE_CHECKING:
    from nnunet_diffusion_ensemble.study.few_label import Training

HELP = "teach a plain nnU-Net what an ensemble knows: stock nnUNetv2_predict runs it, as fast as its own"
TRAINER = "DistillationTrainer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand; the teacher is named as for `nnunet-diffusion predict`."""
    cli_predict.add_model_arguments(parser)
    parser.add_argument(
        "--fold", type=cli_predict.fold, required=True, help="whose true labels the student learns from"
    )
    parser.add_argument("--dataset", help="name of the data set of labelled and unlabelled images (the teacher's)")
    parser.add_argument("--true-share", type=float, help="of truly labelled images in a batch, on average (0.5)")
    parser.add_argument("--timestep", type=int, help="of the teacher's denoiser in the student's first weights (50)")
    cli_train.add_length(parser)


def run(args: argparse.Namespace) -> int:
    """Trains the student, or goes on with it, and writes it as a model of nnU-Net's own trainer."""
    from nnunet_diffusion_ensemble.distillation.plain_model import STOCK, write_plain_model
    from nnunet_diffusion_ensemble.self_training.work import environment
    from nnunet_diffusion_ensemble.system.child_processes import Job, Screen, TrainingProgress, run_jobs
    from nnunet_diffusion_ensemble.system.guard import alone_at
    from nnunet_diffusion_ensemble.system.signals import ending_on_signals

    limit = None if args.minutes is None else cli_train.budget(args)
    training, screen = _training(args), Screen()
    training.folder.mkdir(parents=True, exist_ok=True)
    with alone_at(training.folder):  # in the folder is the lock of the training itself
        if not training.is_done:
            command, log = training.command(args.device, limit), training.folder / "distil.txt"
            screen.say(f"Training the student in {training.folder}")
            with ending_on_signals():  # Ctrl-C ends the training as well; the same command goes on with it
                run_jobs([Job(command, log, TrainingProgress())], Path.cwd(), environment(), screen)
        output = training.model_folder.with_name(training.model_folder.name.replace(TRAINER, STOCK, 1))
        write_plain_model(training.model_folder, [args.fold], output)
    screen.say(f"Wrote {output}")
    model = f"-d {training.dataset} -c {training.configuration} -tr {STOCK} -p {training.rival.plans} -f {args.fold}"
    screen.say(f"Next, with or without this package: nnUNetv2_predict {model} -i IMAGES -o OUTPUT")
    return 0


def _training(args: argparse.Namespace) -> "Training":
    """The student's training; its plans are written."""
    from nnunet_diffusion_ensemble.distillation.plans import labelled_dataset, write_plans
    from nnunet_diffusion_ensemble.distillation.settings import DistillationSettings
    from nnunet_diffusion_ensemble.prediction.model_folder import check_model
    from nnunet_diffusion_ensemble.self_training.teacher import Teacher
    from nnunet_diffusion_ensemble.study.few_label import Rival, Training

    how = cli_predict.settings_of_arguments(args)
    teacher = Teacher(cli_predict.model_folder(args).absolute(), how)
    check_model(teacher.folder, how)
    _, configuration = teacher.trainer_and_configuration()
    who: dict[str, Any] = {"teacher": str(teacher.folder), "folds": how.folds, "checkpoint_name": how.checkpoint_name}
    optional = {"true_share": args.true_share, "timestep": args.timestep, "teacher_timesteps": how.timesteps}
    settings = DistillationSettings(**who, **{name: value for name, value in optional.items() if value is not None})
    dataset = args.dataset or labelled_dataset(teacher.folder)
    plans = write_plans(settings, configuration, dataset)
    return Training(Rival(TRAINER, TRAINER, plans), configuration, dataset, num_labels=0, seed=0, fold=args.fold)
