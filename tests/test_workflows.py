"""The workflows of GitHub: valid, with few rights and a limit of time, on all Pythons and nnU-Nets that we name."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from documented import OURS, commands_of
from projects import PROJECT, REPOSITORY, required

from nnunet_diffusion_ensemble.cli.parser import build_parser
from nnunet_diffusion_ensemble.doctor.machine import TESTED_NNUNET

FILES = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
JOBS = [
    pytest.param(job, id=f"{file.stem}:{name}")
    for file in FILES
    for name, job in yaml.safe_load(file.read_text())["jobs"].items()
]
MAJOR_VERSION = re.compile(r"actions/[a-z-]+@v\d+")
EXPRESSION = re.compile(r"\$\{\{.*?\}\}|\$\(.*?\)")
EXTRA = re.compile(r"\.\[(\w+)\]")
EVERYWHERE = {"pip", "python", "mkdir", "test", "docker"}  # on GitHub's machines


def workflow(file: Path) -> dict[str, Any]:
    content = yaml.safe_load(file.read_text())
    content["on"] = content.pop(True)  # YAML 1.1 takes the word for a truth value
    return content


def scripts(job: dict[str, Any]) -> list[str]:
    return [EXPRESSION.sub("X", step["run"]) for step in job["steps"] if "run" in step]


def commands(job: dict[str, Any]) -> list[list[str]]:
    found = [words for script in scripts(job) for words in commands_of(script)]
    return [[Path(words[0]).name, *words[1:]] for words in found]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_workflow_may_only_read(file: Path) -> None:
    content = workflow(file)
    assert content["permissions"] == {"contents": "read"}
    assert {"push", "pull_request"} <= set(content["on"])
    assert not any("permissions" in job for job in content["jobs"].values())


@pytest.mark.parametrize("job", JOBS)
def test_a_job_ends_in_time(job: dict[str, Any]) -> None:
    assert 0 < job["timeout-minutes"] <= 180


@pytest.mark.parametrize("job", JOBS)
def test_actions_are_githubs_own_at_a_major_version(job: dict[str, Any]) -> None:
    for step in job["steps"]:
        assert "run" in step or MAJOR_VERSION.fullmatch(step["uses"]), step


@pytest.mark.parametrize("job", JOBS)
def test_packages_are_cached_by_what_pyproject_asks_for(job: dict[str, Any]) -> None:
    (python,) = (step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python"))
    assert python["cache"] == "pip"
    assert (REPOSITORY / python["cache-dependency-path"]).is_file()


@pytest.mark.parametrize("job", JOBS)
def test_commands_of_a_job_are_there(job: dict[str, Any]) -> None:
    script = " ".join(scripts(job))
    installed = set().union(*(required(extra) for extra in EXTRA.findall(script)))
    for words in commands(job):
        if words[0] == OURS:
            build_parser().parse_args(words[1:])
        elif words[:2] == ["python", "-m"]:
            assert find_spec(words[2]) or f"pip install {words[2]}" in script, words
        else:
            assert words[0] in EVERYWHERE | installed, words


def test_tests_run_on_the_pythons_of_the_classifiers() -> None:
    matrix = workflow(REPOSITORY / ".github" / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: Python :: 3\.\d+$", line)]
    assert matrix["python"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_tests_run_on_the_nnunet_that_doctor_names_and_on_the_newest() -> None:
    matrix = workflow(REPOSITORY / ".github" / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["nnunetv2"] == [*(f"nnunetv2=={version}" for version in TESTED_NNUNET), "nnunetv2"]


def test_the_demo_runs_where_only_the_wheel_is_installed() -> None:
    wheel = workflow(REPOSITORY / ".github" / "workflows" / "tests.yml")["jobs"]["wheel"]
    order = [words for words in commands(wheel) if words[0] in (OURS, "pip", "python")]
    installed = next(i for i, words in enumerate(order) if words == ["pip", "install", "dist/*.whl"])
    assert order[installed + 1] == [OURS, "demo", "--quick", "demo"]
    assert not any(words[:2] == ["pip", "install"] and "." in words[2] and words[2] != "dist/*.whl" for words in order)
