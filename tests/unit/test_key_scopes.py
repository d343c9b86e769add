"""The scope of an API key: the models that it may use, kept for a while."""

import pytest
from millrace.errors import ForbiddenError, ServiceUnavailableError
from millrace.key_scopes import KeyScopes, ensure_in_scope, read_key_id

USER = "arn:aws:iam::123456789012:user/ann"


class World:
    """A registry of scopes that can fail, and a clock."""

    def __init__(self):
        self.scopes, self.reads, self.failure, self.now = {}, 0, None, 0.0
        self.keys = KeyScopes(self.read, 30.0, lambda: self.now)

    def read(self, key_id):
        self.reads += 1
        if self.failure:
            raise self.failure
        return self.scopes.get(key_id)

    def allows(self, model="churn", key_id="k1"):
        try:
            self.keys.ensure_allowed(key_id, model)
        except ForbiddenError:
            return False
        return True


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize(
    ("models", "allowed"),
    [(None, True), (["*"], True), (["churn"], True), (["a", "churn"], True), (["orders"], False), ([], False)],
)
def test_a_key_works_for_its_models_and_without_a_scope_for_all(models, allowed):
    if allowed:
        ensure_in_scope(models, "churn")
    else:
        with pytest.raises(ForbiddenError, match="not for the model 'churn'") as refused:
            ensure_in_scope(models, "churn")
        assert (refused.value.http_status, refused.value.error_code) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize("model", ["Churn", "churn2", "chur", "c", "*", "['churn']"])
def test_a_name_like_it_is_another_model(model):
    with pytest.raises(ForbiddenError):
        ensure_in_scope(["churn"], model)


def test_a_signed_request_reads_nothing(world):
    assert world.allows(key_id=None)
    assert world.reads == 0


def test_a_scope_is_read_once_in_its_time(world):
    world.scopes["k1"] = ["churn"]
    for second in range(60):
        world.now = float(second)
        assert world.allows()
        assert not world.allows("orders")
    assert world.reads == 2


@pytest.mark.parametrize(("before", "after"), [(["churn"], []), ([], ["churn"]), (None, ["orders"]), (["a"], ["*"])])
def test_a_change_takes_effect_within_its_time(world, before, after):
    world.scopes["k1"] = before
    was = world.allows()
    world.scopes["k1"] = after
    world.now = 29.9
    assert world.allows() == was
    world.now = 30.0
    assert world.allows() != was


def test_while_the_registry_fails_the_last_scope_holds_and_a_new_key_is_not_let_in(world):
    world.scopes["k1"] = ["churn"]
    assert world.allows()
    world.now, world.failure = 99.0, ServiceUnavailableError("busy")
    before = world.reads
    for _ in range(20):
        assert world.allows()
        assert not world.allows("orders")
    assert world.reads == before + 1, "every request waits for the registry"
    world.now = 129.0
    assert world.allows()
    assert world.reads == before + 2
    with pytest.raises(ServiceUnavailableError):
        world.allows(key_id="k2")


def test_many_keys_do_not_fill_the_memory(world):
    world.scopes |= {f"k{number}": ["churn"] for number in range(1_500)}
    for number in range(1_500):
        assert world.allows(key_id=f"k{number}")
    assert len(world.keys._known) <= 1_000


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ({"apiKeyId": "k1", "userArn": None}, "k1"),
        ({"apiKeyId": "k1", "userArn": USER}, None),  # a signed request may hold the header of a key
        ({"apiKeyId": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_key_is_the_one_that_the_gateway_names(identity, expected):
    event = {"requestContext": {"identity": identity}, "headers": {"x-api-key": "another"}}
    assert read_key_id(event) == expected
    assert read_key_id({"headers": {"x-api-key": "another"}}) is None
