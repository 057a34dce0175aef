"""Steps `speed` and `compiled`: iterations a second beside stock nnU-Net, on the same plans, in one process.

Training: `step` takes a batch that lies ready in pinned memory, `loaded` takes nnU-Net's loader with all its workers.
Prediction: nnU-Net's sliding window on one image of the patch's size, and one pass of a batch through the network.
Ratios are those of rates: above 1 ours is faster.
"""

import gc
from functools import partial
from typing import Any

import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from common import PLANNED, SMALL, StepArguments, Work, peak_mb, rates, step_arguments
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from results import add_result

from nnunet_diffusion_ensemble.method import PUBLISHED_TIMESTEPS
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

STOCK = "nnUNetTrainer"
TRAINERS: dict[str, tuple[type, dict[str, Any]]] = {
    STOCK: (nnUNetTrainer, {}),
    "DiffusionPretrainTrainer": (DiffusionPretrainTrainer, {}),
    "DiffusionEnsembleTrainer, head": (DiffusionEnsembleTrainer, {"training.fine_tune_denoiser": False}),
    "DiffusionEnsembleTrainer, head and denoiser": (DiffusionEnsembleTrainer, {"training.fine_tune_denoiser": True}),
}
EIGHT_TIMESTEPS: dict[str, Any] = {"ensemble.timesteps": PUBLISHED_TIMESTEPS}
ONE_TIMESTEP: dict[str, Any] = {"ensemble.timesteps": (50,)}


def fixed_batch(args: StepArguments, trainer: Any) -> dict[str, Any]:
    """Images and targets of the plans' patch size, at all of the trainer's resolutions."""
    size = trainer.configuration_manager.patch_size
    pinned = args.device.type == "cuda"

    def target(scale: Any) -> torch.Tensor:
        labels = torch.randint(2, (args.batch_size, 1, *(round(n * s) for n, s in zip(size, scale, strict=True))))
        return labels.to(torch.int16).pin_memory() if pinned else labels.to(torch.int16)

    images = torch.randn(args.batch_size, 1, *size)
    scales = trainer._get_deep_supervision_scales()
    targets: Any = [target(scale) for scale in scales] if scales else target([1] * len(size))
    return {"data": images.pin_memory() if pinned else images, "target": targets}


def training_work(args: StepArguments, trainer: Any) -> Work:
    return partial(trainer.train_step, fixed_batch(args, trainer))


def measure_training(args: StepArguments, plans: str, seconds: float) -> None:
    trainers = {
        name: args.trainer(made_by, args.plans(plans, options)) for name, (made_by, options) in TRAINERS.items()
    }
    works = {name: training_work(args, trainer) for name, trainer in trainers.items()}
    report(args, f"{plans}, training step", rates(works, args.device, seconds))
    if not args.compiled:
        found = {name: rate_when_loaded(trainer, seconds / len(trainers)) for name, trainer in trainers.items()}
        report(args, f"{plans}, training, loaded", found)


def rate_when_loaded(trainer: Any, seconds: float) -> float:
    """With nnU-Net's loader, which has all cores for itself and starts with nothing in stock."""
    loaders = trainer.get_dataloaders()
    try:
        return rates({"": lambda: trainer.train_step(next(loaders[0]))}, trainer.device, seconds)[""]
    finally:
        for loader in loaders:
            if isinstance(loader, NonDetMultiThreadedAugmenter):
                loader._finish()


def measure_memory_of_training(args: StepArguments, plans: str) -> None:
    """Each alone on the card."""
    for name, (trainer_class, options) in TRAINERS.items():
        trainer = args.trainer(trainer_class, args.plans(plans, options))
        work = training_work(args, trainer)
        row = {"card": args.card, "plans": plans, "trainer": name, "batch": args.batch_size}
        add_result(args.output, "memory of a training step", {**row, "peak, MB": peak_mb(work, args.device)})
        del trainer, work
        gc.collect()
        if args.device.type == "cuda":
            torch.cuda.empty_cache()


def predictors(args: StepArguments, plans: str) -> dict[str, nnUNetPredictor]:
    """Of stock nnU-Net, of the published ensemble, and of an ensemble of one timestep; random weights."""
    cases: dict[str, tuple[type, dict[str, Any]]] = {
        STOCK: (nnUNetTrainer, {}),
        "eight timesteps": (DiffusionEnsembleTrainer, EIGHT_TIMESTEPS),
        "one timestep": (DiffusionEnsembleTrainer, ONE_TIMESTEP),
    }
    found = {}
    for name, (trainer_class, options) in cases.items():
        trainer = args.trainer(trainer_class, args.plans(plans, options))
        trainer.set_deep_supervision_enabled(False)
        predictor = nnUNetPredictor(device=args.device, allow_tqdm=False)
        predictor.manual_initialization(
            trainer.network.eval(),
            trainer.plans_manager,
            trainer.configuration_manager,
            None,
            trainer.dataset_json,
            trainer_class.__name__,
            (0, 1),
        )
        found[name] = predictor
    return found


def measure_prediction(args: StepArguments, plans: str, seconds: float) -> None:
    found = predictors(args, plans)
    size = args.plans(plans)["configurations"]["2d"]["patch_size"]
    image, batch = torch.randn(1, 1, *size), torch.randn(args.batch_size, 1, *size, device=args.device)
    windows = {
        name: partial(predictor.predict_sliding_window_return_logits, image) for name, predictor in found.items()
    }

    @torch.inference_mode()
    def forward(network: torch.nn.Module) -> None:
        with torch.autocast(args.device.type, enabled=args.device.type == "cuda"):
            network(batch)

    passes = {name: partial(forward, predictor.network) for name, predictor in found.items()}
    report(args, f"{plans}, prediction of an image", rates(windows, args.device, seconds / 2))
    report(args, f"{plans}, prediction of a batch", rates(passes, args.device, seconds / 2))


def report(args: StepArguments, what: str, found: dict[str, float]) -> None:
    """A second's number of each, and by how much it is more than stock's."""
    row: dict[str, Any] = {"card": args.card, "compiled": args.compiled, "what": what, "batch": args.batch_size}
    row |= {f"{name}, 1/s": rate for name, rate in found.items()}
    row |= {f"{name} / stock": rate / found[STOCK] for name, rate in found.items() if name != STOCK}
    add_result(args.output, "speed", row)
    print(row, flush=True)


def main() -> None:
    args = step_arguments(__doc__)
    seconds = 0 if args.is_dry_run else args.seconds / 15  # a measurement
    for plans in (PLANNED,) if args.compiled else (PLANNED, SMALL):  # compiling takes a minute a trainer
        measure_training(args, plans, seconds)
        if not args.compiled:
            measure_prediction(args, plans, seconds)
            measure_memory_of_training(args, plans)


if __name__ == "__main__":
    main()
