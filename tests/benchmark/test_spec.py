"""Specifications of benchmarks: what is resolved, and where each mistake is."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec, ModelSpec, as_name
from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec, write_spec
from nnunet_diffusion_ensemble.evaluation.metrics import METRICS

SPEC = """\
output: out
models:
  - name: TEDM
    folder: models/tedm
    seeds: {0: [0], 1: [1]}
domains:
  - name: Montgomery
    role: source
    images: images
    references: references
device: cpu
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spec.yaml"


def read(file: Path, text: str) -> BenchmarkSpec:
    file.write_text(text, encoding="utf-8")
    return read_spec(file)


def test_what_is_left_out_has_its_default(file: Path) -> None:
    spec = read(file, SPEC)
    assert spec.metrics == tuple(METRICS)
    assert (spec.unit, spec.on_problem, spec.models[0].labelled_cases) == ("mm", "refuse", None)


def test_the_device_is_cuda_where_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for is_there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_there=is_there: is_there)
        assert read(file, SPEC.replace("device: cpu\n", "")).device == device


def test_paths_start_from_the_file_the_home_or_a_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATA", "/data")
    text = (
        SPEC.replace("models/tedm", "~/tedm")
        .replace("images: images", "images: ${DATA}/x")
        .replace("output: out", "output: ../out")
    )
    spec = read(file, text)
    assert spec.output == tmp_path.parent / "out"
    assert spec.models[0].folder == tmp_path / "home" / "tedm"
    assert spec.domains[0].images == Path("/data/x")
    assert spec.domains[0].references == tmp_path / "references"


def test_folds_are_one_seed(file: Path) -> None:
    assert read(file, SPEC.replace("seeds: {0: [0], 1: [1]}", "folds: [0, 1, all]")).models[0].seeds == {
        0: (0, 1, "all")
    }


def test_anchors_of_yaml_work(file: Path) -> None:
    text = SPEC.replace("  - name: TEDM", "  - &tedm\n    name: TEDM")
    text = text.replace("domains:", "  - {<<: *tedm, name: other}\ndomains:")
    models = read(file, text).models
    assert [model.name for model in models] == ["TEDM", "other"]
    assert models[0].folder == models[1].folder


def test_a_resolved_specification_is_the_same_from_anywhere(file: Path, tmp_path: Path) -> None:
    text = SPEC.replace("name: Montgomery", "name: 北京 'NA'").replace("seeds: {0: [0], 1: [1]}", "folds: [all, 3]")
    spec = read(file, text)
    (tmp_path / "elsewhere").mkdir()
    write_spec(spec, tmp_path / "elsewhere" / "resolved.yaml")
    assert read_spec(tmp_path / "elsewhere" / "resolved.yaml") == spec
    text = (tmp_path / "elsewhere" / "resolved.yaml").read_text(encoding="utf-8")
    assert all(f"{name}:" in text for name in BenchmarkSpec.model_fields)


MISTAKES = {
    # line and column by hand, what came, what is allowed
    "a wrong type": ("name: TEDM", "name: no", r"line 3, column 11: name must be text .*quotes.*got false"),
    "a number in quotes": (
        "device: cpu",
        'num_processes: "2"',
        r"line 11, column 16: .*whole number of at least 1; got '2'",
    ),
    "an unknown key": ("role:", "rol:", r"line 8, column 5: rol is unknown; did you mean role\? Known are name, role"),
    "a missing key": ("    role: source\n", "", r"line 7, column 5: role is missing; known are name, role, images"),
    "an unknown word": ("source", "train", r"line 8, column 11: role must be source or target; got 'train'"),
    "an unknown metric": (
        "device: cpu",
        "metrics: [Dice, hd95]",
        r"line 11, column 17: metrics: unknown metric hd95; did you mean HD95\? Allowed are Dice, IoU",
    ),
    "a metric twice": ("device: cpu", "metrics: [Dice, Dice]", r"line 11, column 10: metrics: Dice twice"),
    "a metric alone": ("device: cpu", "metrics: Dice", r"line 11, column 10: metrics must be a list.*got 'Dice'"),
    "no metric": (
        "device: cpu",
        "metrics: []",
        r"line 11, column 10: metrics must be a list of one.*; got \[\]",
    ),
    "an unset variable": ("models/tedm", "$NOT_SET/a", r"line 4, column 13: .*variable \$NOT_SET .*is not set"),
    "a wrong fold": (
        "1: [1]",
        "1: [one]",
        r"line 5, column 25: seeds must be .*each seed .*, 1: \['one'\]}",
    ),
    "a wrong seed": (
        "1: [1]",
        "b: [1]",
        r"line 5, column 21: seeds must be .*each seed .*, b: \[1\]}",
    ),
    "a seed twice": ("1: [1]", "0: [1]", r"line 5, column 21: 0 is there already, in line 5"),
    "a fold for folds": (
        "1: [1]",
        "1: 1",
        r"line 5, column 24: seeds must be .*each seed .*, 1: 1}",
    ),
    "both kinds": ("    seeds", "    folds: [0]\n    seeds", r"line 5, column 5: a model has folds or seeds"),
    "a share of more": (
        "device: cpu",
        "tile_step_size: 1.5",
        r"line 11, column 17: .*above 0 and at most 1; got 1\.5",
    ),
    "no length": (
        "device: cpu",
        "nsd_tolerance: 0",
        r"line 11, column 16: .*must be a number above 0; got 0",
    ),
    "infinity": ("device: cpu", "nsd_tolerance: .inf", r"nsd_tolerance must be a finite number above 0; got inf"),
    "a text for yes": ("device: cpu", "mirroring: y e s", r"mirroring must be true or false; got 'y e s'"),
    "edges that fall": (
        "device: cpu",
        "subgroups: {age: [65, 40]}",
        r"line 11, column 18: subgroups must be for each column .*categories, quartiles, or rising numbers",
    ),
    "subgroups without metadata": (
        "device: cpu",
        "subgroups: {age: quartiles}",
        r"subgroups must be left out, or columns of a table that a domain names as metadata",
    ),
    "a mix of what is no subgroup": (
        "device: cpu",
        "target_mix: {sex: {F: 0.5, M: 0.5}}",
        r"target_mix must be of columns that subgroups names \(none\)",
    ),
    "a key twice": ("device: cpu", "output: other", r"line 11, column 1: output is there already, in line 1"),
    "an entry of text": (
        "  - name: TEDM",
        "  - x\n  - name: TEDM",
        r"line 3, column 5: models must have name, folder.*got 'x'",
    ),
    "no name": ("name: TEDM", "name: ' '", r"line 3, column 11: name must be text of 1 to 100 characters.*; got ' '"),
    "wrong indentation": ("    role", "   role", r"not YAML. line 8, column 4: .*Mind indentation"),
    "a tab": ("    role", "\trole", r"not YAML. line 8, column 1: .*cannot start any token"),
    "a day that is none": ("name: TEDM", "name: 2024-13-45", r"is not YAML.*month must be in 1\.\.12"),
    "a tag": ("name: TEDM", "name: !!python/object:os.system x", r"not YAML. line 3, column 11: .*python/object"),
}


@pytest.mark.parametrize("what", sorted(MISTAKES))
def test_a_mistake_is_named_with_its_place(what: str, file: Path) -> None:
    old, new, message = MISTAKES[what]
    assert old in SPEC
    with pytest.raises(ValueError, match=message) as raised:
        read(file, SPEC.replace(old, new, 1))
    assert str(file) in str(raised.value)
    assert "pydantic" not in str(raised.value).lower() and "http" not in str(raised.value)


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ("{sex: {F: 0.5, M: 0.4}}", "target_mix must be shares of sex that add up to 1"),
        ("{dose: {low: 1.0}}", "groups that do not depend on the cases: give dose edges"),
        ("{age: {below 40: 0.5, above 40: 0.5}}", "of the groups of age, below 40, 40 and above"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(mix: str, message: str, file: Path) -> None:
    text = SPEC.replace("    role", "    metadata: m.csv\n    role")
    groups = "subgroups: {sex: categories, age: [40], dose: quartiles}\n"
    with pytest.raises(ValueError, match=message):
        read(file, f"{text}{groups}target_mix: {mix}\n")
    assert read(file, f"{text}{groups}target_mix: {{age: {{below 40: 0.25, 40 and above: 0.75}}}}\n").target_mix


def test_all_mistakes_are_listed_in_the_order_of_the_file(file: Path) -> None:
    text = SPEC.replace("TEDM", "1").replace("source", "x").replace("device: cpu", "colour: red")
    with pytest.raises(ValueError, match="3 mistakes") as raised:
        read(file, text)
    lines = str(raised.value).splitlines()[1:]
    assert [line.split(",")[0].strip() for line in lines] == ["line 3", "line 8", "line 11"]


ADDED = ModelSpec(name="added", folder=Path("/models/added"), seeds={0: (0,)})


def test_models_and_output_can_be_added_to_a_file_that_lacks_them(file: Path, tmp_path: Path) -> None:
    file.write_text(SPEC[SPEC.index("domains:") :])
    spec = read_spec(file, tmp_path / "out", [ADDED])
    assert (spec.output, spec.models) == (tmp_path / "out", (ADDED,))


def test_what_the_file_has_stays_beside_what_is_added(file: Path, tmp_path: Path) -> None:
    file.write_text(SPEC)
    spec = read_spec(file, Path("/other"), [ADDED])
    assert spec.output == tmp_path / "out"
    assert [model.name for model in spec.models] == ["TEDM", "added"]


def test_mistakes_keep_their_place_when_something_is_added(file: Path) -> None:
    file.write_text(SPEC[SPEC.index("domains:") :].replace("role: source", "role: sauce"))
    with pytest.raises(ValueError, match="line 3, column 11: role must be source or target"):
        read_spec(file, Path("/out"), [ADDED])


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "just text\n"])
def test_what_holds_no_keys_is_refused(text: str, file: Path) -> None:
    with pytest.raises(ValueError, match="line 1, column 1: the file must have output, models, domains"):
        read(file, text)


def test_a_file_in_another_encoding_is_refused(file: Path) -> None:
    file.write_bytes(SPEC.replace("Montgomery", "Zürich").encode("latin-1"))
    with pytest.raises(ValueError, match="is not YAML in UTF-8"):
        read_spec(file)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no .*nowhere\.yaml"):
        read_spec(tmp_path / "nowhere.yaml")
    with pytest.raises(FileNotFoundError, match="is a folder, not a file"):
        read_spec(tmp_path)


def made(**model: Any) -> dict[str, Any]:
    return {"name": "a", "folder": "f", "seeds": {0: [0]}} | model


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (made(), made(folder="g"), "a is there twice; rename one"),
        (made(labelled_cases=3), made(labelled_cases=3), r"a with 3 labelled case\(s\) is there twice"),
        (made(name="a b"), made(name="a/b"), "results of a b and a/b would lie in one folder"),
        (made(name="a"), made(name="A"), "results of a and A would lie in one folder"),
        (made(name="a", labelled_cases=3), made(name="a_n003"), "would lie in one folder"),
    ],
)
def test_models_whose_results_would_mix_are_refused(first: dict, second: dict, message: str) -> None:
    domain = {"name": "d", "role": "source", "images": "i", "references": "r"}
    with pytest.raises(ValueError, match=message):
        BenchmarkSpec(output="o", models=[first, second], domains=[domain], device="cpu")
    with pytest.raises(ValueError, match="d is there twice"):
        BenchmarkSpec(output="o", models=[first], domains=[domain] * 2, device="cpu")


def test_a_model_of_another_number_of_labelled_cases_is_another_point_of_its_curve() -> None:
    keys = {ModelSpec(**made(labelled_cases=cases)).key for cases in (None, 1, 12)}
    assert keys == {"a", "a_n001", "a_n012"}


@pytest.mark.parametrize(("text", "name"), [("a b/c", "a_b_c"), ("..", "_"), (".x", "x"), ("1.5-T", "1.5-T")])
def test_names_of_files_stay_in_their_folder(text: str, name: str) -> None:
    assert as_name(text) == name
