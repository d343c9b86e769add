"""Logger and tracer, built once and imported everywhere; :mod:`millrace.emf` writes metrics.

The logger writes one JSON object a line, and the tracer is silent outside Lambda. ``POWERTOOLS_SERVICE_NAME`` and
``POWERTOOLS_LOG_LEVEL`` are read by Powertools itself.

The tracer is built on first use: it imports the X-Ray SDK and all of botocore, half a second that a function which
records no subsegments need not spend.
"""

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

if TYPE_CHECKING:
    from aws_lambda_powertools import Tracer

    tracer: Tracer

logger = Logger(service="millrace")


def __getattr__(name: str) -> Any:
    """Build ``tracer`` on first use, and keep it."""
    if name != "tracer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aws_lambda_powertools import Tracer  # noqa: PLC0415 - its import is the cost that is put off

    globals()["tracer"] = built = Tracer(service="millrace", auto_patch=False)
    return built
