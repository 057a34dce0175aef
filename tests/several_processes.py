"""With pytest-xdist (`-n 2`): a module stays in one process, and so do those that share a chain; slow ones come first.

Marks of groups would do, but pytest-xdist 3.8 loses them under pytest 9.2: tests of a module end up in all processes.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

SHARES_THE_CHAIN = "from xray_chain import"  # trained once for all; what it registers with nnU-Net holds for all


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):  # with pytest-xdist
        config.option.loadscopereorder = False  # would put modules with few tests last, which are the slow ones


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(config.rootpath / nodeid.partition("::")[0])

    return Together(config, log)


@cache
def group_of(module: Path) -> str:
    return "X-rays" if SHARES_THE_CHAIN in module.read_text(encoding="utf-8") else str(module)
