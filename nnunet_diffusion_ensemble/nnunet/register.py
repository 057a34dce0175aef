"""Let nnU-Net's `-tr` and `-pl` find our classes: two lazy shims, written into the folders that nnU-Net walks."""

import importlib
import os
import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from errno import EROFS
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from string import Template
from typing import Literal

from nnunet_diffusion_ensemble.system.atomic import whole_file
from nnunet_diffusion_ensemble.system.guard import alone_at

PUBLISHED_TRAINERS = (
    *("TEDMTrainer", "LEDMTrainer", "LEDMeTrainer", "PDDMTrainer", "SingleTimestepTrainer"),
    *(f"SingleTimestep{timestep}Trainer" for timestep in (1, 10, 25, 50, 500, 950)),
)
# By the trainer that each is, but for what self-training adds to it.
SELF_TRAINERS = {
    "DiffusionEnsembleTrainer": "DiffusionEnsembleSelfTrainer",
    "ScratchTrainer": "ScratchSelfTrainer",
    "nnUNetTrainer": "nnUNetTrainerSelfTraining",
}
TRAINERS = {
    "DiffusionPretrainTrainer": "nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer",
    "DiffusionEnsembleTrainer": "nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer",
    **dict.fromkeys(PUBLISHED_TRAINERS, "nnunet_diffusion_ensemble.trainers.published_trainers"),
    "ScratchTrainer": "nnunet_diffusion_ensemble.trainers.scratch_trainer",
    **dict.fromkeys(SELF_TRAINERS.values(), "nnunet_diffusion_ensemble.trainers.self_training_trainers"),
    "DistillationTrainer": "nnunet_diffusion_ensemble.trainers.distillation_trainer",
    "nnUNetTrainerShiftAugmentation": "nnunet_diffusion_ensemble.trainers.shift_augmentation_trainer",
    "GlobalContrastivePretrainTrainer": "nnunet_diffusion_ensemble.trainers.contrastive_pretrain_trainers",
    "GlobalLocalContrastivePretrainTrainer": "nnunet_diffusion_ensemble.trainers.contrastive_pretrain_trainers",
    "GlobalContrastiveTrainer": "nnunet_diffusion_ensemble.trainers.contrastive_trainers",
    "GlobalLocalContrastiveTrainer": "nnunet_diffusion_ensemble.trainers.contrastive_trainers",
}
PLANNERS = {
    "DiffusionEnsemblePlanner": "nnunet_diffusion_ensemble.planners.diffusion_ensemble_planner",
}
EXTERNAL_VARIABLE = "nnUNet_extTrainer"
EXTERNAL_FOLDER = Path(__file__).resolve().parents[1] / "external"

MARKER = "# Written by `nnunet-diffusion register`; `nnunet-diffusion register --undo` removes it.\n"
SHIM_SOURCE = Template('''\
"""nnU-Net finds the classes of nnunet-diffusion-ensemble here; nothing is imported until one of them is asked for."""

CLASSES = {
$table}


def __getattr__(name):
    if name not in CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(CLASSES[name]), name)
    except ModuleNotFoundError as error:
        if not f"{CLASSES[name]}.".startswith(f"{error.name}."):
            raise
        raise ImportError(
            f"{name} is a class of nnunet-diffusion-ensemble, but this environment has no module {error.name}. "
            f"Install nnunet-diffusion-ensemble and run `nnunet-diffusion register` again, or delete {__file__}"
        ) from error
''')


@dataclass(frozen=True)
class Shim:
    """One module on nnU-Net's walk: the package of nnU-Net it goes into, and the classes it serves."""

    kind: str
    package: str
    classes: Mapping[str, str]

    def path(self, nnunetv2_folder: Path) -> Path:
        return nnunetv2_folder.joinpath(*self.package.split(".")[1:], f"nnunet_diffusion_{self.kind}.py")

    def content(self) -> bytes:
        table = "".join(f'    "{name}": "{module}",\n' for name, module in self.classes.items())
        return (MARKER + SHIM_SOURCE.substitute(table=table)).encode()


SHIMS = (
    Shim("trainers", "nnunetv2.training.nnUNetTrainer", TRAINERS),
    Shim("planners", "nnunetv2.experiment_planning", PLANNERS),
)


@dataclass(frozen=True)
class ShimStatus:
    """What lies at a shim's path; `foreign` is something that we did not write and will not touch."""

    path: Path
    kind: str
    state: Literal["current", "outdated", "missing", "foreign"]


def find_nnunetv2() -> Path:
    """Return the folder of the installed nnunetv2, without importing it."""
    spec = find_spec("nnunetv2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("nnunetv2 is not installed here. Install it: pip install 'nnunetv2>=2.8.1,<3'")
    return Path(next(iter(spec.submodule_search_locations)))


def shim_states(nnunetv2_folder: Path | None = None) -> list[ShimStatus]:
    """Return the state of each shim; `nnunetv2_folder` is by default that of the installed nnunetv2."""
    folder = nnunetv2_folder or find_nnunetv2()
    return [_status(shim, shim.path(folder)) for shim in SHIMS]


def _status(shim: Shim, path: Path) -> ShimStatus:
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"nnU-Net has no folder {path.parent}. Install it anew: pip install 'nnunetv2>=2.8.1,<3'"
        )
    if not os.path.lexists(path):
        return ShimStatus(path, shim.kind, "missing")
    content = path.read_bytes() if path.is_file() else b""
    if not content.startswith(MARKER.encode()):
        return ShimStatus(path, shim.kind, "foreign")
    return ShimStatus(path, shim.kind, "current" if content == shim.content() else "outdated")


def register(nnunetv2_folder: Path | None = None) -> list[Path]:
    """Write both shims, or neither; return their paths.

    Raises:
        FileExistsError: A file that we did not write has the name of a shim.
        PermissionError: nnU-Net's folder is read-only; the message says what to do instead.
        AtWorkError: another process is at it.
    """
    return _replace_shims(nnunetv2_folder, [shim.content() for shim in SHIMS])


def unregister(nnunetv2_folder: Path | None = None) -> list[Path]:
    """Remove both shims, or neither; return the paths of those that were there. Raises as `register` does."""
    return _replace_shims(nnunetv2_folder, [None for _ in SHIMS])


def _replace_shims(nnunetv2_folder: Path | None, contents: list[bytes] | list[None]) -> list[Path]:
    """Give each shim its content (None: no file); put all back if one cannot be changed. Return those concerned."""
    found = shim_states(nnunetv2_folder)
    _refuse_foreign(found)
    if all(_content(status) == content for status, content in zip(found, contents, strict=True)):
        return [status.path for status in found if status.state != "missing"]  # also where nothing can be written
    try:
        with alone_at(found[0].path):  # stands for both
            return _replace_one_by_one(shim_states(nnunetv2_folder), contents)
    except OSError as error:
        if isinstance(error, PermissionError) or error.errno == EROFS:
            raise PermissionError(_without_shims(error)) from error
        raise


def _content(status: ShimStatus) -> bytes | None:
    return status.path.read_bytes() if status.path.is_file() else None


def _refuse_foreign(found: list[ShimStatus]) -> None:
    for status in found:
        if status.state == "foreign":
            raise FileExistsError(
                f"{status.path} was not written by nnunet-diffusion, so nothing was changed. Move it away and rerun."
            )


def _replace_one_by_one(found: list[ShimStatus], contents: list[bytes] | list[None]) -> list[Path]:
    _refuse_foreign(found)
    before = {status.path: _content(status) for status in found}
    after = dict(zip(before, contents, strict=True))
    with ExitStack() as restore:
        for path in before:
            restore.callback(_put, path, before[path])
            _put(path, after[path])
        restore.pop_all()
    importlib.invalidate_caches()
    return [path for path in before if (before[path], after[path]) != (None, None)]


def _put(path: Path, content: bytes | None) -> None:
    """Make `content` the file at `path` in one step (None: no file), and drop the bytecode of what was there."""
    if content == (path.read_bytes() if path.is_file() else None):
        return
    if content is None:
        path.unlink()
    else:
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
            temporary.chmod(0o644)  # A module that another user may not read would end all their look-ups.
    for bytecode in Path(cache_from_source(str(path))).parent.glob(f"{path.stem}.*.pyc"):
        bytecode.unlink(missing_ok=True)


def external_folders() -> str:
    """Value of nnU-Net's variable with which it finds our trainers without registration, and the user's as before."""
    folders = [folder for folder in os.environ.get(EXTERNAL_VARIABLE, "").split(os.pathsep) if folder]
    return os.pathsep.join(dict.fromkeys([*folders, str(EXTERNAL_FOLDER)]))


def _without_shims(error: OSError) -> str:
    return (
        f"nnU-Net's folder cannot be written to ({error}); nothing was changed.\n"
        "Run this command as the owner of the environment, or do without it:\n"
        f"  for -tr {', '.join(TRAINERS)}: export {EXTERNAL_VARIABLE}={shlex.quote(external_folders())}\n"
        f"  for -pl {', '.join(PLANNERS)}: run nnunet-diffusion plan in place of nnUNetv2_plan_experiment"
    )


def look_up(shim: Shim, name: str) -> str:
    """Ask nnU-Net itself (this imports torch) for a class of an installed shim; return its answer as a sentence."""
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    try:
        found = recursive_find_python_class(str(shim.path(find_nnunetv2()).parent), name, shim.package)
    except Exception as error:  # The walk imports other people's modules, which can raise anything.
        return f"nnU-Net cannot load {name}: {error}"
    return f"nnU-Net finds {name}" if found else f"nnU-Net does not find {name}"


def run(check_only: bool = False, undo: bool = False) -> tuple[str, int]:
    """Do what `nnunet-diffusion register` was asked; return what to print and the exit status."""
    if check_only:
        states = shim_states()
        lines = [f"{status.state}: {status.path}" for status in states]
        if any(status.state != "current" for status in states):
            return "\n".join([*lines, "Run `nnunet-diffusion register` to have both current."]), 1
        answers = [look_up(shim, name) for shim in SHIMS for name in shim.classes]
        return "\n".join(lines + answers), int(not all(answer.startswith("nnU-Net finds") for answer in answers))
    if undo:
        return "\n".join(f"removed: {path}" for path in unregister()) or "nothing to remove", 0
    wrote = zip(register(), SHIMS, strict=True)
    return "\n".join(f"wrote: {path} ({', '.join(shim.classes)})" for path, shim in wrote), 0
