"""Step `pretrain`: pretraining of the small denoiser for the time that the step has."""

from common import SMALL, step_arguments
from results import add_result

from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

SECONDS_AROUND = 60  # of the limit: workers and transforms at the start, samples and memorisation check at the end
MOST_EPOCHS = 100_000


def main() -> None:
    args = step_arguments(__doc__)
    options: dict[str, float] = {"pretraining.num_epochs": MOST_EPOCHS, "pretraining.save_samples_every": MOST_EPOCHS}
    options["pretraining.max_hours"] = max(args.seconds - SECONDS_AROUND, 30) / 3600
    if args.is_dry_run:
        options |= {"pretraining.num_epochs": 1, "pretraining.num_iterations_per_epoch": 2}
    trainer = args.trainer(DiffusionPretrainTrainer, args.plans(SMALL, options))
    trainer.run_training()
    trainer.perform_actual_validation()
    log = trainer.logger
    row = {"card": args.card, "epochs": trainer.current_epoch, "batch": trainer.batch_size}
    row |= {"iterations": int(trainer.plain_network.denoiser.trained_iterations)}
    row |= {"seconds": trainer.time_limit.used_seconds}
    row |= {name: float(log.get_value(name, step=-1)) for name in ("train_losses", "val_losses")}
    add_result(args.output, "pretraining", row)


if __name__ == "__main__":
    main()
