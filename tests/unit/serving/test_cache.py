import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from millrace.errors import (
    ArtifactIntegrityError,
    ArtifactNotFoundError,
    ModelNotFoundError,
    ServiceUnavailableError,
    VersionNotFoundError,
)
from millrace.serving.cache import STALE_AFTER_INTERVALS, ModelCache

from tests.limits import within
from tests.serving_models import MemoryModelSource, churn_onnx, churn_schema, version_artifacts

REFRESH_SECONDS = 5.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Later:
    """Takes work as a thread would, and does it when it is told to."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def __call__(self, work: Callable[[], None]) -> None:
        self.work.append(work)

    def run(self) -> None:
        while self.work:
            self.work.pop(0)()


@pytest.fixture
def source() -> MemoryModelSource:
    source = MemoryModelSource()
    source.register("churn", 1, artifacts())
    return source


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def cache(source: MemoryModelSource, clock: Clock, later: Later) -> ModelCache:
    return ModelCache(source, REFRESH_SECONDS, clock, start=later)


def artifacts() -> dict[str, bytes]:
    return version_artifacts(churn_onnx(), churn_schema())


def kinds(cache: ModelCache) -> list[str]:
    return [event.kind for event in cache.take_events()]


def test_a_model_is_loaded_once_and_its_pointer_left_alone_for_a_while(cache, source, clock, later):
    first = cache.get("churn")
    clock.now += REFRESH_SECONDS - 0.1
    assert cache.get("churn") is first
    assert source.reads == ["alias", "version", "manifest.json", "signature.json", "model.onnx"]
    assert not later.work


def test_a_pointer_that_did_not_move_is_all_that_a_refresh_reads(cache, source, clock, later):
    first = cache.get("churn")
    source.reads.clear()
    clock.now += REFRESH_SECONDS
    cache.get("churn")
    later.run()
    assert source.reads == ["alias"]
    assert cache.get("churn") is first
    assert kinds(cache) == []


def test_the_old_version_serves_until_the_new_one_is_loaded(cache, source, clock, later):
    cache.get("churn")
    source.register("churn", 2, artifacts())
    clock.now += REFRESH_SECONDS
    assert cache.get("churn").version == 1
    clock.now += REFRESH_SECONDS
    assert cache.get("churn").version == 1
    assert len(later.work) == 1, "no second refresh is started beside one that runs"
    later.run()
    assert cache.get("churn").version == 2
    assert kinds(cache) == ["swapped"]


@pytest.mark.parametrize("failure", [ServiceUnavailableError("throttled"), RuntimeError("a bug")])
def test_the_old_version_serves_while_the_registry_does_not_answer(cache, source, clock, later, failure):
    cache.get("churn")
    source.failure = failure
    for _ in range(3):
        clock.now += REFRESH_SECONDS
        assert cache.get("churn").version == 1
        later.run()
    assert kinds(cache) == ["refresh_failed"] * 3
    source.failure = None
    source.register("churn", 2, artifacts())
    clock.now += REFRESH_SECONDS
    cache.get("churn")
    later.run()
    assert cache.get("churn").version == 2


@pytest.mark.parametrize("name", ["manifest.json", "signature.json", "model.onnx"])
def test_the_old_version_serves_when_the_new_one_is_damaged(cache, source, clock, later, name):
    cache.get("churn")
    source.register("churn", 2, artifacts())
    source.versions["churn", 2][name] += b" "
    clock.now += REFRESH_SECONDS
    cache.get("churn")
    later.run()
    assert cache.get("churn").version == 1
    (event,) = cache.take_events()
    assert (event.kind, event.version) == ("refresh_failed", 1)
    assert "ArtifactIntegrityError" in event.reason


def test_a_damaged_first_version_is_an_error_and_is_tried_again(cache, source):
    good = source.versions["churn", 1]["model.onnx"]
    source.versions["churn", 1]["model.onnx"] = good[:-1]
    with pytest.raises(ArtifactIntegrityError):
        cache.get("churn")
    source.versions["churn", 1]["model.onnx"] = good
    assert cache.get("churn").version == 1


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_cold_start_with_a_damaged_champion_serves_the_nearest_whole_one_and_says_so(
    cache, source, clock, later, damage
):
    for version in (2, 3):
        source.register("churn", version, artifacts())
        if damage == "gone":
            del source.versions["churn", version]["model.onnx"]
        else:
            source.versions["churn", version]["model.onnx"] += b" "
    loaded = cache.get("churn")
    assert (loaded.version, loaded.instead_of) == (1, 3)
    (event,) = cache.take_events()
    assert (event.kind, event.version) == ("refresh_failed", 1)
    assert "version 3 is damaged" in event.reason
    assert cache.get("churn", "1").instead_of is None
    with pytest.raises((ArtifactIntegrityError, ArtifactNotFoundError)):
        cache.get("churn", "3")
    clock.now += REFRESH_SECONDS
    cache.get("churn")
    later.run()
    assert kinds(cache) == ["refresh_failed"], "the alarm goes on while the champion is damaged"
    source.register("churn", 3, artifacts())
    clock.now += REFRESH_SECONDS
    cache.get("churn")
    later.run()
    loaded = cache.get("churn")
    assert (loaded.version, loaded.instead_of, kinds(cache)) == (3, None, ["swapped"])


def test_a_rollback_to_the_version_that_serves_instead_ends_the_exception(cache, source, clock, later):
    source.register("churn", 2, artifacts())
    source.versions["churn", 2]["manifest.json"] += b" "
    assert cache.get("churn").instead_of == 2
    source.aliases["churn", "champion"] = 1
    clock.now += REFRESH_SECONDS
    cache.get("churn")
    later.run()
    assert (cache.get("churn").version, cache.get("churn").instead_of) == (1, None)


def test_another_alias_than_the_champion_is_never_replaced(cache, source):
    source.register("churn", 2, artifacts(), alias="challenger")
    source.versions["churn", 2]["model.onnx"] += b" "
    with pytest.raises(ArtifactIntegrityError):
        cache.get("churn", "challenger")


def test_an_unknown_model_or_alias_is_not_found(cache):
    with pytest.raises(ModelNotFoundError):
        cache.get("unknown")
    with pytest.raises(ModelNotFoundError):
        cache.get("churn", "challenger")


def test_a_model_whose_alias_was_taken_away_stops_serving(cache, source, clock, later):
    cache.get("churn")
    del source.aliases["churn", "champion"]
    clock.now += REFRESH_SECONDS
    assert cache.get("churn").version == 1
    later.run()
    assert kinds(cache) == ["withdrawn"]
    with pytest.raises(ModelNotFoundError):
        cache.get("churn")


def test_the_least_recently_used_model_goes_first(source, clock, later):
    cache = ModelCache(source, REFRESH_SECONDS, clock, capacity=2, start=later)
    for model in ("a", "b", "c"):
        source.register(model, 1, artifacts())
    first_a = cache.get("a")
    first_b = cache.get("b")
    cache.get("a")
    cache.get("c")
    assert cache.get("a") is first_a
    assert cache.get("b") is not first_b


def test_after_an_idle_spell_a_request_waits_for_the_pointer(source, clock):
    cache = ModelCache(source, REFRESH_SECONDS, clock)
    cache.get("churn")
    source.register("churn", 2, artifacts())
    clock.now += REFRESH_SECONDS * STALE_AFTER_INTERVALS + 0.1
    assert cache.get("churn").version == 2


def test_no_request_waits_for_a_registry_that_failed_before(source, clock, later, monkeypatch):
    cache = ModelCache(source, REFRESH_SECONDS, clock, start=later)
    cache.get("churn")
    source.failure = ServiceUnavailableError("down")
    clock.now += REFRESH_SECONDS
    cache.get("churn")
    later.run()
    clock.now += 1_000
    monkeypatch.setattr("millrace.serving.cache.STALE_WAIT_SECONDS", "no number: it fails who waits")
    assert cache.get("churn").version == 1


def test_many_first_requests_load_a_model_once(source, clock, later):
    cache = ModelCache(source, REFRESH_SECONDS, clock, start=later)
    with ThreadPoolExecutor(8) as threads:
        loaded = set(threads.map(id, threads.map(lambda _: cache.get("churn"), range(32))))
    assert len(loaded) == 1
    assert source.reads.count("model.onnx") == 1


class HeldSource(MemoryModelSource):
    """Holds back version 2 until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.loading = threading.Event()
        self.let_go = threading.Event()

    def artifact(self, model: str, version: int, name: str) -> bytes:
        if version == 2 and name == "model.onnx":
            self.loading.set()
            assert self.let_go.wait(60)
        return super().artifact(model, version, name)


def test_a_swap_under_load_neither_fails_nor_pauses_a_request(clock):
    source = HeldSource()
    source.register("churn", 1, artifacts())
    cache = ModelCache(source, REFRESH_SECONDS, clock)
    cache.get("churn")
    source.register("churn", 2, artifacts())
    clock.now += REFRESH_SECONDS
    with ThreadPoolExecutor(4) as threads:
        during = list(threads.map(lambda _: cache.get("churn").version, range(400)))
        assert source.loading.wait(60)
        during += threads.map(lambda _: cache.get("churn").version, range(400))
        assert set(during) == {1}, "the old version answers while the new one is loading"
        source.let_go.set()
        after = []
        for _ in within(60):
            after += threads.map(lambda _: cache.get("churn").version, range(40))
            if after[-1] == 2:
                break
        after += threads.map(lambda _: cache.get("churn").version, range(400))
    assert set(after[-400:]) == {2}
    assert source.reads.count("model.onnx") == 2


# -- versions ----------------------------------------------------------------------------------------------------------
def test_of_a_version_only_whether_it_may_serve_is_read_again(cache, source, clock, later):
    first = cache.get("churn", "1")
    source.register("churn", 2, artifacts())
    clock.now += REFRESH_SECONDS
    assert cache.get("churn", "1") is first
    later.run()
    assert cache.get("churn", "1") is first
    assert source.reads == ["version", "manifest.json", "signature.json", "model.onnx", "version"]


def test_a_version_that_is_retired_is_withdrawn(cache, source, clock, later, monkeypatch):
    cache.get("churn", "1")

    def retired(model, version):
        raise VersionNotFoundError(f"version {version} of model {model!r} is retired")

    monkeypatch.setattr(source, "manifest_sha256", retired)
    clock.now += REFRESH_SECONDS
    assert cache.get("churn", "1").version == 1  # until the thread has looked
    later.run()
    assert kinds(cache) == ["withdrawn"]
    with pytest.raises(VersionNotFoundError, match="retired"):
        cache.get("churn", "1")


def test_a_version_that_serves_under_an_alias_is_not_loaded_again(cache, source):
    champion = cache.get("churn")
    assert cache.get("churn", "1") is champion
    assert source.reads.count("model.onnx") == 1


def test_a_version_that_is_not_there_is_not_found_and_not_kept(cache):
    for _ in range(2):
        with pytest.raises(VersionNotFoundError):
            cache.get("churn", "2")


# -- versions that a snapshot holds ------------------------------------------------------------------------------------
def test_a_preloaded_version_is_served_without_a_read_of_its_artifacts(source, clock, monkeypatch):
    preloaded = ModelCache(source, REFRESH_SECONDS, clock).preload(["churn"])
    assert [*preloaded] == [("churn", 1)]
    monkeypatch.setattr(source, "artifact", None)
    restored = ModelCache(source, REFRESH_SECONDS, clock, preloaded=preloaded)
    assert restored.get("churn") is preloaded["churn", 1]


def test_the_alias_decides_and_not_the_snapshot(source, clock):
    preloaded = ModelCache(source, REFRESH_SECONDS, clock).preload(["churn"])
    source.register("churn", 2, artifacts())
    assert ModelCache(source, REFRESH_SECONDS, clock, preloaded=preloaded).get("churn").version == 2


def test_a_preloaded_version_that_was_retired_is_not_served_by_its_number(source, clock, monkeypatch):
    preloaded = ModelCache(source, REFRESH_SECONDS, clock).preload(["churn"])

    def refuse(model: str, version: int) -> str:
        raise VersionNotFoundError("retired")

    monkeypatch.setattr(source, "manifest_sha256", refuse)
    restored = ModelCache(source, REFRESH_SECONDS, clock, preloaded=preloaded)
    with pytest.raises(VersionNotFoundError):
        restored.get("churn", "1")


def test_a_model_that_cannot_be_preloaded_is_left_out_and_said(source, clock):
    models = ModelCache(source, REFRESH_SECONDS, clock)
    assert [*models.preload(["nobody", "churn"])] == [("churn", 1)]
    (event,) = models.take_events()
    assert (event.kind, event.model) == ("refresh_failed", "nobody")


def test_every_named_model_is_preloaded_however_many_the_cache_keeps(source, clock):
    names = [f"m{number}" for number in range(10)]
    for name in names:
        source.register(name, 1, artifacts())
    assert [*ModelCache(source, REFRESH_SECONDS, clock).preload(names)] == [(name, 1) for name in names]
