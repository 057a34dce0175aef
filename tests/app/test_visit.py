"""What happens on the page: uploads are deleted, images are looked at one after the other, failures are sentences."""

from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from looks import make_look, write_picture

from nnunet_diffusion_ensemble.app import visit as module
from nnunet_diffusion_ensemble.app.look import Inspection
from nnunet_diffusion_ensemble.app.visit import BUSY, MOST_AT_ONCE, PREDICTING, Visits


class NoModels:
    """Stands in for the models, which `look_at` is not given here."""

    def get(self, *_: Any) -> None:
        return None


@pytest.fixture
def visits(tmp_path: Path) -> Visits:
    (tmp_path / "masks").mkdir()
    return Visits(tmp_path / "masks", NoModels())  # type: ignore[arg-type]


def test_an_upload_is_deleted_when_it_is_read(visits: Visits, tmp_path: Path) -> None:
    file = write_picture(tmp_path / "chest.png")
    assert visits.take(file).name == "chest"
    assert not file.exists()


def test_an_upload_that_is_refused_is_deleted_as_well_and_told_without_its_folder(
    visits: Visits, tmp_path: Path
) -> None:
    (tmp_path / "letter.png").write_text("no image")
    with pytest.raises(ValueError, match=r"^letter\.png cannot be read"):
        visits.take(tmp_path / "letter.png")
    assert not (tmp_path / "letter.png").exists()


def test_a_look_says_how_it_goes_and_ends_with_the_result(
    visits: Visits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_look(tmp_path)
    monkeypatch.setattr(module, "look_at", lambda *_: made)
    assert list(visits.look(made.upload, None, None)) == [PREDICTING, made]


def test_a_second_image_is_told_to_wait_and_then_looked_at(
    visits: Visits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, begun, go_on = make_look(tmp_path), Event(), Event()

    def slowly(*_: Any) -> Inspection:
        begun.set()
        assert go_on.wait(10)
        return made

    monkeypatch.setattr(module, "look_at", slowly)
    first = Thread(target=lambda: list(visits.look(made.upload, None, None)))
    first.start()
    assert begun.wait(10)
    second = visits.look(made.upload, None, None)
    assert next(second) == BUSY
    go_on.set()
    assert list(second) == [made]
    first.join()


def test_of_too_many_the_last_is_refused(visits: Visits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, begun, go_on = make_look(tmp_path), Event(), Event()
    monkeypatch.setattr(module, "look_at", lambda *_: (begun.set(), go_on.wait(10), made)[-1])
    threads = [Thread(target=lambda: list(visits.look(made.upload, None, None))) for _ in range(MOST_AT_ONCE)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    while visits.num_at_once < MOST_AT_ONCE:
        threads[-1].join(0.01)
    with pytest.raises(ValueError, match="4 images are at work or waiting already"):
        next(visits.look(made.upload, None, None))
    go_on.set()
    for thread in threads:
        thread.join()
    assert list(visits.look(made.upload, None, None))[-1] is made


def test_a_look_that_fails_or_is_left_keeps_nobody_waiting(
    visits: Visits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_look(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "look_at", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(visits.look(made.upload, None, None))
    next(visits.look(made.upload, None, None))  # and the page is closed
    monkeypatch.setattr(module, "look_at", lambda *_: made)
    assert list(visits.look(made.upload, None, None)) == [PREDICTING, made]


def test_each_mask_has_a_folder_of_its_own(visits: Visits, tmp_path: Path) -> None:
    look = make_look(tmp_path)
    first, second = visits.write_mask(look), visits.write_mask(look)
    assert first.name == second.name == "half_mask.png"
    assert first != second
