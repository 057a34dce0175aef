"""Subgroups of cases, from the tables of metadata that the domains name, with all that is wrong in them at once."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_diffusion_ensemble.benchmark.domains import CASE, Domain, read_case_table
from nnunet_diffusion_ensemble.benchmark.groups import CATEGORIES, NO_VALUE, QUARTILES, bin_names, bin_of, quartiles
from nnunet_diffusion_ensemble.benchmark.problems import Problem
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.nnunet.raw_cases import group_by_case
from nnunet_diffusion_ensemble.system.messages import first_few, in_one_line

IN_NO_GROUP = "tested, but in no subgroup"
NUM_SHOWN = 10


@dataclass(frozen=True)
class Member:
    """A row of subgroups.csv: a case and its group by one column of the metadata."""

    column: str
    group: str
    domain: str
    case: str


@dataclass
class _Reader:
    """Reads the columns of all domains.

    Attributes:
        texts: by column, domain and case.
        problems: with the files.
    """

    spec: BenchmarkSpec
    ending: str
    texts: dict[tuple[str, str, str], str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def read(self, domain: Domain) -> None:
        file, name = domain.spec.metadata, domain.spec.name
        assert file is not None
        try:
            table = read_case_table(file, "metadata", (CASE, *self.spec.subgroups))
        except (ValueError, OSError) as error:
            self._tell(name, in_one_line(error))
            return
        table = table[[CASE, *self.spec.subgroups]].drop_duplicates()
        counts, names = table[CASE].value_counts(), self._names(file)
        unknown = [case for case in counts.index if case not in names]
        if unknown:
            self._tell(name, f"{file} names cases without an image: {first_few(sorted(unknown), NUM_SHOWN)}")
        rows = table.drop_duplicates(CASE).set_index(CASE).to_dict("index")
        for case in domain.cases:
            if counts.get(case, 0) == 1:
                self._add(domain, case, rows[case])
            else:
                self._tell(name, f"is {'several times, differently,' if case in rows else 'not'} in {file}", case)

    def _add(self, domain: Domain, case: str, row: Mapping[Any, str]) -> None:
        for column, grouping in self.spec.subgroups.items():
            text = row[column].strip()
            if text and grouping != CATEGORIES and not _is_number(text):
                self._tell(domain.spec.name, f"{domain.spec.metadata} has {column} {text!r}, not a number", case)
            else:
                self.texts[column, domain.spec.name, case] = text

    def _names(self, file: Path) -> set[str]:
        """All cases with an image in a domain that names this file."""
        folders = [domain.images for domain in self.spec.domains if domain.metadata == file and domain.images.is_dir()]
        return {case for folder in folders for case in group_by_case(folder, self.ending)[0]}

    def _tell(self, domain: str, text: str, case: str = "") -> None:
        self.problems.append(Problem(text, domain=domain, case=case, action=IN_NO_GROUP))


def assign_groups(
    spec: BenchmarkSpec, domains: Sequence[Domain], file_ending: str
) -> tuple[list[Member], list[Problem]]:
    """The groups of all cases by all columns of `spec.subgroups`, and what is wrong with the tables of metadata.

    Quartiles are those of all cases of all domains together, so that a group means the same in each of them.

    Args:
        spec: names columns and tables.
        domains: with the cases that are tested.
        file_ending: of images.

    Returns:
        Members in the order of columns, groups, domains and cases; and problems, whose cases are in no group.
    """
    reader = _Reader(spec, file_ending)
    for domain in domains:
        if domain.spec.metadata is not None and spec.subgroups:
            reader.read(domain)
    return [member for column in spec.subgroups for member in _of_column(spec, reader.texts, column)], reader.problems


def _of_column(spec: BenchmarkSpec, texts: Mapping[tuple[str, str, str], str], column: str) -> Iterator[Member]:
    own = {(domain, case): text for (name, domain, case), text in texts.items() if name == column}
    given = [text for text in own.values() if text]
    grouping = spec.subgroups[column]
    edges: tuple[float, ...] = ()
    if not isinstance(grouping, str):
        edges = grouping
    elif grouping == QUARTILES:
        edges = quartiles([float(text) for text in given])
    names = dict.fromkeys((*(bin_names(edges) if edges else sorted(set(given))), NO_VALUE))
    groups = {key: (bin_of(float(text), edges) if edges else text) if text else NO_VALUE for key, text in own.items()}
    for name in names:
        yield from (Member(column, name, *key) for key, group in groups.items() if group == name)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def members_table(members: Sequence[Member]) -> pd.DataFrame:
    """As a table with the columns of subgroups.csv."""
    return pd.DataFrame([vars(member) for member in members], columns=list(Member.__dataclass_fields__))
