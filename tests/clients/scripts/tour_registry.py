"""What MLflow's stock client does with a registry, step by step; prints what each step found, or its error's code."""

import json
import warnings

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

warnings.simplefilter("ignore")
client = MlflowClient()
found = {"mlflow": mlflow.__version__}


def step(name, call):
    try:
        found[name] = call()
    except MlflowException as error:
        found[name] = error.error_code


experiment = client.create_experiment("My Exp")
run = client.create_run(experiment).info.run_id
step("create", lambda: client.create_registered_model("m one", tags={"a": "b"}, description="d").tags)
step("create twice", lambda: client.create_registered_model("m one"))
step("search by default", lambda: [one.name for one in client.search_registered_models()])
step("version", lambda: client.create_model_version("m one", f"runs:/{run}/model", run, tags={"x": "y"}).version)
step("version elsewhere", lambda: client.create_model_version("m one", "s3://b/x").version)
step("local version", lambda: client.create_model_version("m one", "/x/y"))
step("place", lambda: client.get_model_version_download_uri("m one", "1").endswith(f"{run}/artifacts/model"))
step("alias", lambda: client.set_registered_model_alias("m one", "best", "2"))
step("by alias", lambda: client.get_model_version_by_alias("m one", "best").version)
step("aliases", lambda: client.get_registered_model("m one").aliases)
step("reserved alias", lambda: client.set_registered_model_alias("m one", "v1", "2"))
step("delete alias", lambda: client.delete_registered_model_alias("m one", "best"))
step("unknown alias", lambda: client.get_model_version_by_alias("m one", "best"))
step("stage", lambda: client.transition_model_version_stage("m one", "1", "Production").current_stage)
step("archive", lambda: client.transition_model_version_stage("m one", "2", "Production", True).current_stage)
step("latest", lambda: {one.current_stage: one.version for one in client.get_latest_versions("m one")})
step("model tag", lambda: client.set_registered_model_tag("m one", "k", "v"))
step("version tag", lambda: client.set_model_version_tag("m one", "1", "k", "v"))
step("delete tags", lambda: client.delete_registered_model_tag("m one", "a"))
step("tags", lambda: client.get_registered_model("m one").tags)
step("description", lambda: client.update_model_version("m one", "1", "new").description)
step("search", lambda: [one.version for one in client.search_model_versions("name='m one' and tags.x = 'y'")])
by_name_and_number = ["name", "version_number DESC"]
step("two orders", lambda: [one.version for one in client.search_model_versions(order_by=by_name_and_number)])
step("copy", lambda: client.copy_model_version("models:/m one/1", "m two").version)
step("rename", lambda: client.rename_registered_model("m two", "m 2"))
step("by pattern", lambda: [one.name for one in client.search_registered_models("name ILIKE 'M%'", order_by=["name"])])
step("bad filter", lambda: client.search_registered_models("size = 3"))
step("delete version", lambda: client.delete_model_version("m one", "1"))
step("deleted version", lambda: client.get_model_version("m one", "1"))
step("delete", lambda: client.delete_registered_model("m one"))
step("deleted", lambda: client.get_registered_model("m one"))
print(json.dumps(found, default=str))
