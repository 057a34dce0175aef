"""The unlabelled images: `imagesUn` of the labelled data set, and any folder of the new hospital."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_diffusion_ensemble.nnunet.raw_cases import UNLABELLED_IMAGES, group_by_case, naming_problem
from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import find_unlabelled_cases
from nnunet_diffusion_ensemble.self_training.teacher import LabelledCases, raw_folder
from nnunet_diffusion_ensemble.system.messages import raise_listing

Cases = Mapping[str, Sequence[Path]]  # the image files of each, in the order of their channels


def find_images(labelled: LabelledCases, folders: Sequence[Path]) -> dict[str, list[Path]]:
    """All unlabelled cases, by name.

    Args:
        labelled: the labelled data set, whose `imagesUn` is read.
        folders: further ones, with images named as nnU-Net names them.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: there is no image, `imagesUn` holds shards, names are not nnU-Net's, or two cases have one name;
            they are listed.
    """
    found = find_unlabelled_cases(raw_folder(labelled.name), labelled.dataset_json)
    if found.shards:
        shards, folder = ", ".join(shard.name for shard in found.shards), raw_folder(labelled.name) / UNLABELLED_IMAGES
        raise ValueError(
            f"Self-training predicts and links single files, and {folder} holds shards: {shards}. Unpack those that "
            f"it shall learn from (tar -xf SHARD -C {folder}) and move the shards elsewhere."
        )
    cases = dict(found.loose)
    counts = {len(files["images"]) for files in labelled.files.values()}
    for folder in folders:
        further = _cases_in(folder, labelled.dataset_json["file_ending"], counts)
        _refuse_twice(folder, further, {**cases, **labelled.files})
        cases |= further
    _refuse_twice(raw_folder(labelled.name) / UNLABELLED_IMAGES, cases, labelled.files)
    if not cases:
        raise ValueError(
            f"There is no unlabelled image: put some into {raw_folder(labelled.name) / UNLABELLED_IMAGES}, or name a "
            "folder with --images."
        )
    return dict(sorted(cases.items()))


def _cases_in(folder: Path, ending: str, counts: set[int]) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    cases, _ = group_by_case(folder, ending)
    if not cases:
        raise ValueError(f"{folder} holds no image named CASE_0000{ending}, as those of the labelled data set are.")
    problems = [problem for case, files in cases.items() if (problem := naming_problem(case, files, counts, ending))]
    raise_listing(f"Rename, complete or remove these in {folder}:", problems)
    return cases


def _refuse_twice(folder: Path, found: Mapping[str, object], others: Mapping[str, object]) -> None:
    twice = [f"{case} is another case as well" for case in found if case in others]
    raise_listing(f"Rename these in {folder}, so that each case has a name of its own:", twice)
