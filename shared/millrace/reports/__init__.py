"""HTML reports: dataset reports, model cards and monitoring reports, rendered from stored documents by templates."""

from millrace.reports.dataset_report import SHOWN_QUARANTINED, render_dataset_report
from millrace.reports.model_card import build_card, card_files, card_of_run, render_card, render_markdown
from millrace.reports.monitoring_report import render_monitoring_report

__all__ = [
    "SHOWN_QUARANTINED",
    "build_card",
    "card_files",
    "card_of_run",
    "render_card",
    "render_dataset_report",
    "render_markdown",
    "render_monitoring_report",
]
