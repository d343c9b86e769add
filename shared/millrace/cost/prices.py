"""List prices of AWS: the only place that has them.

They are those of us-east-1 without free tiers, discounts and taxes. Another region's are read from a document by
:func:`read_prices`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from millrace.errors import FieldError, InvalidInputError

REGION = "us-east-1"
#: Month of the price list.
DATE = "2026-11"
_THOUSAND, _MILLION = 1_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """List price of a service: ``usd`` for ``per`` units; units a month, where they last."""

    service: str
    unit: str
    usd: float
    per: int = 1
    region: str = REGION
    date: str = DATE

    def cost(self, quantity: float) -> float:
        """Return the price of a quantity in USD."""
        return quantity / self.per * self.usd


PriceList = Mapping[str, Price]

#: By the name that a document of prices uses.
US_EAST_1: PriceList = {
    "api_request": Price("API Gateway", "requests", 3.50, _MILLION),
    "lambda_request": Price("Lambda", "requests", 0.20, _MILLION),
    "lambda_gb_second": Price("Lambda", "GB-seconds", 0.0000166667),
    "log_gb": Price("CloudWatch Logs", "GB written", 0.50),
    "log_gb_month": Price("CloudWatch Logs", "GB-months", 0.03),
    "s3_write": Price("S3", "writes and lists", 0.005, _THOUSAND),
    "s3_read": Price("S3", "reads", 0.0004, _THOUSAND),
    "s3_gb_month": Price("S3", "GB-months", 0.023),
    "dynamodb_read": Price("DynamoDB", "read units", 0.125, _MILLION),
    "dynamodb_write": Price("DynamoDB", "write units", 0.625, _MILLION),
    "dynamodb_gb_month": Price("DynamoDB", "GB-months", 0.25),
    "dynamodb_backup_gb_month": Price("DynamoDB", "GB-months of backups", 0.20),
    "transition": Price("Step Functions", "transitions", 0.025, _THOUSAND),
    "queue_request": Price("SQS", "requests", 0.40, _MILLION),
    "schedule": Price("EventBridge Scheduler", "invocations", 1.00, _MILLION),
    "event": Price("EventBridge", "events", 1.00, _MILLION),
    "alarm": Price("CloudWatch", "alarms", 0.10),
    "dashboard": Price("CloudWatch", "dashboards", 3.00),
    "metric": Price("CloudWatch", "metrics", 0.30),
    "metric_read": Price("CloudWatch", "metric reads", 0.01, _THOUSAND),
    "trace": Price("X-Ray", "traces", 5.00, _MILLION),
}
USD_PER_GB_SECOND = US_EAST_1["lambda_gb_second"].usd


def read_prices(document: Any) -> PriceList:
    """Read another region's prices; those that the document leaves out stay us-east-1's.

    Raises ``InvalidInputError``, which names every bad field.

    Parameters
    ----------
    document : Any
        Parsed JSON: ``{"region": "eu-central-1", "date": "2026-11", "usd": {"api_request": 3.70}}``. Each price is for
        as many units as in :data:`US_EAST_1`.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("usd"), Mapping):
        raise InvalidInputError('a document of prices is {"region": ..., "date": ..., "usd": {"api_request": 3.70}}')
    faults = [FieldError(str(name), "there is no such field") for name in document.keys() - {"region", "date", "usd"}]
    faults += [
        FieldError(name, "is missing, or is no text") for name in ("region", "date") if not _is_text(document.get(name))
    ]
    for name, usd in document["usd"].items():
        if name not in US_EAST_1:
            faults.append(FieldError(f"usd.{name}", f"is no price; there are {', '.join(US_EAST_1)}"))
        elif isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd < _MILLION:
            faults.append(FieldError(f"usd.{name}", "is no price in USD: write a number of 0 or more"))
    if faults:
        described = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
        raise InvalidInputError(f"the document of prices is not valid: {described}", faults)
    given = {
        name: replace(US_EAST_1[name], usd=float(usd), region=document["region"], date=document["date"])
        for name, usd in document["usd"].items()
    }
    return {**US_EAST_1, **given}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
