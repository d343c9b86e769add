"""The ledger of aliases: whatever clients do, its entries alone tell where every alias points."""

import random

import pytest
from millrace.layout import MLFLOW_LEDGER


def replay(entries):
    """Return the aliases of every model by what the ledger says, oldest entry first."""
    aliases = {}
    for entry in entries:
        details, name = entry.details, entry.details["registered_model"]
        own = aliases.setdefault(name, {})
        if entry.action == "registered_model_renamed":
            aliases[name] = aliases.pop(details["from_name"], {})
        elif entry.action == "registered_model_deleted":
            assert own == dict(details["aliases"])
            del aliases[name]
        else:
            for alias in details.get("aliases") or [details["alias"]]:
                assert own.get(alias) == details["from_version"]
                own[alias] = details["to_version"]
                if details["to_version"] is None:
                    del own[alias]
    return {name: own for name, own in aliases.items() if own}


def change(server, rng, models):
    """Do one thing that may move aliases."""
    name = rng.choice(sorted(models))
    action = rng.choice(("set", "set", "set", "remove", "version", "drop version", "rename", "delete"))
    versions = models[name]
    if action == "version" or not versions:
        source = {"name": name, "source": "s3://elsewhere/1"}
        versions.append(server.post("model-versions/create", **source)["model_version"]["version"])
    elif action == "set":
        alias = {"alias": rng.choice("abc"), "version": rng.choice(versions)}
        server.post("registered-models/alias", name=name, **alias)
    elif action == "remove":
        server.delete("registered-models/alias", name=name, alias=rng.choice("abc"))
    elif action == "drop version":
        server.delete("model-versions/delete", name=name, version=versions.pop(rng.randrange(len(versions))))
    elif action == "rename":
        new_name = f"m{rng.randrange(10**9)}"
        server.post("registered-models/rename", name=name, new_name=new_name)
        models[new_name] = models.pop(name)
    elif rng.random() < 0.3:
        server.delete("registered-models/delete", name=name)
        server.post("registered-models/create", name=name)
        models[name] = []


@pytest.mark.parametrize("seed", range(5))
def test_the_ledger_alone_tells_where_aliases_point(server, seed):
    rng = random.Random(seed)
    models = {"one": [], "two": []}
    for name in models:
        server.post("registered-models/create", name=name)
    for _ in range(80):
        change(server, rng, models)
    found = server.get("registered-models/search")["registered_models"]
    aliases = {one["name"]: {each["alias"]: int(each["version"]) for each in one["aliases"]} for one in found}
    entries = server.registry.list_ledger(MLFLOW_LEDGER, limit=1_000)
    assert replay(reversed(entries)) == {name: own for name, own in aliases.items() if own}
    assert len(entries) > 20
    assert server.registry.verify_ledger(MLFLOW_LEDGER).is_intact
