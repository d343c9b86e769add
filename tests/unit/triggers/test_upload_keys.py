import pytest
from millrace.triggers.trigger_events import Refusal, read_upload_key


@pytest.mark.parametrize(
    ("key", "model"),
    [
        ("incoming/churn/may.csv", "churn"),
        ("incoming/churn/2026/05/may.parquet", "churn"),
        ("incoming/A-1_b/données.csv", "A-1_b"),
        ("incoming/churn/100%25.csv", "churn"),
    ],
)
def test_a_key_below_a_model_is_an_upload_of_that_model(key, model):
    assert read_upload_key(key) == model


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("datasets/churn/may.csv", "outside incoming/"),
        ("incoming/may.csv", "names no model"),
        ("incoming/", "names no model"),
        ("incoming//may.csv", "cannot be a model name"),
        ("incoming/my model/may.csv", "cannot be a model name"),
        ("incoming/../may.csv", "cannot be a model name"),
        ("incoming/_refused/may.csv", "cannot be a model name"),
        ("incoming/churn/", "folder marker"),
        ("incoming/churn/2026/", "folder marker"),
        ("incoming/churn/../iris/may.csv", "'..'"),
        ("incoming/churn/_SUCCESS", "finishes no folder"),
        ("incoming/churn/manifest.json", "finishes no folder"),
        ("incoming/churn/a..b.csv", "'..'"),
        ("incoming/churn/my file.csv", "spaces"),
        ("incoming/churn/my\u00a0file.csv", "spaces"),
        ("incoming/churn/tab\t.csv", "spaces"),
        ("incoming/churn/a\\b.csv", "backslashes"),
        ("incoming/churn//may.csv", "empty"),
        ("incoming/churn/./may.csv", "empty or '.'"),
    ],
)
def test_any_other_key_is_refused_with_the_reason_and_what_to_do(key, words):
    refusal = read_upload_key(key)
    assert isinstance(refusal, Refusal)
    assert words in refusal.reason
    assert "upload" in refusal.remedy or "put it" in refusal.remedy
