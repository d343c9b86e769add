"""How tests are spread over processes: by file, except that all end-to-end tests go where their one stack is."""

import pytest
from xdist.scheduler import LoadFileScheduling

_END_TO_END = "tests/e2e"
#: What takes long begins first, so that no process waits for the other at the end.
_FIRST = (_END_TO_END, "tests/template", "tests/integration")


class OneStackScheduling(LoadFileScheduling):
    """Keeps a file's tests together, and those of the deployed stack."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(f"{_END_TO_END}/"):
            return _END_TO_END
        scope: str = super()._split_scope(nodeid)
        return scope


def make_scheduler(config: pytest.Config, log: object) -> OneStackScheduling:
    """Return the scheduler, which takes tests in the order in which they were collected."""
    config.option.loadscopereorder = False
    return OneStackScheduling(config, log)


def put_slow_first(items: list[pytest.Item]) -> None:
    """Order tests by how long their kind takes; those of one kind stay in their order."""

    def rank(item: pytest.Item) -> int:
        return next((place for place, folder in enumerate(_FIRST) if item.nodeid.startswith(folder)), len(_FIRST))

    items.sort(key=rank)
