"""The cases of a folder that a model can predict, and what is wrong with everything else that lies there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_diffusion_ensemble.images.reading import FLAT_IN_3D, ImageError, is_flat, read_images, refuse_other_channels
from nnunet_diffusion_ensemble.nnunet.raw_cases import (
    group_by_case,
    is_spacing_file,
    looks_like_image,
    naming_problem,
)
from nnunet_diffusion_ensemble.prediction.model import TrainedModel
from nnunet_diffusion_ensemble.system.messages import raise_listing
from nnunet_diffusion_ensemble.system.places import refuse_file


@dataclass(frozen=True)
class FoundCases:
    """What a folder holds.

    Attributes:
        cases: those to predict, the image files of each in the order of their channels.
        problems: by case or file, what is wrong with it.
        others: files that nobody will take for an image.
    """

    cases: Mapping[str, list[Path]]
    problems: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    def refuse_problems(self, folder: Path) -> None:
        """Raises ValueError if there are problems; they are listed."""
        headline = f"Correct or remove these in {folder}, or leave them out with --on-problem skip:"
        raise_listing(headline, list(self.problems.values()))


def find_cases(folder: Path, model: TrainedModel) -> FoundCases:
    """Looks at every file of a folder.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds nothing that is named as an image of the model's kind.
    """
    refuse_file(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    ending = model.dataset_json["file_ending"]
    found, others = group_by_case(folder, ending)
    if not found:
        there = ", ".join(path.name for path in others[:3])
        raise ValueError(
            f"{folder} holds no image named CASE_0000{ending}, which the model was trained on; it holds "
            f"{there or 'nothing'}."
        )
    problems = dict(_misnamed(others, ending))
    for case, files in found.items():
        # One RGB file may hold three channels; only reading tells.
        problem = naming_problem(case, files, {1, model.num_channels}, ending) or _content_problem(files, model)
        if problem:
            problems[case] = problem
    cases = {case: files for case, files in found.items() if case not in problems}
    unseen = [path.name for path in others if path.name not in problems and not is_spacing_file(path, ending)]
    return FoundCases(cases, problems, tuple(unseen))


def _misnamed(others: Sequence[Path], ending: str) -> Iterator[tuple[str, str]]:
    for path in others:
        if path.is_symlink() and not path.exists():
            yield path.name, f"{path.name} is a link to {path.readlink()}, which is not there"
        elif looks_like_image(path):
            yield path.name, f"{path.name} is not named CASE_0000{ending}, so it is not predicted"


def _content_problem(files: Sequence[Path], model: TrainedModel) -> str:
    try:
        read_for(model, files)
    except ImageError as error:
        return error.short
    return ""


def read_for(model: TrainedModel, files: Sequence[Path]) -> tuple:
    """An image (channels, slices, rows, columns) that the model can predict, and its properties.

    Raises:
        ImageError: as `read_images`; or it has another number of channels or, for a model of volumes, one slice.
    """
    predictor = model.predictor
    image, properties = read_images(predictor.plans_manager.image_reader_writer_class(), files)
    refuse_other_channels(image, files, model.num_channels, f"the model was trained on {model.num_channels}")
    if is_flat(image, properties) and len(predictor.configuration_manager.spacing) == 3:
        raise ImageError(files, FLAT_IN_3D)
    return image, properties
