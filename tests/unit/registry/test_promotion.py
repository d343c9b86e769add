from dataclasses import replace

import pytest
from millrace.errors import (
    AliasConflictError,
    ConflictError,
    ModelNotFoundError,
    UnfitVersionError,
    VersionNotFoundError,
)
from millrace.layout import version_key
from millrace.registry.promotion import find_rollback_target, promote, retire, roll_back

from tests.registered_versions import RegisteredVersions, acting
from tests.registry_builders import MODEL, later, point_alias


@pytest.fixture
def world():
    return RegisteredVersions(4)


def do_promote(world, version, minutes=60, **options):
    return promote(MODEL, version, acting(minutes), registry=world.registry, model_store=world.models, **options)


def do_roll_back(world, minutes=60, **options):
    return roll_back(MODEL, acting(minutes), registry=world.registry, model_store=world.models, **options)


class TestPromotion:
    def test_a_version_becomes_the_champion_and_the_ledger_says_who_and_why(self, world):
        world.point("champion", 1)
        change = do_promote(world, 3)
        assert (change.outcome, change.from_version, change.to_version) == ("promoted", 1, 3)
        assert world.aliases == {"champion": 3}
        entry = world.registry.list_ledger(MODEL)[0]
        assert (entry.action, entry.actor, entry.reason, entry.occurred_at) == (
            "model_promoted",
            "ann",
            "because",
            later(60),
        )
        assert entry.details == {"alias": "champion", "from_version": 1, "to_version": 3}
        assert [waiting.action for waiting in world.registry.list_unpublished()] == ["model_promoted"]

    def test_a_challenger_that_is_promoted_is_none_any_more(self, world):
        world.point("challenger", 2)
        do_promote(world, 2)
        assert world.aliases == {"champion": 2}

    def test_the_state_says_since_when_the_champion_is(self, world):
        assert world.registry.get_state(MODEL).champion_since is None
        world.point("challenger", 2)
        assert world.registry.get_state(MODEL).champion_since is None
        do_promote(world, 3)
        assert world.registry.get_state(MODEL).champion_since == later(60)
        point_alias(world.registry, "challenger", 4, at=later(70))
        assert world.registry.get_state(MODEL).champion_since == later(60)
        point_alias(world.registry, "champion", None, at=later(80))
        assert world.registry.get_state(MODEL).champion_since is None

    def test_another_challenger_stays(self, world):
        world.point("challenger", 2)
        do_promote(world, 3)
        assert world.aliases == {"champion": 3, "challenger": 2}

    def test_the_same_promotion_twice_is_one_entry(self, world):
        do_promote(world, 2)
        again = do_promote(world, 2, minutes=61, expected_champion=1)
        assert again.outcome == "already"
        assert world.actions.count("model_promoted") == 1
        assert world.registry.get_state(MODEL).revision == 1

    def test_a_champion_that_is_not_the_one_that_was_seen_is_named(self, world):
        world.point("champion", 4)
        with pytest.raises(ConflictError, match="now version 4, not version 1"):
            do_promote(world, 2, expected_champion=1)
        assert world.aliases == {"champion": 4}

    def test_an_alias_that_moves_meanwhile_is_a_conflict_that_says_what_it_is_now(self, world, monkeypatch):
        perform = world.registry.commit

        def others_first(act):
            monkeypatch.setattr(world.registry, "commit", perform)
            world.point("champion", 4)
            perform(act)

        monkeypatch.setattr(world.registry, "commit", others_first)
        with pytest.raises(AliasConflictError, match="the champion is now version 4"):
            do_promote(world, 2)
        assert world.aliases == {"champion": 4}

    @pytest.mark.parametrize("artifact", ["model.onnx", "signature.json", "manifest.json"])
    def test_a_version_that_is_not_what_was_registered_never_serves(self, world, artifact):
        world.damage(2, artifact)
        with pytest.raises(UnfitVersionError, match=r"version 2"):
            do_promote(world, 2)
        assert world.aliases == {}

    def test_a_version_without_its_model_never_serves(self, world):
        del world.models._objects[version_key(MODEL, 2, "model.onnx")]
        with pytest.raises(UnfitVersionError, match="incomplete"):
            do_promote(world, 2)

    def test_a_retired_version_never_serves(self, world):
        retire(MODEL, 2, acting(), registry=world.registry)
        with pytest.raises(UnfitVersionError, match="retired"):
            do_promote(world, 2)

    def test_a_version_that_waits_for_an_answer_is_answered_and_not_promoted(self, world):
        world.register(5, outcome="awaiting_approval")
        with pytest.raises(ConflictError, match="approve or reject run"):
            do_promote(world, 5)

    def test_what_does_not_exist_is_not_found(self, world):
        with pytest.raises(VersionNotFoundError):
            do_promote(world, 9)
        with pytest.raises(ModelNotFoundError):
            promote("nobody", 1, acting(), registry=world.registry, model_store=world.models)

    def test_a_clock_that_is_behind_does_not_change_the_order(self, world):
        do_promote(world, 2, minutes=60)
        do_promote(world, 3, minutes=30)
        moves = world.registry.list_alias_moves(MODEL, "champion")
        assert [move.to_version for move in moves] == [3, 2]
        assert world.registry.alias_move_at(MODEL, "champion", later(61)).to_version == 3


class TestRollback:
    @pytest.fixture
    def served(self, world):
        """Versions 1, 2, 3 served one after the other."""
        for version in (1, 2, 3):
            do_promote(world, version, minutes=version)
        return world

    def test_the_target_that_is_named_is_the_one_that_is_gone_back_to(self, served):
        registry = served.registry

        def target():
            return find_rollback_target(
                registry.get_state(MODEL), registry.list_alias_moves(MODEL, "champion"), registry
            )

        assert target() == 2
        do_promote(served, 4, minutes=5)
        retire(MODEL, 3, acting(6), registry=registry)
        assert target() == 2
        assert do_roll_back(served, 7).to_version == 2
        assert target() == 1
        assert do_roll_back(served, 8).to_version == 1
        assert target() is None
        ghost = replace(registry.list_alias_moves(MODEL, "champion")[0], to_version=9, action="model_promoted")
        moves = [*registry.list_alias_moves(MODEL, "champion")[:1], ghost]
        assert find_rollback_target(registry.get_state(MODEL), moves, registry) is None

    def test_goes_back_to_the_champion_before_and_further_when_repeated(self, served):
        changes = [do_roll_back(served, minutes) for minutes in (10, 11)]
        assert [(change.from_version, change.to_version) for change in changes] == [(3, 2), (2, 1)]
        assert served.aliases == {"champion": 1}
        assert served.actions[:2] == ["model_rolled_back", "model_rolled_back"]
        with pytest.raises(ConflictError, match="no earlier champion"):
            do_roll_back(served, 12)

    def test_after_a_promotion_it_goes_back_to_what_served_before_that(self, served):
        do_roll_back(served, 10)
        do_promote(served, 4, 11)
        assert do_roll_back(served, 12).to_version == 2

    def test_the_same_rollback_sent_twice_is_done_once(self, served):
        first = do_roll_back(served, 10, expected_champion=3)
        again = do_roll_back(served, 11, expected_champion=3)
        assert (first.outcome, again.outcome, again.to_version) == ("rolled_back", "already", 2)
        assert served.aliases == {"champion": 2}
        assert served.actions.count("model_rolled_back") == 1

    def test_a_rollback_from_what_is_not_the_champion_says_what_is(self, served):
        with pytest.raises(ConflictError, match="now version 3, not version 2"):
            do_roll_back(served, expected_champion=2)

    def test_passes_over_what_is_damaged_or_retired_and_says_so(self, served):
        do_promote(served, 4, 5)
        served.damage(3)
        retire(MODEL, 2, acting(), registry=served.registry)
        change = do_roll_back(served)
        assert change.to_version == 1
        assert [("version 3" in words, "version 2" in words) for words in change.passed_over] == [
            (True, False),
            (False, True),
        ]

    def test_without_a_fit_champion_nothing_moves(self, served):
        served.damage(1)
        served.damage(2)
        with pytest.raises(ConflictError, match=r"no earlier champion to go back to: model\.onnx of version 2"):
            do_roll_back(served)
        assert served.aliases == {"champion": 3}

    def test_goes_to_the_version_that_is_named(self, served):
        assert do_roll_back(served, to_version=1).to_version == 1

    @pytest.mark.parametrize("version", [3, 4])
    def test_a_version_that_was_no_earlier_champion_is_not_rolled_back_to(self, served, version):
        with pytest.raises(ConflictError, match="promote it instead"):
            do_roll_back(served, to_version=version)

    def test_a_named_version_that_is_damaged_is_refused(self, served):
        served.damage(1)
        with pytest.raises(UnfitVersionError):
            do_roll_back(served, to_version=1)
        assert served.aliases == {"champion": 3}

    def test_a_model_without_history_has_nothing_to_go_back_to(self, world):
        with pytest.raises(ConflictError):
            do_roll_back(world)


class TestRetirement:
    def test_a_version_is_retired_once(self, world):
        assert retire(MODEL, 1, acting(), registry=world.registry).outcome == "retired"
        assert retire(MODEL, 1, acting(61), registry=world.registry).outcome == "already"
        assert world.actions.count("model_retired") == 1
        assert world.registry.get_version(MODEL, 1).retired_at == later(60)

    @pytest.mark.parametrize("alias", ["champion", "challenger", "candidate"])
    def test_a_version_that_an_alias_points_to_is_in_use(self, world, alias):
        world.point(alias, 1)
        with pytest.raises(ConflictError, match=f"it is the {alias}"):
            retire(MODEL, 1, acting(), registry=world.registry)
        assert world.registry.get_version(MODEL, 1).status == "registered"

    def test_a_version_whose_run_goes_on_is_in_use(self, world):
        world.register(5, run_id=world.first_run_id)
        with pytest.raises(ConflictError, match="has not ended"):
            retire(MODEL, 5, acting(), registry=world.registry)
        world.registry.update_run(MODEL, world.first_run_id, status="failed")
        assert retire(MODEL, 5, acting(), registry=world.registry).outcome == "retired"

    def test_an_alias_that_moves_meanwhile_saves_the_version(self, world, monkeypatch):
        perform = world.registry.commit

        def promoted_first(act):
            monkeypatch.setattr(world.registry, "commit", perform)
            world.point("champion", 1)
            perform(act)

        monkeypatch.setattr(world.registry, "commit", promoted_first)
        with pytest.raises(AliasConflictError):
            retire(MODEL, 1, acting(), registry=world.registry)
        assert world.registry.get_version(MODEL, 1).status == "registered"

    def test_an_unknown_version_is_not_found(self, world):
        with pytest.raises(VersionNotFoundError):
            retire(MODEL, 9, acting(), registry=world.registry)
