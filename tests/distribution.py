"""How tests are spread over processes: by file, except that end-to-end tests go where their stack is."""

import pytest
from xdist.scheduler import LoadFileScheduling

_COMMON_STACK = "tests/e2e/"
#: End-to-end tests with stacks of their own: another process waits for them, one after the other.
_OWN_STACKS = ("tests/e2e/test_kept_state.py", "tests/e2e/test_uninstall.py")
#: What takes long begins first, so that no process waits for another at the end.
_FIRST = (
    _COMMON_STACK,
    "tests/integration/test_training_pipeline.py",
    "tests/template/test_layers.py",
    *_OWN_STACKS,
    "tests/template/",
    "tests/integration/",
)


class OneStackScheduling(LoadFileScheduling):
    """Keeps a file's tests together, and those that start a local stack."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_OWN_STACKS):
            return _OWN_STACKS[0]
        if nodeid.startswith(_COMMON_STACK):
            return _COMMON_STACK
        scope: str = super()._split_scope(nodeid)
        return scope


def make_scheduler(config: pytest.Config, log: object) -> OneStackScheduling:
    """Return the scheduler, which takes tests in the order in which they were collected."""
    config.option.loadscopereorder = False
    return OneStackScheduling(config, log)


def put_slow_first(items: list[pytest.Item]) -> None:
    """Order tests by how long their kind takes; those of one kind stay in their order."""

    def rank(item: pytest.Item) -> int:
        # Of the places that fit, the one that says most.
        fitting = [place for place in _FIRST if item.nodeid.startswith(place)]
        return _FIRST.index(max(fitting, key=len)) if fitting else len(_FIRST)

    items.sort(key=rank)
