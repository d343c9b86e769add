"""The page of a release, and the card of a version that came into service by one."""

from datetime import UTC, datetime

import pytest
from millrace.card import ModelCard
from millrace.reports import render_release_page
from millrace.reports.model_card import render_card, render_markdown

from tests.unit.reports.documents import full_release, full_service, minimal_card, minimal_release

NOW = datetime(2026, 5, 4, 0, 20, tzinfo=UTC)


def render_release(document):
    return render_release_page(document, NOW)


def test_a_release_that_has_just_begun_has_no_evidence_yet():
    page = render_release(minimal_release())
    for shown in (
        "running at 5 %",
        "No request was evaluated yet.",
        "The ledger has no entry of this release.",
        "the oldest are missing",
        "<dt>Bake left</dt><dd>40 min",
        "minutes since the start",
    ):
        assert shown in page


@pytest.mark.parametrize(
    "shown",
    [
        "rolled back",
        "The guard errors finds the candidate worse",
        "Evidence of the guard errors, 4.9 of 4.38",
        "Requests evaluated by arm, 1,000 at most",
        "Share of version 7, from 5 % to 0 %",
        "Bad: 31 of 620 of the candidate, 3 of 1,000 of the champion, in 4 windows",
        "<dt>Lasted</dt><dd>4 h",
        "replay of captured traffic",
        "release paused",
        "slow: off, errors: ratio: 2.0",
        "hours since the start",
        "2.5 of 3.69",
        "12 outcomes are not reported",
        "No latency is slow",
        "4,000, of which 700 have ground truth",
        "-0.02 (-0.05 to 0.01) on 700 rows; a loss of 0.01 is tolerated",
        "on the same 620 labelled rows",
        "no stage passes",
    ],
)
def test_an_ended_release_shows_what_happened(shown):
    assert shown in render_release(full_release())


def test_stages_say_when_they_began_and_how_long_they_took():
    document = full_release() | {"stages": ["serve", "serve"]}
    stages = render_release(document).split('id="progress"')[1].split("</table>")[0]
    first, second = stages.split("<tr>")[2:]
    for shown in ("passed", "2026-05-04", "1 h"):
        assert shown in first
    for shown in ("ended here", "2026-05-04 01:00 UTC", "3 h"):
        assert shown in second


def test_a_completed_release_passed_all_its_stages_and_serves_everything():
    page = render_release(full_release() | {"status": "completed", "weight": 1.0})
    assert "ended here" not in page
    assert "from 5 % to 100 %" in page


def test_a_card_says_how_the_version_came_into_service_until_now():
    document = ModelCard.read(minimal_card())
    page, text = render_card(document, full_service()), render_markdown(document, full_service())
    for shown in ("2026-05-07 05:00 UTC", "release r-20260504T000000-0a1b2c3d", "errors: 4.90 of 4.38", "complaints"):
        assert shown in page
    assert "Champion from 2026-05-07 05:00 UTC to now: model promoted by bob" in text
    assert "It has not been the champion." in render_card(document, {"periods": [], "releases": []})
    assert 'id="service"' not in render_card(document)
