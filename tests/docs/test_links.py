"""Links of all documents lead somewhere: to a file of the repository, and to a heading where they name one."""

import re
from pathlib import Path

import pytest
from documented import DOCS, PAGES, REPOSITORY, name_of, prose

LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them: small letters, no punctuation, hyphens for spaces."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", title).strip().lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no {target}"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def test_pages_of_the_site_link_to_nothing_outside_it() -> None:
    for page in DOCS.rglob("*.md"):
        for link in LINK.findall(prose(page)):
            if "://" not in link:
                assert (page.parent / link.partition("#")[0]).resolve().is_relative_to(DOCS), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("kind", ["getting-started", "how-to", "reference", "explanation"])
def test_each_page_of_a_kind_is_in_its_table_of_contents(kind: str) -> None:
    contents = DOCS / kind / "index.md"
    linked = {(contents.parent / link).resolve() for link in LINK.findall(prose(contents))}
    assert {page for page in (DOCS / kind).iterdir() if page.suffix in (".md", ".ipynb")} <= {*linked, contents}


def test_no_document_names_a_page_where_it_was_before() -> None:
    for page in PAGES:
        for path in re.findall(r"\bdocs/[\w/-]+\.(?:md|py|png|svg)\b", page.read_text(encoding="utf-8")):
            assert (REPOSITORY / path).is_file(), f"{name_of(page)} names {path}"
