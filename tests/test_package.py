"""The package as it is imported: at once, with a lazy API, and with its trainers where Python starts in a checkout."""

import subprocess
import sys
from pathlib import Path

import pytest

import nnunet_diffusion_ensemble

REPOSITORY = Path(__file__).resolve().parents[1]
LONGEST_SECONDS = 0.1


def run(code: str, *options: str) -> str:
    """What Python prints that starts in the checkout."""
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout.strip()


def test_importing_the_package_costs_nothing() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import nnunet_diffusion_ensemble;"
        "print(time.perf_counter() - start, *{'torch', 'numpy', 'nnunetv2', 'monai'} & set(sys.modules))"
    )
    seconds, *heavy = run(code).split()
    assert float(seconds) < LONGEST_SECONDS
    assert heavy == []


@pytest.mark.parametrize("name", nnunet_diffusion_ensemble.__all__)
def test_each_public_name_is_there_when_asked_for(name: str) -> None:
    assert getattr(nnunet_diffusion_ensemble, name) is not None
    assert name in dir(nnunet_diffusion_ensemble)


@pytest.mark.parametrize("name", sorted(set(nnunet_diffusion_ensemble.__all__) - {"__version__"}))
def test_each_public_name_says_what_it_is(name: str) -> None:
    assert (getattr(nnunet_diffusion_ensemble, name).__doc__ or "").strip()


def test_another_name_is_an_error_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match=r"'nnunet_diffusion_ensemble' has no attribute 'load_denoisers'"):
        nnunet_diffusion_ensemble.load_denoisers  # noqa: B018


@pytest.mark.parametrize("folder", ["trainers", "planners"])
def test_a_checkout_that_hides_the_installed_package_has_them_all_the_same(folder: str) -> None:
    # -S leaves out site-packages, and with them the finder of an editable installation.
    found = run(f"import nnunet_diffusion_ensemble.{folder} as found; print(found.__file__)", "-S")
    assert Path(found) == REPOSITORY / folder / "__init__.py"
