"""A folder of images becomes shards: plain tar files for `imagesUn`, in the order of names."""

import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mode

from tqdm import tqdm

from nnunet_diffusion_ensemble.nnunet.raw_cases import (
    group_by_case,
    is_spacing_file,
    naming_problem,
    other_file_problem,
)
from nnunet_diffusion_ensemble.nnunet.raw_shards import SHARD_ENDING
from nnunet_diffusion_ensemble.system.atomic import whole_file
from nnunet_diffusion_ensemble.system.guard import alone_in
from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.system.messages import raise_listing

IMAGE = re.compile(r".+_\d{4}(\.[^_]+)")


@dataclass(frozen=True)
class Packed:
    """What `pack` did: how many cases are in how many shards, and how many of these were there before."""

    num_cases: int
    num_shards: int
    num_kept: int


def pack(folder: Path, output: Path, cases_per_shard: int, file_ending: str | None = None) -> Packed:
    """Writes shards `FOLDER-000000.tar`, ...; each appears whole, and those of an earlier, killed run are kept.

    Args:
        folder: of images named as nnU-Net wants them; they stay as they are.
        output: folder for the shards; made if it is missing.
        cases_per_shard: the last one may have fewer.
        file_ending: of the images; None for that in dataset.json beside the folder, or else the only one there is.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: names are not nnU-Net's (all are listed), or shards of other files are in the way. Nothing was
            written.
        AtWorkError: another process packs into the same folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    if output.resolve() == folder.resolve():
        raise ValueError(f"{output} holds the images; name another folder for the shards with -o.")
    cases, spacings = _cases(folder, file_ending or _file_ending(folder))
    shards = _shards(cases, spacings, cases_per_shard, output / folder.resolve().name)
    with alone_in(output):
        there = _refuse_others(shards, output / folder.resolve().name)
        for shard in tqdm([shard for shard in shards if shard not in there], "Packing", disable=None):
            _write(shard, shards[shard])
    return Packed(len(cases), len(shards), len(there))


def _file_ending(folder: Path) -> str:
    description = folder.resolve().parent / "dataset.json"
    if description.is_file():
        return str(read_object(description)["file_ending"])
    matches = (IMAGE.fullmatch(path.name) for path in folder.glob("[!.]*"))
    endings = sorted({match[1] for match in matches if match})
    if not endings:
        raise ValueError(f"{folder} holds no image named CASE_0000.png, CASE_0000.nii.gz or the like.")
    if len(endings) > 1:
        raise ValueError(f"{folder} holds files that end in {' and '.join(endings)}; say which: --file-ending")
    return endings[0]


def _cases(folder: Path, ending: str) -> tuple[dict[str, list[Path]], dict[str, Path]]:
    """Images by case and spacings of 3D TIFF by case; all cases have as many files."""
    cases, others = group_by_case(folder, ending)
    if not cases:
        raise ValueError(f"{folder} holds no image named CASE_0000{ending}.")
    spacings = {path.stem: path for path in others if is_spacing_file(path, ending)}
    problems = [problem for path in others if (problem := other_file_problem(path, ending))]
    counts = {mode(map(len, cases.values()))}
    found = (naming_problem(case, images, counts, ending, "most cases") for case, images in cases.items())
    raise_listing(f"Rename or remove these in {folder}:", problems + [problem for problem in found if problem])
    return cases, spacings


def _shards(
    cases: Mapping[str, Sequence[Path]], spacings: Mapping[str, Path], cases_per_shard: int, name: Path
) -> dict[Path, list[Path]]:
    """The files of each shard."""
    names = sorted(cases)
    shards = {}
    for number, start in enumerate(range(0, len(names), cases_per_shard)):
        inside = names[start : start + cases_per_shard]
        files = ([*cases[case], *([spacings[case]] if case in spacings else [])] for case in inside)
        shards[name.with_name(f"{name.name}-{number:06d}{SHARD_ENDING}")] = [file for some in files for file in some]
    return shards


def _refuse_others(shards: Mapping[Path, Sequence[Path]], name: Path) -> set[Path]:
    """The shards that are there already; ValueError if some of the name hold other files."""
    there = set(name.parent.glob(f"{name.name}-*{SHARD_ENDING}"))
    others = [shard.name for shard in sorted(there) if shard not in shards or not _holds(shard, shards[shard])]
    raise_listing(
        f"These in {name.parent} hold other files than would be packed; name another folder with -o, or delete them:",
        others,
    )
    return there


def _holds(shard: Path, files: Sequence[Path]) -> bool:
    try:
        with tarfile.open(shard, "r:") as tar:
            return [(m.name, m.size, m.mtime) for m in tar] == [(m.name, m.size, m.mtime) for m in map(_member, files)]
    except tarfile.TarError:
        return False


def _write(shard: Path, files: Sequence[Path]) -> None:
    with whole_file(shard) as temporary, tarfile.open(temporary, "w") as tar:
        for file in files:
            with file.open("rb") as stream:
                tar.addfile(_member(file), stream)


def _member(file: Path) -> tarfile.TarInfo:
    """Name, size and time alone: who owns the files is nobody's business."""
    member, state = tarfile.TarInfo(file.name), file.stat()
    member.size, member.mtime = state.st_size, int(state.st_mtime)
    return member
