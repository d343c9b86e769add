"""HTML pages of datasets, models, monitoring, releases and replays, rendered from stored documents by templates."""

from millrace.reports import charts, model_card, monitoring_report, render
from millrace.reports.dataset_report import SHOWN_QUARANTINED, render_dataset_report
from millrace.reports.release_page import render_release_page
from millrace.reports.replay_report import render_replay_report

__all__ = [
    "SHOWN_QUARANTINED",
    "charts",
    "model_card",
    "monitoring_report",
    "render",
    "render_dataset_report",
    "render_release_page",
    "render_replay_report",
]
