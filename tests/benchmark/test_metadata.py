"""Subgroups from tables of metadata: bins, quartiles, and every fault named with its file."""

import re
from pathlib import Path
from typing import Any

import pytest

from nnunet_diffusion_ensemble.benchmark import metadata
from nnunet_diffusion_ensemble.benchmark.domains import Domain, DomainCase
from nnunet_diffusion_ensemble.benchmark.groups import bin_names, bin_of, quartiles
from nnunet_diffusion_ensemble.benchmark.metadata import assign_groups
from nnunet_diffusion_ensemble.benchmark.problems import Problem
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.nnunet import raw_cases

CASES = ("a", "b", "c")
MODEL = {"name": "M", "folder": "m", "seeds": {0: [0]}}


def made(root: Path, subgroups: dict[str, Any], **tables: str) -> tuple[BenchmarkSpec, list[Domain]]:
    """Domains, by name with their table of metadata, of three empty images each."""
    parts = []
    for name, text in tables.items():
        (root / name).mkdir()
        for case in CASES:
            (root / name / f"{name}_{case}_0000.png").touch()
        (root / f"{name}.csv").write_text(text)
        paths = {"images": root / name, "references": root / name, "metadata": root / f"{name}.csv"}
        parts.append({"name": name, "role": "target", **paths})
    spec = BenchmarkSpec(output=root / "out", models=[MODEL], domains=parts, subgroups=subgroups, device="cpu")
    domains = [
        Domain(domain, {(name := f"{domain.name}_{case}"): DomainCase(name, (), Path(name), name) for case in CASES})
        for domain in spec.domains
    ]
    return spec, domains


def groups_of(root: Path, subgroups: dict[str, Any], **tables: str) -> tuple[dict[str, list[str]], list[Problem]]:
    """Cases by group, in order."""
    members, problems = assign_groups(*made(root, subgroups, **tables), ".png")
    found: dict[str, list[str]] = {}
    for member in members:
        found.setdefault(member.group, []).append(member.case)
    return found, problems


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (39.9, "below 40"),
        (40, "40 to below 65.5"),
        (65.5, "65.5 and above"),
        (-1e9, "below 40"),
        (99, "65.5 and above"),
    ],
)
def test_an_edge_belongs_to_the_bin_above_it(number: float, name: str) -> None:
    assert bin_of(number, (40, 65.5)) == name


def test_bins_have_names_in_rising_order() -> None:
    assert bin_names((40,)) == ("below 40", "40 and above")


@pytest.mark.parametrize(
    ("numbers", "edges"), [([1, 2, 3, 4, 5], (2, 3, 4)), ([1, 1, 1, 1, 9], (1,)), ([1, 2], (1.25, 1.5, 1.75)), ([], ())]
)
def test_quartiles_worked_by_hand(numbers: list[float], edges: tuple[float, ...]) -> None:
    assert quartiles(numbers) == edges


def test_the_folder_of_images_is_listed_once_and_not_for_each_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Path] = []

    def group_by_case(folder: Path, ending: str) -> Any:
        listed.append(folder)
        return raw_cases.group_by_case(folder, ending)

    monkeypatch.setattr(metadata, "group_by_case", group_by_case)
    groups_of(tmp_path, {"sex": "categories"}, n="case,sex\nn_a,M\nn_b,F\nn_c,F\n")
    assert listed == [tmp_path / "n"]


def test_categories_are_in_the_order_of_their_names_and_empty_cells_last(tmp_path: Path) -> None:
    table = "case,sex,other\nn_a,M,1\nn_b,,2\nn_c,F,3\n"
    found, problems = groups_of(tmp_path, {"sex": "categories"}, n=table)
    assert list(found.items()) == [("F", ["n_c"]), ("M", ["n_a"]), ("no value", ["n_b"])]
    assert problems == []


def test_numbers_are_binned_by_edges(tmp_path: Path) -> None:
    found, _ = groups_of(tmp_path, {"age": [40, 65]}, n="case,age\nn_a,65\nn_b,39.5\nn_c,\n")
    assert found == {"below 40": ["n_b"], "65 and above": ["n_a"], "no value": ["n_c"]}


def test_quartiles_are_those_of_all_domains_together(tmp_path: Path) -> None:
    tables = {"n": "case,age\nn_a,1\nn_b,2\nn_c,3\n", "s": "case,age\ns_a,4\ns_b,5\ns_c,6\n"}
    found, _ = groups_of(tmp_path, {"age": "quartiles"}, **tables)  # of 1 to 6: 2.25, 3.5, 4.75
    assert found == {
        "below 2.25": ["n_a", "n_b"],
        "2.25 to below 3.5": ["n_c"],
        "3.5 to below 4.75": ["s_a"],
        "4.75 and above": ["s_b", "s_c"],
    }


def test_all_faults_of_a_table_are_told_at_once_with_its_name(tmp_path: Path) -> None:
    table = "case,age\nn_a,30\nn_a,40\nn_b,old\nn_x,50\n"
    found, problems = groups_of(tmp_path, {"age": [40]}, n=table)
    texts = "\n".join(map(str, problems))
    for text in (
        r"^n: .*n\.csv names cases without an image: n_x$",
        r"^n: n_a: is several times, differently, in .*n\.csv$",
        r"^n: n_b: .*n\.csv has age 'old', not a number$",
        r"^n: n_c: is not in .*n\.csv$",
    ):
        assert re.search(text, texts, re.MULTILINE), texts
    assert len(problems) == 4 and found == {}
    assert {problem.action for problem in problems} == {"tested, but in no subgroup"}


@pytest.mark.parametrize("text", ["nan", "inf", "1,5", "1 5"])
def test_what_is_no_finite_number_is_a_fault(text: str, tmp_path: Path) -> None:
    _, problems = groups_of(tmp_path, {"age": [40]}, n=f'case,age\nn_a,"{text}"\nn_b,1\nn_c,2\n')
    assert [problem.case for problem in problems] == ["n_a"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("case,sex\nn_a,F\n", r"n\.csv needs the columns case, sex and age, separated by commas; it has case, sex\."),
        ("", r"n\.csv is not a table in CSV"),
    ],
)
def test_a_table_without_a_column_is_a_fault(table: str, message: str, tmp_path: Path) -> None:
    found, (problem,) = groups_of(tmp_path, {"sex": "categories", "age": [40]}, n=table)
    assert found == {} and re.search(message, problem.problem)


def test_a_missing_table_is_a_fault(tmp_path: Path) -> None:
    spec, domains = made(tmp_path, {"age": [40]}, n="")
    (tmp_path / "n.csv").unlink()
    _, (problem,) = assign_groups(spec, domains, ".png")
    assert problem.problem == f"There is no table of metadata {tmp_path / 'n.csv'}."


def test_domains_may_share_a_table(tmp_path: Path) -> None:
    table = "case,sex\n" + "".join(f"{domain}_{case},F\n" for domain in "ns" for case in CASES)
    spec, domains = made(tmp_path, {"sex": "categories"}, n=table, s=table)
    shared = [part.model_copy(update={"metadata": tmp_path / "n.csv"}) for part in spec.domains]
    domains = [Domain(part, domain.cases) for part, domain in zip(shared, domains, strict=True)]
    members, problems = assign_groups(spec.model_copy(update={"domains": tuple(shared)}), domains, ".png")
    assert (len(members), problems) == (6, [])
