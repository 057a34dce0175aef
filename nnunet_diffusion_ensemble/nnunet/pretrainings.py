"""What a trainer pretrains, by its class and not by its name, and finding a finished pretraining.

A trainer says it in its attribute `pretrains`, which its checkpoints keep, so that a user's subclass is one as well.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint

PRETRAINS = "pretrains"  # the attribute of trainers and the key of checkpoints
DENOISER, GLOBAL, LOCAL = "denoiser", "encoder", "encoder and decoder"
# Ours, which are looked for first; checkpoints without the key are recognised by them.
TRAINER_OF = {
    DENOISER: "DiffusionPretrainTrainer",
    GLOBAL: "GlobalContrastivePretrainTrainer",
    LOCAL: "GlobalLocalContrastivePretrainTrainer",
}
FINAL, ANY = "checkpoint_final.pth", "checkpoint_*.pth"


def pretrained_by(checkpoint: Mapping[str, Any]) -> str | None:
    """What the trainer of a checkpoint pretrains: DENOISER, GLOBAL, LOCAL; None if it is no pretraining of ours."""
    if PRETRAINS in checkpoint:
        return checkpoint[PRETRAINS]
    return next((what for what, name in TRAINER_OF.items() if name == checkpoint["trainer_name"]), None)


def finished_pretraining(results_folder: Path, what: str, plans_name: str, configuration: str, fold: int | str) -> Path:
    """The final checkpoint of the pretraining of this fold, else of fold `all`; of our trainer before any other.

    Args:
        results_folder: folder of the data set in `nnUNet_results`.
        what: what it pretrains: DENOISER, GLOBAL or LOCAL.
        plans_name: `plans_name` of the plans.
        configuration: e.g. `2d`.
        fold: the fold that is trained.

    Raises:
        FileNotFoundError: if there is none; the message says which command makes one.
        ValueError: other trainers have made several, or the checkpoint of one is damaged.
    """
    of_plans = f"__{plans_name}__{configuration}"
    trained = results_folder / f"{TRAINER_OF[what]}{of_plans}"
    folds = [f"fold_{f}" for f in dict.fromkeys((fold, "all"))]
    for name in folds:
        if (trained / name / FINAL).is_file():
            return trained / name / FINAL
    others = sorted(folder for folder in results_folder.glob(f"*{of_plans}") if folder != trained)
    for name in folds:
        if found := [file for folder in others for file in _pretrained(folder / name, FINAL, what)]:
            return _only(found, what)
    unfinished = [file for name in folds for file in sorted((trained / name).glob(ANY))]
    unfinished += [file for folder in others for name in folds for file in _pretrained(folder / name, ANY, what)]
    raise _missing(results_folder, what, plans_name, configuration, [trained / name for name in folds], unfinished)


def _pretrained(folder: Path, pattern: str, what: str) -> Iterator[Path]:
    """Checkpoints in a folder whose trainer pretrains this."""
    files = sorted(folder.glob(pattern))
    return (file for file in files if pretrained_by(read_checkpoint(file, mapped=True)) == what)


def _only(found: list[Path], what: str) -> Path:
    if len(found) > 1:
        raise ValueError(
            f"Several trainers have pretrained the {what}: {', '.join(map(str, found))}. Name the one that is meant "
            "with -pretrained_weights FILE."
        )
    return found[0]


def _missing(
    results_folder: Path, what: str, plans_name: str, configuration: str, looked_in: list[Path], unfinished: list[Path]
) -> FileNotFoundError:
    trainer = unfinished[0].parents[1].name.split("__")[0] if unfinished else TRAINER_OF[what]
    command = f"nnUNetv2_train {results_folder.name} {configuration} all -tr {trainer} -p {plans_name}"
    if unfinished:
        return FileNotFoundError(
            f"Pretraining of the {what} has not finished; there is only {', '.join(map(str, unfinished))}. Finish it "
            f"with\n  {command} --c\nor use it as it is with -pretrained_weights FILE."
        )
    return FileNotFoundError(
        f"No pretrained {what}: looked for {FINAL} in {', '.join(map(str, looked_in))}, and in those of other trainers "
        f"that pretrain it. Make one with\n  {command}\nor name one with -pretrained_weights FILE."
    )
