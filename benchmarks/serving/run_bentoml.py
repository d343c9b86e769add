"""A BentoML service's application, in process."""

import os
import sys
from pathlib import Path

import worker


def make(folder: Path) -> worker.Ask:
    """Return the service as a function of a body."""
    os.environ |= {"BENCH_FOLDER": str(folder), "BENCH_INSIDE": sys.argv[2]}
    from asgi import asker  # noqa: PLC0415 - counted with the start
    from bento_service import Churn  # noqa: PLC0415 - it reads the environment

    return asker(Churn.to_asgi(), "/predict")


if __name__ == "__main__":
    worker.run(make, "_records")
