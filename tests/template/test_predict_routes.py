"""The template sends to ``predict`` exactly what it answers."""

from millrace.serving.handler import ROUTES

from tests.gateway import make_event, predict_routes


def test_every_route_is_in_the_template_once_and_no_other():
    assert sorted(predict_routes()) == sorted(ROUTES)


def test_a_path_becomes_the_event_of_its_route():
    event = make_event("POST", "/v1/models/churn%3Apredict", "{}")
    assert (event["resource"], event["pathParameters"]) == (
        "/v1/models/{model_action}",
        {"model_action": "churn:predict"},
    )
    assert make_event("GET", "/v1/models/churn/other") is None
