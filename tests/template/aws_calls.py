"""Which AWS actions a handler can ask for, read from the sources.

A handler builds adapters with the factories of :mod:`millrace.aws.clients`; what it imports calls methods of the ports
that they implement, on names annotated with the port; each method of an adapter calls boto3 (those of serving, clients
with the same methods). The modules that a handler imports are an upper bound of the code that it runs.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.template.handler_imports import library_files
from tests.template.template_file import ROOT

SHARED = ROOT / "shared"
AWS = SHARED / "millrace" / "aws"
#: The registry decides on changes of items, which its store makes.
REGISTRY = [
    SHARED / "millrace" / "registry" / f"{name}.py"
    for name in ("store", "transactions", "claims", "ledger", "migration")
]

#: Actions of each boto3 method that the adapters call, by client (Service Authorization Reference; for S3, "Required
#: permissions for Amazon S3 API operations").
ACTIONS = {
    ("s3", "get_object"): {"s3:GetObject"},
    ("s3", "head_object"): {"s3:GetObject"},
    ("s3", "download_file"): {"s3:GetObject"},
    ("s3", "upload_fileobj"): {"s3:PutObject", "s3:AbortMultipartUpload"},
    ("s3", "put_object"): {"s3:PutObject"},
    ("s3", "copy_object"): {"s3:GetObject", "s3:PutObject"},
    ("s3", "delete_objects"): {"s3:DeleteObject"},
    ("s3", "list_objects_v2"): {"s3:ListBucket"},
    ("s3", "list_object_versions"): {"s3:ListBucketVersions"},
    ("dynamodb", "get_item"): {"dynamodb:GetItem"},
    ("dynamodb", "batch_get_item"): {"dynamodb:BatchGetItem"},
    ("dynamodb", "query"): {"dynamodb:Query"},
    ("dynamodb", "put_item"): {"dynamodb:PutItem"},
    ("dynamodb", "update_item"): {"dynamodb:UpdateItem"},
    ("dynamodb", "delete_item"): {"dynamodb:DeleteItem"},
    # A transaction needs the actions of its items, which the registry makes as objects of these classes.
    ("dynamodb", "transact_write_items"): set(),
    ("dynamodb", "Put"): {"dynamodb:PutItem"},
    ("dynamodb", "Update"): {"dynamodb:UpdateItem"},
    ("dynamodb", "Delete"): {"dynamodb:DeleteItem"},
    ("dynamodb", "Check"): {"dynamodb:ConditionCheckItem"},
    ("stepfunctions", "start_execution"): {"states:StartExecution"},
    ("stepfunctions", "describe_execution"): {"states:DescribeExecution"},
    ("stepfunctions", "stop_execution"): {"states:StopExecution"},
    ("stepfunctions", "send_task_success"): {"states:SendTaskSuccess"},
    ("lambda", "get_account_settings"): {"lambda:GetAccountSettings"},
    ("events", "put_events"): {"events:PutEvents"},
    ("sns", "publish"): {"sns:Publish"},
    ("scheduler", "get_schedule"): {"scheduler:GetSchedule"},
    ("scheduler", "create_schedule"): {"scheduler:CreateSchedule", "iam:PassRole"},
    ("scheduler", "update_schedule"): {"scheduler:UpdateSchedule", "iam:PassRole"},
    ("scheduler", "delete_schedule"): {"scheduler:DeleteSchedule"},
}
#: Actions of the calls that a handler makes itself, because it has no layer.
ACTIONS_OF_HANDLERS = {"send_message": {"sqs:SendMessage"}}
#: Of each factory of :mod:`millrace.aws.clients`: the port, the client, and the file and the class of the adapter.
ADAPTERS = {
    "object_store": ("ObjectStore", "s3", "object_store.py", "S3ObjectStore"),
    "registry": ("Registry", "dynamodb", "registry_store.py", "DynamoRegistryStore"),
    "registry_store": ("RegistryStore", "dynamodb", "registry_store.py", "DynamoRegistryStore"),
    "tracking_store": ("RegistryStore", "dynamodb", "registry_store.py", "DynamoRegistryStore"),
    "training_pipeline": ("PipelineStarter", "stepfunctions", "pipeline.py", "StepFunctionsPipeline"),
    "scoring_pipeline": ("ScoringPipeline", "stepfunctions", "pipeline.py", "StepFunctionsScoring"),
    "account_concurrency": ("AccountConcurrency", "lambda", "pipeline.py", "LambdaConcurrency"),
    "monitoring_pipeline": ("MonitoringPipeline", "stepfunctions", "pipeline.py", "StepFunctionsMonitoring"),
    "task_callback": ("TaskCallback", "stepfunctions", "pipeline.py", "StepFunctionsCallback"),
    "notifier": ("Notifier", "sns", "events.py", "SnsNotifier"),
    "event_publisher": ("EventPublisher", "events", "events.py", "EventBridgePublisher"),
    "release_schedules": ("Schedules", "scheduler", "schedules.py", "EventBridgeSchedules"),
    "schedules": ("Schedules", "scheduler", "schedules.py", "EventBridgeSchedules"),
}
#: Modules of the adapters' package that call ports.
COMPOSING = (AWS / "management.py", AWS / "tracking.py")
#: Factories of stores of items, whose changes are data.
STORES = frozenset({"registry_store", "tracking_store"})
CLIENTS = re.compile(r"^self\._(client|s3|dynamodb)$")
CHANGES = frozenset({"Put", "Update", "Delete", "Check"})
OWN = frozenset({"self", "self.store", "claims"})
READS = {"self.store.get": "get_item", "self.store.get_many": "batch_get_item", "self.store.query": "query"}


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def boto_calls(node: ast.AST) -> Iterator[str]:
    """Yield the methods of boto3 clients, and the registry's reads and changes, in a piece of code."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and CLIENTS.match(ast.unparse(part.value)) and part.attr != "get_paginator":
            yield part.attr
        elif isinstance(part, ast.Call) and ast.unparse(part.func).endswith(
            ("._client.get_paginator", ".generate_presigned_url")
        ):
            assert isinstance(part.args[0], ast.Constant)
            yield str(part.args[0].value)
        elif isinstance(part, ast.Call) and ast.unparse(part.func) in {*CHANGES, *READS}:
            yield READS.get(ast.unparse(part.func), ast.unparse(part.func))


def own_calls(node: ast.AST) -> Iterator[str]:
    """Yield the functions of the adapter that a piece of code calls: ``self.x()``, ``claims.x()``, ``x()``."""
    # Only an update may copy an item from the other table first.
    plain = {
        part.func
        for part in ast.walk(node)
        if isinstance(part, ast.Call)
        and ast.unparse(part.func) == "self.store.write"
        and ast.unparse(part.args[0]).startswith(("Delete(", "Put("))
    }
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
            yield part.func.id
        elif isinstance(part, ast.Attribute) and part not in plain and ast.unparse(part.value) in OWN:
            yield part.attr


@cache
def adapter_functions(factory: str) -> dict[str, list[ast.AST]]:
    """Return the functions of an adapter by name: those of its class and its base classes, or the registry's own."""
    _, _, file, name = ADAPTERS[factory]
    roots: list[ast.AST] = [parse(path) for path in REGISTRY]
    if factory != "registry":
        classes = {part.name: part for part in parse(AWS / file).body if isinstance(part, ast.ClassDef)}
        roots, waiting = [], [name]
        while waiting:
            found_class = classes[waiting.pop()]
            roots.append(found_class)
            waiting += [base.id for base in found_class.bases if isinstance(base, ast.Name)]
    found: dict[str, list[ast.AST]] = {}
    for root in roots:
        for part in ast.walk(root):
            if isinstance(part, ast.FunctionDef):
                found.setdefault(part.name, []).append(part)
    return found


@cache
def adapter_actions(factory: str, *methods: str) -> frozenset[str]:
    """Return the actions of an adapter's methods, with those of the functions that these call."""
    functions, client = adapter_functions(factory), ADAPTERS[factory][1]
    waiting, seen, actions = [name for name in methods if name in functions], set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in functions[name]:
            for call in boto_calls(node):
                actions |= ACTIONS[client, call]
            waiting += [called for called in own_calls(node) if called in functions]
    return frozenset(actions)


def receiver(node: ast.expr) -> str:
    """Return the last name of what a method is called on: ``self.data_store`` is ``data_store``."""
    if isinstance(node, ast.Call):
        return receiver(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def assignments(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield targets with their values: also those of ``a, b = x(), y()``, one by one."""
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=True)
        else:
            yield target, node.value


def called(node: ast.expr) -> str:
    """Return the name of the function that an expression calls; empty when it calls none."""
    return receiver(node) if isinstance(node, ast.Call) else ""


@cache
def names_of_port(tree: ast.Module, port: str, factory: str) -> set[str]:
    """Return the names that a module gives to a port: annotated with it, returned by, or assigned from its factory."""
    mentions = re.compile(rf"\b{port}\b")
    names = {factory}
    for part in ast.walk(tree):
        if isinstance(part, ast.arg) and part.annotation and mentions.search(ast.unparse(part.annotation)):
            names.add(part.arg)
        elif isinstance(part, ast.AnnAssign) and mentions.search(ast.unparse(part.annotation)):
            names.add(receiver(part.target))
        elif isinstance(part, ast.FunctionDef) and part.returns and mentions.search(ast.unparse(part.returns)):
            names.add(part.name)
        elif isinstance(part, ast.Assign):
            names |= {receiver(target) for target, value in assignments(part) if called(value) == factory}
    return names - {""}


def port_method(call: ast.Call) -> str:
    """Return the method of a port that is called; of a write, with the change that it makes."""
    assert isinstance(call.func, ast.Attribute)
    change = called(call.args[0]) if call.func.attr == "write" and call.args else ""
    return f"write {change}" if change in CHANGES else call.func.attr


@cache
def method_calls(tree: ast.Module) -> list[tuple[str, str]]:
    """Return the calls of methods in a module: what each is called on, and the method, as of a port."""
    return [
        (receiver(part.func.value), port_method(part))
        for part in ast.walk(tree)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute)
    ]


@cache
def handler_actions(handler: Path) -> dict[str, set[str]]:
    """Return the actions that a handler can ask for, each with the ports' methods that need it."""
    files = library_files(handler, SHARED)
    sources = [path for path in files if AWS not in path.parents or path in COMPOSING]
    trees = [parse(path) for path in sources]
    built = {
        alias.name
        for tree in trees
        for part in ast.walk(tree)
        if isinstance(part, ast.ImportFrom) and part.module == "millrace.aws.clients"
        for alias in part.names
    }
    # What the registry does with its store is counted as the registry's.
    outside = [parse(path) for path in sources if "registry" not in path.parts]
    searched = {factory: outside if factory in STORES else trees for factory in built}
    everywhere = {
        factory: set().union(*(names_of_port(tree, ADAPTERS[factory][0], factory) for tree in searched[factory]))
        for factory in built
    }
    actions: dict[str, set[str]] = {}
    for factory in sorted(built):
        methods = {
            method for tree in searched[factory] for on, method in method_calls(tree) if on in everywhere[factory]
        }
        for method in sorted(methods):
            change = method.removeprefix("write ")
            one = factory in STORES and change in CHANGES
            for action in ACTIONS["dynamodb", change] if one else adapter_actions(factory, method):
                actions.setdefault(action, set()).add(f"{factory}.{method}")
    for call in (part.attr for part in ast.walk(parse(handler)) if isinstance(part, ast.Attribute)):
        for action in ACTIONS_OF_HANDLERS.get(call, ()):
            actions.setdefault(action, set()).add(f"boto3.{call}")
    if AWS / "serving_source.py" in files:
        for call in boto_calls(parse(AWS / "serving_source.py")):
            client = "dynamodb" if ("dynamodb", call) in ACTIONS else "s3"
            for action in ACTIONS[client, call]:
                actions.setdefault(action, set()).add("aws_model_source")
    return actions
