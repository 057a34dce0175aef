"""The test cases of a domain: images and references found by name, read once, and compared before any is predicted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_diffusion_ensemble.benchmark.problems import Problem
from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec
from nnunet_diffusion_ensemble.images.labels import allowed_values, pair_problem, value_problem
from nnunet_diffusion_ensemble.images.reading import ImageError, read_images, read_segmentation, refuse_other_channels
from nnunet_diffusion_ensemble.nnunet.raw_cases import group_by_case, naming_problem, number_of_channels
from nnunet_diffusion_ensemble.system.messages import in_one_line
from nnunet_diffusion_ensemble.system.records import stamps
from nnunet_diffusion_ensemble.system.workers import map_in_order

SHOWN_PATIENTS = 10
CASE, PATIENT = "case", "patient"


Stamps = dict[str, list[int]]  # of files, as in records.py


@dataclass(frozen=True)
class DomainCase:
    """A test case.

    Attributes:
        name: its name.
        images: its files, in the order of their channels.
        reference: file of its label map.
        patient: whose it is; the case itself where there is no table of patients.
    """

    name: str
    images: tuple[Path, ...]
    reference: Path
    patient: str

    @property
    def files(self) -> tuple[Path, ...]:
        """Images, then the reference."""
        return *self.images, self.reference

    @cached_property
    def stamps(self) -> Stamps:
        """Of its images and its reference, when they were first asked for."""
        return stamps(self.files)


@dataclass(frozen=True)
class Domain:
    """A domain and its cases that can be tested, by name."""

    spec: DomainSpec
    cases: Mapping[str, DomainCase]

    @property
    def files(self) -> list[Path]:
        """Images and references of all cases, and tables about them."""
        tables = [self.spec.patients, self.spec.metadata]
        of_cases = [file for case in self.cases.values() for file in case.files]
        return [*of_cases, *(table for table in tables if table is not None and table.is_file())]


@dataclass(frozen=True)
class Expected:
    """What the models expect of images and references.

    Attributes:
        dataset_json: of the models.
        reader_writer: of their plans.
        with_spacing: whether spacing has a meaning.
    """

    dataset_json: Mapping[str, Any]
    reader_writer: BaseReaderWriter
    with_spacing: bool = True

    @property
    def file_ending(self) -> str:
        return self.dataset_json["file_ending"]

    @property
    def num_channels(self) -> int:
        return number_of_channels(dict(self.dataset_json))

    @property
    def values(self) -> list[int]:
        """Those that a reference may hold."""
        return allowed_values(self.dataset_json)


@dataclass(frozen=True)
class Reading:
    """How the cases of a domain are read.

    Attributes:
        num_processes: that read.
        imported: modules for those processes, see `map_in_order`.
        known: stamps of the cases that were right when they were last read.
        done: is told how many cases have been read, and of how many.
    """

    num_processes: int = 1
    imported: Sequence[str] = ()
    known: Mapping[str, Stamps] = field(default_factory=dict)
    done: Callable[[int, int], None] = lambda done, total: None

    def is_known(self, case: DomainCase) -> bool:
        return case.name in self.known and self.known[case.name] == case.stamps


def check_domain(domain: DomainSpec, expected: Expected, reading: Reading = Reading()) -> tuple[Domain, list[Problem]]:
    """The cases of a domain that can be tested, and what is wrong with all others.

    Args:
        domain: as specified.
        expected: what the models expect.
        reading: processes and the like.

    Returns:
        The domain, whose cases may be none, and the problems, in the order of the cases.
    """
    try:
        found, problems = _find_cases(domain, expected.file_ending)
    except (ValueError, OSError) as error:
        return Domain(domain, {}), [Problem(in_one_line(error), domain=domain.name)]
    check = partial(_check_case, expected=expected)
    cases = [case for case in found if not reading.is_known(case)]
    texts = map_in_order(check, cases, min(reading.num_processes, len(cases) or 1), reading.imported)
    for position, (case, text) in enumerate(zip(cases, texts, strict=True), 1):
        reading.done(position, len(cases))
        if text:
            problems[case.name] = text
    good = {case.name: case for case in found if case.name not in problems}
    listed = [Problem(problems[case], domain=domain.name, case=case) for case in sorted(problems)]
    if not good and not listed:
        listed = [Problem(_why_empty(domain, expected.file_ending), domain=domain.name)]
    return Domain(domain, good), listed


# By name


def _find_cases(domain: DomainSpec, ending: str) -> tuple[list[DomainCase], dict[str, str]]:
    """Cases with image and reference; and what the names of files tell of others."""
    for folder in (domain.images, domain.references):
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}.")
    images, others = group_by_case(domain.images, ending)
    references = {
        file.name.removesuffix(ending): file
        for file in sorted(domain.references.glob(f"[!.]*{ending}"))
        if file.is_file()
    }
    patients = _read_patients(domain.patients) if domain.patients else {case: case for case in images}
    problems = {file.name: f"{file} is not named CASE_0000{ending}" for file in others if _is_meant(file, ending)}
    if domain.cases is not None:
        problems = {name: f"is not in {domain.images}" for name in domain.cases if name not in images}
        images = {name: files for name, files in images.items() if name in domain.cases}
        references = {name: file for name, file in references.items() if name in domain.cases}
    cases = []
    for name, files in images.items():
        text = naming_problem(name, files, {len(files)}, ending)
        if text is None and name not in references:
            text = f"{files[0].name} has no reference {domain.references / f'{name}{ending}'}"
        if text is None and not patients.get(name):
            text = f"has no patient in {domain.patients}"
        if text is None:
            cases.append(DomainCase(name, tuple(files), references[name], patients[name]))
        else:
            problems[name] = text
    for name in references.keys() - images.keys() - problems.keys():
        problems[name] = f"{references[name]} has no image {domain.images / f'{name}_0000{ending}'}"
    return cases, problems


def _is_meant(file: Path, ending: str) -> bool:
    """Whether a file with another name was to be an image: by its ending, or because it is a link to nowhere."""
    return file.name.lower().endswith(ending.lower()) or (file.is_symlink() and not file.exists())


def _read_patients(file: Path) -> dict[str, str]:
    """The patient of each case."""
    pairs = read_case_table(file, "patients", (CASE, PATIENT))[[CASE, PATIENT]].drop_duplicates()
    twice = pairs[CASE][pairs[CASE].duplicated()].tolist()
    if twice:
        raise ValueError(f"{file} names several patients of one case: {', '.join(twice[:SHOWN_PATIENTS])}.")
    return dict(zip(pairs[CASE], pairs[PATIENT], strict=True))


def read_case_table(file: Path, what: str, columns: Sequence[str]) -> pd.DataFrame:
    """A table in CSV of things known about cases, all of them texts.

    Args:
        file: to read.
        what: it tells of the cases.
        columns: that it must have.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no such table.
    """
    if not file.is_file():
        raise FileNotFoundError(f"There is no table of {what} {file}.")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, skipinitialspace=True)
    except ValueError as error:  # of pandas' parser and of other encodings
        raise ValueError(f"{file} is not a table in CSV and UTF-8: {in_one_line(error)}") from error
    if any(name not in table for name in columns):
        *others, last = columns
        raise ValueError(
            f"{file} needs the columns {', '.join(others)} and {last}, separated by commas; it has "
            f"{', '.join(table.columns)}."
        )
    return table


def _why_empty(domain: DomainSpec, ending: str) -> str:
    there = sorted(file.name for file in domain.images.glob("[!.]*"))
    return f"{domain.images} holds no image named CASE_0000{ending}; it holds {there[0] if there else 'nothing'}."


# By content


def _check_case(case: DomainCase, expected: Expected) -> str:
    """What is wrong with the content of a case's files; empty if nothing is."""
    try:
        image, image_properties = read_images(expected.reader_writer, case.images)
        refuse_other_channels(
            image, case.images, expected.num_channels, f"the models were trained on {expected.num_channels}"
        )
        reference, properties = read_segmentation(expected.reader_writer, case.reference)
    except ImageError as error:
        return str(error)
    differs = pair_problem(
        reference, properties, image, image_properties, case.images[0], with_lengths=expected.with_spacing
    )
    problem = differs or value_problem(reference, expected.values)
    return problem and f"the reference {case.reference} {problem}"
