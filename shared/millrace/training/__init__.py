"""The second stage: plan, fit and export candidates."""

__all__ = [
    "export",
    "fitting",
    "limits",
    "logged_trial",
    "planning",
    "run_comparison",
    "search_plan",
    "trial",
    "trial_record",
]
