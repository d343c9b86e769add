"""The registry: rules of models, causes, runs, versions, approvals and the ledger."""

__all__ = [
    "approvals",
    "deletion",
    "garbage",
    "ledger",
    "model_schedules",
    "promotion",
    "queries",
    "registration",
    "release_changes",
    "store",
]
