"""CITATION.cff: the two papers, and the version of the package."""

from pathlib import Path

import pytest
import yaml

import nnunet_diffusion_ensemble

FILE = Path(__file__).resolve().parents[2] / "CITATION.cff"
# Of the schema of CFF 1.2.0.
REQUIRED = {"cff-version", "message", "title", "authors"}
REFERENCE_REQUIRED = {"authors", "title", "type"}


@pytest.fixture(scope="module")
def citation() -> dict:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def test_it_has_what_the_format_asks_for(citation: dict) -> None:
    assert set(citation) >= REQUIRED
    assert citation["cff-version"] == "1.2.0"
    for reference in citation["references"]:
        assert set(reference) >= REFERENCE_REQUIRED
        assert all({"family-names", "given-names"} <= set(author) for author in reference["authors"])


def test_it_cites_both_papers(citation: dict) -> None:
    tedm, nnunet = citation["references"]
    assert tedm["identifiers"] == [{"type": "other", "value": "arXiv:2311.07421"}]
    assert [author["family-names"] for author in tedm["authors"]] == ["Rosnati", "Roschewitz", "Glocker"]
    assert (nnunet["doi"], nnunet["journal"]) == ("10.1038/s41592-020-01008-z", "Nature Methods")
    assert (nnunet["volume"], nnunet["start"], nnunet["end"], nnunet["year"]) == (18, 203, 211, 2021)


def test_its_version_is_that_of_the_package(citation: dict) -> None:
    assert citation["version"] == nnunet_diffusion_ensemble.__version__
