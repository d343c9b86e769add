"""The card's three forms, as they lie beside a version."""

import json
from collections.abc import Mapping
from typing import Any

from millrace.model_card.markdown import render_markdown
from millrace.model_card.page import render_card

CARD_PAGE = "card.html"
CARD_MARKDOWN = "card.md"
CARD_DOCUMENT = "card.json"


def card_files(document: Mapping[str, Any]) -> dict[str, bytes]:
    """Return a card's document, page and Markdown, by name."""
    return {
        CARD_DOCUMENT: json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode(),
        CARD_PAGE: render_card(document).encode(),
        CARD_MARKDOWN: render_markdown(document).encode(),
    }
