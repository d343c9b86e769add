"""The memory: entities and rules of models, versions, runs and the ledger."""
