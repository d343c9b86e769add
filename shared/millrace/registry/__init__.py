"""The registry: rules of models, causes, runs, versions, approvals and the ledger."""

__all__ = [
    "approvals",
    "deletion",
    "garbage",
    "ledger",
    "manifest",
    "model_schedules",
    "promotion",
    "queries",
    "registration",
    "store",
]
