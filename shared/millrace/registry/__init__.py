"""The registry: rules of models, causes, runs, versions, approvals and the ledger."""

__all__ = [
    "approvals",
    "deletion",
    "garbage",
    "ledger",
    "lifecycle",
    "model_schedules",
    "outbox",
    "promotion",
    "queries",
    "registration",
    "store",
    "transactions",
]
