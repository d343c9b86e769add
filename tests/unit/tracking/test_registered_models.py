"""Registered models, versions, aliases, stages and tags of users, and their moves in the ledger."""

import json

import pytest
from millrace.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from millrace.layout import MLFLOW_LEDGER
from millrace.tracking import model_records, model_versions, registered_models

PROMPTS = "tag.`mlflow.prompt.is_prompt` != 'true'"


def make_versions(server, name="churn net", count=1, **arguments):
    server.post("registered-models/create", name=name, tags=[{"key": "team", "value": "a b"}])
    return [
        server.post("model-versions/create", name=name, source=f"s3://elsewhere/{number}", **arguments)["model_version"]
        for number in range(1, count + 1)
    ]


def ledger(server):
    return [(entry.action, dict(entry.details), entry.actor) for entry in server.registry.list_ledger(MLFLOW_LEDGER)]


def test_a_model_is_created_found_and_refused_twice(server):
    created = server.post("registered-models/create", name="churn net", description="of Ann")["registered_model"]
    assert server.get("registered-models/get", name="churn net")["registered_model"] == created
    assert (created["description"], created["latest_versions"], created["aliases"]) == ("of Ann", [], [])
    with pytest.raises(AlreadyExistsError, match=r"Registered Model \(name=churn net\) already exists"):
        server.post("registered-models/create", name="churn net")
    with pytest.raises(NotFoundError, match="Registered Model with name=other not found"):
        server.get("registered-models/get", name="other")


@pytest.mark.parametrize("name", ["churn+tariff", "Kündigung @home", "模型 1", "...", "x" * 256])
def test_names_are_text_otherwise(server, name):
    server.post("registered-models/create", name=name)
    assert server.get("registered-models/get", name=name)["registered_model"]["name"] == name


@pytest.mark.parametrize("name", ["a/b", "a:b", "  ", ".", "..", "", "x" * 257])
def test_names_that_mlflow_refuses_are_refused(server, name):
    with pytest.raises(InvalidInputError):
        server.post("registered-models/create", name=name)


def test_versions_count_up_and_the_latest_of_each_stage_is_shown(server):
    versions = make_versions(server, count=3)
    assert [version["version"] for version in versions] == ["1", "2", "3"]
    assert versions[0]["status"] == "READY"
    server.post("model-versions/transition-stage", name="churn net", version="2", stage="production")
    model = server.get("registered-models/get", name="churn net")["registered_model"]
    latest = {one["current_stage"]: one["version"] for one in model["latest_versions"]}
    assert latest == {"None": "3", "Production": "2"}
    found = server.post("registered-models/get-latest-versions", name="churn net", stages=["Production"])
    assert [one["version"] for one in found["model_versions"]] == ["2"]
    server.delete("model-versions/delete", name="churn net", version="3")
    model = server.get("registered-models/get", name="churn net")["registered_model"]
    assert {one["version"] for one in model["latest_versions"]} == {"1", "2"}
    again = server.post("model-versions/create", name="churn net", source="s3://elsewhere/4")["model_version"]
    assert again["version"] == "4"


def test_a_stage_archives_what_was_in_it(server):
    make_versions(server, count=2)
    move = {"name": "churn net", "stage": "Staging"}
    server.post("model-versions/transition-stage", **move, version="1")
    server.post("model-versions/transition-stage", **move, version="2", archive_existing_versions=True)
    assert (
        server.get("model-versions/get", name="churn net", version="1")["model_version"]["current_stage"] == "Archived"
    )
    with pytest.raises(InvalidInputError, match="not an Active stage"):
        server.post(
            "model-versions/transition-stage",
            name="churn net",
            version="1",
            stage="Archived",
            archive_existing_versions=True,
        )
    with pytest.raises(InvalidInputError, match="Invalid Model Version stage: live"):
        server.post("model-versions/transition-stage", name="churn net", version="1", stage="live")


def test_every_move_of_an_alias_is_in_the_ledger_with_its_actor(server):
    make_versions(server, count=2)
    alias = {"name": "churn net", "alias": "champion"}
    server.post("registered-models/alias", **alias, version="1")
    server.post("registered-models/alias", **alias, version="1")
    server.post("registered-models/alias", **alias, version="2")
    assert server.get("registered-models/alias", **alias)["model_version"]["version"] == "2"
    assert server.get("registered-models/alias", name="churn net", alias="Latest")["model_version"]["version"] == "2"
    server.delete("registered-models/alias", **alias)
    server.delete("registered-models/alias", **alias)
    with pytest.raises(InvalidInputError, match=r"Registered model alias champion not found\."):
        server.get("registered-models/alias", **alias)
    entries = ledger(server)
    assert [(details["from_version"], details["to_version"]) for _, details, _ in reversed(entries)] == [
        (None, 1),
        (1, 2),
        (2, None),
    ]
    assert {(action, actor) for action, _, actor in entries} == {("alias_moved", "arn:aws:iam::123456789012:user/ann")}
    assert server.registry.verify_ledger(MLFLOW_LEDGER).is_intact


@pytest.mark.parametrize("alias", ["latest", "LATEST", "v1", "V22", "a b", "a.b", "x" * 256])
def test_reserved_and_malformed_aliases_are_refused(server, alias):
    make_versions(server)
    with pytest.raises(InvalidInputError):
        server.post("registered-models/alias", name="churn net", alias=alias, version="1")


def test_a_version_that_is_deleted_takes_its_aliases_along(server):
    make_versions(server, count=2)
    server.post("registered-models/alias", name="churn net", alias="best", version="2")
    server.delete("model-versions/delete", name="churn net", version="2")
    assert server.get("registered-models/get", name="churn net")["registered_model"]["aliases"] == []
    assert ledger(server)[0][1]["aliases"] == ["best"]
    with pytest.raises(NotFoundError, match=r"Model Version \(name=churn net, version=2\) not found"):
        server.get("model-versions/get", name="churn net", version="2")


def test_a_new_name_keeps_versions_and_aliases(server):
    make_versions(server, count=2)
    server.post("registered-models/create", name="taken")
    server.post("registered-models/alias", name="churn net", alias="best", version="2")
    with pytest.raises(AlreadyExistsError):
        server.post("registered-models/rename", name="churn net", new_name="taken")
    renamed = server.post("registered-models/rename", name="churn net", new_name="churn 2")["registered_model"]
    assert renamed["aliases"] == [{"alias": "best", "version": "2"}]
    assert server.get("model-versions/get", name="churn 2", version="1")["model_version"]["name"] == "churn 2"
    with pytest.raises(NotFoundError):
        server.get("registered-models/get", name="churn net")
    assert ledger(server)[0][0] == "registered_model_renamed"


def test_a_deleted_model_is_gone_with_its_versions_and_its_name_is_free(server):
    make_versions(server, count=2)
    server.delete("registered-models/delete", name="churn net")
    assert server.get("model-versions/search") == {"model_versions": []}
    server.post("registered-models/create", name="churn net")
    created = server.post("model-versions/create", name="churn net", source="s3://elsewhere/1")["model_version"]
    assert created["version"] == "1"


def test_descriptions_and_tags_of_models_and_versions(server):
    make_versions(server)
    model, version = {"name": "churn net"}, {"name": "churn net", "version": "1"}
    server.patch("registered-models/update", **model, description="new")
    server.patch("model-versions/update", **version, description="newer")
    server.post("registered-models/set-tag", **model, key="task", value="churn")
    server.post("model-versions/set-tag", **version, key="ok", value="")
    server.delete("registered-models/delete-tag", **model, key="team")
    found = server.get("registered-models/get", **model)["registered_model"]
    assert (found["description"], found["tags"]) == ("new", [{"key": "task", "value": "churn"}])
    found = server.get("model-versions/get", **version)["model_version"]
    assert (found["description"], found["tags"]) == ("newer", [{"key": "ok", "value": ""}])
    server.delete("model-versions/delete-tag", **version, key="ok")
    server.delete("model-versions/delete-tag", **version, key="ok")
    assert server.get("model-versions/get", **version)["model_version"]["tags"] == []


def test_a_change_of_a_version_moves_the_time_of_its_model(server):
    make_versions(server)
    before = server.get("registered-models/get", name="churn net")["registered_model"]["last_updated_timestamp"]
    server.post("model-versions/set-tag", name="churn net", version="1", key="a", value="b")
    after = server.get("registered-models/get", name="churn net")["registered_model"]["last_updated_timestamp"]
    assert after > before


def test_models_are_searched_and_paged(server):
    for name in ("b", "a", "c2"):
        server.post("registered-models/create", name=name, tags=[{"key": "team", "value": name}])

    def names(**query):
        return [one["name"] for one in server.get("registered-models/search", **query)["registered_models"]]

    assert names() == ["a", "b", "c2"]
    assert names(filter=PROMPTS, order_by=["name DESC"]) == ["c2", "b", "a"]
    assert names(filter="name LIKE 'c%'") == names(filter="tags.team = 'c2'") == ["c2"]
    assert names(order_by=["creation_timestamp"]) == ["b", "a", "c2"]
    page = server.get("registered-models/search", max_results=2)
    assert names(max_results=2, page_token=page["next_page_token"]) == ["c2"]
    with pytest.raises(InvalidInputError):
        names(max_results=1001)
    with pytest.raises(InvalidInputError):
        names(filter="size > 3")


def test_versions_are_searched_by_model_run_source_and_tag(server):
    make_versions(server, name="one", count=2, run_id="0" * 32)
    make_versions(server, name="two", tags=[{"key": "x", "value": "y"}])

    def found(**query):
        return [(one["name"], one["version"]) for one in server.get("model-versions/search", **query)["model_versions"]]

    assert found() == [("two", "1"), ("one", "2"), ("one", "1")]
    assert found(filter="name='one'", order_by=["version_number ASC"]) == [("one", "1"), ("one", "2")]
    assert found(filter=f"run_id = '{'0' * 32}' and version_number > 1") == [("one", "2")]
    assert found(filter="tags.x = 'y'") == [("two", "1")]
    assert found(filter="source_path = 's3://elsewhere/2'") == [("one", "2")]
    assert found(filter="name = 'none'") == []
    assert found(filter="run_id IN ('a', 'b')") == []
    assert found(max_results=1, order_by=["name", "version_number DESC"]) == [("one", "2")]


@pytest.mark.parametrize(
    "source",
    [
        "/models/net",
        "file:///models/net",
        "model",
        "s3://bucket/a/../../b",
        "s3://bucket/%2e%2e/b",
        "s3://bucket/%252e%252e/b",
        "models://churn/1",
        "runs:/another/model",
        "mlflow-artifacts:/x",
        "C:\\model",
    ],
)
def test_sources_on_a_machine_or_with_a_way_out_are_refused(server, source):
    server.post("registered-models/create", name="m")
    with pytest.raises(InvalidInputError, match="Invalid model version source"):
        server.post("model-versions/create", name="m", source=source, run_id="0" * 32)


def test_a_version_of_a_run_a_logged_model_or_another_version_knows_its_place(server):
    experiment = server.post("experiments/create", name="e")["experiment_id"]
    run = server.post("runs/create", experiment_id=experiment)["run"]["info"]
    logged = server.post("logged-models", experiment_id=experiment, name="net", source_run_id=run["run_id"])["model"][
        "info"
    ]
    server.post("registered-models/create", name="m")

    def create(source, **arguments):
        version = server.post("model-versions/create", name="m", source=source, **arguments)["model_version"]
        uri = server.get("model-versions/get-download-uri", name="m", version=version["version"])["artifact_uri"]
        return version, uri

    version, uri = create(f"models:/{logged['model_id']}")
    assert (version["run_id"], version["model_id"], uri) == (run["run_id"], logged["model_id"], logged["artifact_uri"])
    assert create("models:/m/1")[1] == logged["artifact_uri"]
    assert create(f"runs:/{run['run_id']}/net", run_id=run["run_id"])[1] == f"{run['artifact_uri']}/net"
    with pytest.raises(InvalidInputError):
        create(f"models:/{logged['model_id']}", model_id="m-another")
    with pytest.raises(NotFoundError):
        create("models:/m/77")


@pytest.mark.parametrize("version", ["x", "-1", "1.0", "9" * 20, "²"])
def test_a_version_is_a_number(server, version):
    make_versions(server)
    with pytest.raises(InvalidInputError, match="must be an integer"):
        server.get("model-versions/get", name="churn net", version=version)


@pytest.fixture
def meanwhile(server, monkeypatch):
    """Let another request come between what the next one reads and what it writes, once."""

    def interrupt(other):
        read = model_records.find_registered
        pending = [other]

        def find(call, name):
            found = read(call, name)
            if pending:
                pending.pop()()
            return found

        for module in (registered_models, model_versions):
            monkeypatch.setattr(module, "find_registered", find)
        monkeypatch.setattr(model_records, "find_registered", find)

    return interrupt


def test_a_version_that_comes_while_its_model_is_renamed_is_counted(server, meanwhile):
    make_versions(server, "a", count=1)
    meanwhile(lambda: server.post("model-versions/create", name="a", source="s3://elsewhere/2"))
    server.post("registered-models/rename", name="a", new_name="b")
    made = server.post("model-versions/create", name="b", source="s3://elsewhere/3")["model_version"]
    assert made["version"] == "3"


def test_an_alias_cannot_be_left_on_a_version_that_goes_meanwhile(server, meanwhile):
    make_versions(server, "a", count=2)
    meanwhile(lambda: server.delete("model-versions/delete", name="a", version="1"))
    with pytest.raises(NotFoundError):
        server.post("registered-models/alias", name="a", alias="prod", version="1")
    assert server.get("registered-models/get", name="a")["registered_model"]["aliases"] == []


def test_archiving_keeps_what_a_version_got_meanwhile(server, monkeypatch):
    make_versions(server, "a", count=2)
    server.post("model-versions/transition-stage", name="a", version="1", stage="Production")
    tag = {"name": "a", "version": "1", "key": "reviewed", "value": "yes"}
    listed = model_versions.list_model_versions

    def list_then_tag(*arguments):
        found = list(listed(*arguments))
        monkeypatch.setattr(model_versions, "list_model_versions", listed)
        server.post("model-versions/set-tag", **tag)
        return iter(found)

    monkeypatch.setattr(model_versions, "list_model_versions", list_then_tag)
    stage = {"stage": "Production", "archive_existing_versions": True}
    server.post("model-versions/transition-stage", name="a", version="2", **stage)
    first = server.get("model-versions/get", name="a", version="1")["model_version"]
    assert (first["current_stage"], first["tags"]) == ("Archived", [{"key": "reviewed", "value": "yes"}])


def test_a_page_of_versions_fits_into_a_response_however_long_their_tags_are(server):
    make_versions(server, "a", count=60, tags=[{"key": "notes", "value": "x" * 100_000}])
    page = server.get("model-versions/search", filter="name='a'")
    assert len(json.dumps(page)) < 5_000_000
    rest = server.get("model-versions/search", filter="name='a'", page_token=page["next_page_token"])
    assert len(page["model_versions"]) + len(rest["model_versions"]) == 60


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("registered-models/get-latest-versions", {"stages": [1]}),
        ("model-versions/create", {"source": "http://[x"}),
        ("model-versions/create", {"source": "s3://a/b", "tags": 5}),
    ],
)
def test_malformed_arguments_are_refused(server, path, arguments):
    make_versions(server, "a")
    with pytest.raises(InvalidInputError):
        server.post(path, name="a", **arguments)
