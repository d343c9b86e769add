"""What holds for every test: no real account can be reached, and nothing leaks into the next test."""

import gc
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from millrace.settings import load_settings

from tests.distribution import OneStackScheduling, make_scheduler, put_slow_first

# Read when Powertools is imported, so it must be set before any test module is.
os.environ["POWERTOOLS_TRACE_DISABLED"] = "true"

# As many processes of the suite run as there are processors, and more: threads of OpenMP and BLAS would wait for each
# other, spinning, and a prediction of boosted trees took six times as long. Read when the libraries are loaded.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# Tests make many objects and few cycles, beside a million that stay: collecting took 7 % of the time of two files.
gc.set_threshold(100_000, 50, 100)

# Hypothesis draws the same examples in every run, whatever the machine's speed: a change fails by its own fault alone.
# Half of Hypothesis' own number for tests that state none. `FUZZ_EXAMPLES=4000` is for long runs, each with others.
FUZZ_EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
settings.register_profile(
    "suite",
    max_examples=int(FUZZ_EXAMPLES or "50"),
    derandomize=FUZZ_EXAMPLES is None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")
if FUZZ_EXAMPLES is None:
    # Else it draws constants of the modules that are imported, and those differ between processes of the suite.
    providers._get_local_constants = lambda: providers._local_constants

TESTS = Path(__file__).parent

FAKE_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "POWERTOOLS_TRACE_DISABLED": "true",
}


def _refuse_real_endpoints() -> None:
    for name, value in os.environ.items():
        if name == "AWS_ENDPOINT_URL" or name.startswith("AWS_ENDPOINT_URL_"):
            host = urlsplit(value).hostname or ""
            if host != "localhost" and not _is_loopback(host):
                pytest.exit(f"{name} points away from this machine; tests only ever talk to it", returncode=3)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    put_slow_first(items)
    # Emulators have threads and clocks of their own: these tests run once more when they fail, and the summary says so.
    # They first get time to come to rest. Unit tests run once: what one leaves in its process could hide its fault.
    for item in items:
        if item.path.is_relative_to(TESTS / "e2e") or item.path.is_relative_to(TESTS / "integration"):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=2))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> OneStackScheduling:
    return make_scheduler(config, log)


@pytest.fixture(scope="session", autouse=True)
def service_models_read_once() -> None:
    """Parse botocore's service models once: every ``mock_aws`` forgets them, and parsing is half of a test's time."""
    if loaders := sys.modules.get("botocore.loaders"):
        read_once = cache(loaders.JSONFileLoader().load_file)
        loaders.JSONFileLoader.load_file = lambda _self, path: read_once(path)


@pytest.fixture(autouse=True)
def isolated_from_aws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Force fake credentials, refuse real endpoints, and forget cached clients and settings afterwards."""
    _refuse_real_endpoints()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        if name.startswith("AWS_ENDPOINT_URL") and "e2e" in request.keywords:
            continue
        monkeypatch.delenv(name)
    for name, value in FAKE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    if "e2e" not in request.keywords:
        monkeypatch.setattr(socket, "getaddrinfo", _only_this_machine(socket.getaddrinfo))
    yield
    load_settings.cache_clear()
    # A pure unit test need not wait for boto3 only to clear what it never built.
    if clients := sys.modules.get("millrace.aws.clients"):
        clients.clear_clients()


def _only_this_machine(getaddrinfo: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse to look up any other host: a forgotten mock fails at once instead of reaching AWS."""

    def guarded(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in (None, "", "localhost") and not _is_loopback(name):
            raise AssertionError(f"a test tried to reach {name!r}")
        return getaddrinfo(host, *arguments, **options)

    return guarded
