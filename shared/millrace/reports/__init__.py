"""HTML pages of datasets, models, monitoring, releases and replays, rendered from stored documents by templates."""

from millrace.reports import charts, monitoring_report, render
from millrace.reports.dataset_report import SHOWN_QUARANTINED, render_dataset_report
from millrace.reports.model_card import build_card, card_files, card_of_run, render_card, render_markdown
from millrace.reports.release_page import render_release_page
from millrace.reports.replay_report import render_replay_report

__all__ = [
    "SHOWN_QUARANTINED",
    "build_card",
    "card_files",
    "card_of_run",
    "charts",
    "monitoring_report",
    "render",
    "render_card",
    "render_dataset_report",
    "render_markdown",
    "render_release_page",
    "render_replay_report",
]
