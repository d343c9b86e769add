"""The registry: rules of models, causes, runs, versions, approvals and the ledger."""
