"""Rules that the template keeps: least privilege, nothing lost, nothing public, everything watched."""

import re

import pytest
from millrace.observability import NAMESPACE
from millrace.serving.handler import ROUTES

from tests.template.handler_imports import third_party_packages
from tests.template.template_file import (
    ROOT,
    TEMPLATE,
    as_list,
    function_folder,
    functions,
    layer_names,
    load_template,
    referenced,
    resources,
    walk,
)

NO_LOG_RESOURCE = "log delivery has no resources (Service Authorization Reference, CloudWatch Logs)"
NO_TRACE_RESOURCE = "X-Ray segments have no ARN"
ACTIONS_WITHOUT_RESOURCE = {
    "xray:PutTraceSegments": NO_TRACE_RESOURCE,
    "xray:PutTelemetryRecords": NO_TRACE_RESOURCE,
    "xray:GetSamplingRules": NO_TRACE_RESOURCE,
    "xray:GetSamplingTargets": NO_TRACE_RESOURCE,
    "logs:CreateLogDelivery": NO_LOG_RESOURCE,
    "logs:GetLogDelivery": NO_LOG_RESOURCE,
    "logs:UpdateLogDelivery": NO_LOG_RESOURCE,
    "logs:DeleteLogDelivery": NO_LOG_RESOURCE,
    "logs:ListLogDeliveries": NO_LOG_RESOURCE,
    "logs:PutResourcePolicy": NO_LOG_RESOURCE,
    "logs:DescribeResourcePolicies": NO_LOG_RESOURCE,
    "logs:DescribeLogGroups": NO_LOG_RESOURCE,
    "cloudwatch:GetMetricData": "CloudWatch knows no resources for reading metrics",
    "lambda:GetAccountSettings": "the settings are the account's, not those of a function",
    "states:SendTaskSuccess": "the task token stands for the one execution that waits with it",
}
#: Condition keys of type "ArrayOf..." (Service Authorization Reference).
MULTIVALUED_KEYS = frozenset(
    {"aws:TagKeys", "dynamodb:Attributes", "dynamodb:LeadingKeys", "events:source", "kms:EncryptionContextKeys"}
)
ASYNCHRONOUS_EVENTS = frozenset(
    {"EventBridgeRule", "CloudWatchEvent", "Schedule", "ScheduleV2", "S3", "SNS", "CloudWatchLogs"}
)
EVENTS_WITH_DEAD_LETTERS = frozenset({"EventBridgeRule", "CloudWatchEvent", "Schedule", "ScheduleV2"})
MOST_LAYERS = 5
LAMBDA_FIELDS_OF_GLOBALS = ("Runtime", "Architectures", "Handler", "Tracing")


def statements(effect):
    """Return the policy statements with one effect, each with the resource that it stands in."""
    return [
        (logical_id, part)
        for logical_id, body in load_template()["Resources"].items()
        for part in walk(body)
        if isinstance(part, dict) and part.get("Effect") == effect
    ]


def text_of(value):
    """Return a resource as written: the pattern of a Sub, or the string itself."""
    if isinstance(value, dict):
        pattern = value.get("Fn::Sub", "")
        return pattern[0] if isinstance(pattern, list) else pattern
    return value


def event_sources(kinds):
    """Return (function, event name, properties) of the function events of some kinds."""
    return [
        (logical_id, name, event["Properties"])
        for logical_id, properties in functions().items()
        for name, event in properties.get("Events", {}).items()
        if event["Type"] in kinds
    ]


class TestPermissions:
    def test_there_are_policies_to_check(self):
        assert len(statements("Allow")) > len(functions())

    def test_no_action_is_a_wildcard(self):
        for logical_id, statement in statements("Allow"):
            assert "NotAction" not in statement, logical_id
            wild = [action for action in as_list(statement["Action"]) if "*" in action]
            assert wild == [], logical_id

    def test_every_resource_that_can_be_named_is_named(self):
        for logical_id, statement in statements("Allow"):
            assert "NotResource" not in statement, logical_id
            if "*" in as_list(statement.get("Resource", [])):
                named = set(as_list(statement["Action"])) - set(ACTIONS_WITHOUT_RESOURCE)
                assert named == set(), f"{logical_id}: these actions have resources to name"

    def test_no_resource_reaches_into_other_accounts_or_services(self):
        for logical_id, statement in statements("Allow"):
            for resource in map(text_of, as_list(statement.get("Resource", []))):
                if resource.startswith("arn:"):
                    assert "*" not in "".join(resource.split(":")[1:5]), f"{logical_id}: {resource}"
                    assert resource.split(":", 5)[5] != "*", f"{logical_id}: {resource}"

    def test_functions_have_policies_of_their_own(self):
        # Policy templates and managed policies allow more than one function needs.
        for logical_id, properties in functions().items():
            assert "Role" not in properties, logical_id
            for policy in as_list(properties.get("Policies", [])):
                assert "Statement" in policy, f"{logical_id}: {policy}"

    def test_trust_names_services_of_this_account(self):
        for logical_id, body in resources("AWS::IAM::Role").items():
            for statement in body["Properties"]["AssumeRolePolicyDocument"]["Statement"]:
                assert set(statement["Principal"]) == {"Service"}, logical_id
                assert "aws:SourceAccount" in str(statement["Condition"]), logical_id

    def test_a_statement_of_a_resource_policy_names_one_resource(self):
        # SQS refuses a policy that has a statement with several queues.
        for kind in ("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"):
            assert resources(kind)
            for logical_id, body in resources(kind).items():
                for statement in body["Properties"]["PolicyDocument"]["Statement"]:
                    assert isinstance(statement["Resource"], str | dict), f"{logical_id}.{statement['Sid']}"

    def test_set_operators_are_where_keys_have_several_values_and_nowhere_else(self):
        # Without one, a key of several values never matches; with one, a key that is absent always does.
        checked = 0
        for logical_id, statement in statements("Allow"):
            for operator, keys in statement.get("Condition", {}).items():
                for key in keys:
                    has_set_operator = operator.startswith(("ForAllValues:", "ForAnyValue:"))
                    assert has_set_operator == (key in MULTIVALUED_KEYS), f"{logical_id}: {operator} {key}"
                    checked += has_set_operator
        assert checked

    def test_no_account_is_written_down(self):
        assert re.findall(r"\b\d{12}\b", TEMPLATE.read_text(encoding="utf-8")) == []

    def test_principals_are_open_only_in_refusals(self):
        for logical_id, statement in statements("Allow"):
            assert statement.get("Principal") not in ("*", {"AWS": "*"}), logical_id


def test_a_failed_creation_leaves_nothing_but_what_protects_itself():
    retained = {
        logical_id: body
        for logical_id, body in load_template()["Resources"].items()
        if "Retain" in str(body.get("DeletionPolicy"))
    }
    assert retained
    for logical_id, body in retained.items():
        # The rollback would try to delete a protected table, and stop there.
        protected = "DeletionProtectionEnabled" in body["Properties"]
        assert body["DeletionPolicy"] == ("Retain" if protected else "RetainExceptOnCreate"), logical_id


def refused_without_tls(policy_kind, field):
    """Return the logical ids whose policy denies everything that does not come over TLS."""
    covered = set()
    for body in resources(policy_kind).values():
        for statement in body["Properties"]["PolicyDocument"]["Statement"]:
            insecure = statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport") == "false"
            if statement["Effect"] == "Deny" and statement["Principal"] == "*" and insecure:
                covered |= {referenced(target) for target in as_list(body["Properties"][field])}
    return covered


class TestBuckets:
    @pytest.fixture(params=sorted(resources("AWS::S3::Bucket")))
    def bucket(self, request):
        return resources("AWS::S3::Bucket")[request.param]

    def test_data_and_models_have_a_bucket_each(self):
        assert set(resources("AWS::S3::Bucket")) == {"DataBucket", "ModelsBucket"}

    def test_outlives_the_stack(self, bucket):
        assert bucket["UpdateReplacePolicy"] == "Retain"

    def test_keeps_old_versions(self, bucket):
        assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}

    def test_is_encrypted(self, bucket):
        rules = bucket["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rules[0]["ServerSideEncryptionByDefault"]["SSEAlgorithm"] in {"AES256", "aws:kms"}

    def test_is_never_public(self, bucket):
        block = bucket["Properties"]["PublicAccessBlockConfiguration"]
        assert block == dict.fromkeys(
            ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
        )

    def test_tells_eventbridge_if_and_only_if_a_rule_listens(self):
        patterns = [properties["Pattern"] for _, _, properties in event_sources({"EventBridgeRule"})]
        heard = {
            referenced(name)
            for pattern in patterns
            for name in pattern.get("detail", {}).get("bucket", {}).get("name", [])
        }
        telling = {
            logical_id
            for logical_id, body in resources("AWS::S3::Bucket").items()
            if body["Properties"].get("NotificationConfiguration", {}).get("EventBridgeConfiguration")
        }
        assert telling == heard != set()

    def test_expires_what_nobody_needs(self, bucket):
        rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
        assert all(rule["Status"] == "Enabled" for rule in rules)
        assert any("NoncurrentVersionExpiration" in rule for rule in rules)
        assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)

    def test_refuses_plain_http(self):
        assert refused_without_tls("AWS::S3::BucketPolicy", "Bucket") == set(resources("AWS::S3::Bucket"))


class TestTables:
    @pytest.fixture(params=["RegistryTable", "RunsTable", "TrackingTable"])
    def table(self, request):
        tables = resources("AWS::DynamoDB::Table")
        assert set(tables) == {"RegistryTable", "RunsTable", "TrackingTable"}
        return tables[request.param]

    def test_outlives_the_stack(self, table):
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"

    def test_can_be_restored(self, table):
        assert table["Properties"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True

    def test_costs_nothing_when_nobody_asks(self, table):
        assert table["Properties"]["BillingMode"] == "PAY_PER_REQUEST"
        assert "ProvisionedThroughput" not in table["Properties"]

    def test_forgets_old_causes(self):
        registry = resources("AWS::DynamoDB::Table")["RegistryTable"]
        assert registry["Properties"]["TimeToLiveSpecification"]["Enabled"] is True

    def test_deletion_protection_is_a_choice(self, table):
        assert referenced(table["Properties"]["DeletionProtectionEnabled"]) in load_template()["Parameters"]


class TestFunctions:
    @pytest.fixture(params=sorted(functions()))
    def function(self, request):
        return functions()[request.param]

    def test_has_its_code_in_a_folder_of_its_own(self):
        declared = [function_folder(properties) for properties in functions().values()]
        folders = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
        assert sorted(declared) == sorted(folders)

    def test_folder_has_its_resource_s_name(self):
        for logical_id, properties in functions().items():
            words = function_folder(properties).split("_")
            assert logical_id == "".join(word.capitalize() for word in words) + "Function"

    def test_runtime_is_written_down_once(self, function):
        everyone = load_template()["Globals"]["Function"]
        for field in LAMBDA_FIELDS_OF_GLOBALS:
            assert field in everyone
            assert field not in function

    def test_is_traced_where_somebody_pays_for_it(self):
        # Below one request a second X-Ray records every request.
        assert load_template()["Globals"]["Function"]["Tracing"] == {"Ref": "RequestTracing"}
        assert load_template()["Parameters"]["RequestTracing"]["Default"] == "PassThrough"
        chosen = {"Fn::If": ["HasTracing", True, False]}
        for body in resources("AWS::Serverless::StateMachine").values():
            assert body["Properties"]["Tracing"] == {"Enabled": chosen}
        for body in resources("AWS::Serverless::Api").values():
            assert body["Properties"]["TracingEnabled"] == chosen

    def test_stays_within_five_layers(self, function):
        names = layer_names(function)
        assert len(names) == len(set(names)) <= MOST_LAYERS
        needs_library = third_party_packages(ROOT / function["CodeUri"] / "app.py", ROOT / "shared") - {"boto3"}
        assert {"SharedLayer", "BaseLayer"} <= set(names) or not (names or needs_library)

    def test_log_group_is_its_own(self):
        groups = [referenced(properties["LoggingConfig"]["LogGroup"]) for properties in functions().values()]
        assert len(groups) == len(set(groups))
        assert set(groups) <= set(resources("AWS::Logs::LogGroup"))

    def test_the_log_level_is_the_one_that_lambda_obeys(self):
        level = {"Ref": "LogLevel"}
        function = load_template()["Globals"]["Function"]
        assert function["LoggingConfig"] == {
            "LogFormat": "JSON",
            "ApplicationLogLevel": level,
            "SystemLogLevel": "WARN",
        }
        assert function["Environment"]["Variables"]["POWERTOOLS_LOG_LEVEL"] == level
        # Lambda's words, which Python's logging knows too.
        assert load_template()["Parameters"]["LogLevel"]["AllowedValues"] == ["DEBUG", "INFO", "WARN", "ERROR"]

    def test_log_groups_expire(self):
        for logical_id, body in resources("AWS::Logs::LogGroup").items():
            assert body["Properties"].get("RetentionInDays"), logical_id

    def test_library_runs_on_the_runtime_that_the_layers_are_built_for(self):
        runtime = load_template()["Globals"]["Function"]["Runtime"]
        for logical_id, body in resources("AWS::Serverless::LayerVersion").items():
            assert body["Properties"]["CompatibleRuntimes"] == [runtime], logical_id
            assert body["Metadata"]["BuildMethod"] == "makefile", logical_id


class TestNothingIsLost:
    def asynchronous(self):
        called = {logical_id for logical_id, _, _ in event_sources(ASYNCHRONOUS_EVENTS)}
        for body in resources("AWS::Scheduler::Schedule").values():
            called.add(referenced(body["Properties"]["Target"]["Arn"]))
        return called & set(functions())

    def test_something_is_called_asynchronously(self):
        assert "RequestTrainingFunction" in self.asynchronous()

    def test_events_that_a_function_cannot_handle_are_kept(self):
        for logical_id in self.asynchronous():
            properties = functions()[logical_id]
            on_failure = properties.get("EventInvokeConfig", {}).get("DestinationConfig", {}).get("OnFailure")
            queue = properties.get("DeadLetterQueue", {}).get("TargetArn")
            assert on_failure or referenced(queue) in resources("AWS::SQS::Queue"), logical_id

    def test_events_that_cannot_be_delivered_are_kept(self):
        sources = event_sources(EVENTS_WITH_DEAD_LETTERS)
        assert sources
        for logical_id, name, properties in sources:
            queue = properties.get("DeadLetterConfig", {}).get("Arn")
            assert referenced(queue) in resources("AWS::SQS::Queue"), f"{logical_id}.{name}"

    def test_schedules_that_cannot_be_delivered_are_kept(self):
        schedules = resources("AWS::Scheduler::Schedule")
        assert schedules
        for logical_id, body in schedules.items():
            queue = body["Properties"]["Target"].get("DeadLetterConfig", {}).get("Arn")
            assert referenced(queue) in resources("AWS::SQS::Queue"), logical_id

    def test_rules_that_cannot_be_delivered_are_kept(self):
        for logical_id, body in resources("AWS::Events::Rule").items():
            for target in body["Properties"]["Targets"]:
                assert referenced(target.get("DeadLetterConfig", {}).get("Arn")), logical_id

    def test_the_queue_takes_what_each_rule_could_not_deliver(self):
        allowed = str([statement for _, statement in statements("Allow") if "sqs:SendMessage" in str(statement)])
        for logical_id, name, _ in event_sources(EVENTS_WITH_DEAD_LETTERS):
            assert f"'{logical_id}{name}'" in allowed, f"{logical_id}.{name}"

    def test_queues_are_encrypted(self):
        assert resources("AWS::SQS::Queue")
        for logical_id, body in resources("AWS::SQS::Queue").items():
            properties = body["Properties"]
            assert properties.get("SqsManagedSseEnabled") is True or properties.get("KmsMasterKeyId"), logical_id

    def test_queues_refuse_plain_http(self):
        assert refused_without_tls("AWS::SQS::QueuePolicy", "Queues") == set(resources("AWS::SQS::Queue"))


class TestDoors:
    def test_unsigned_calls_are_refused(self):
        assert set(resources("AWS::Serverless::Api")) == {"Api", "KeyApi"}
        assert resources("AWS::Serverless::Api")["Api"]["Properties"]["Auth"]["DefaultAuthorizer"] == "AWS_IAM"

    def test_keys_open_a_door_of_their_own_and_only_where_it_is_wanted(self):
        template = load_template()
        assert template["Parameters"]["ApiAccess"]["Default"] == "IAM"
        assert template["Conditions"]["HasKeyApi"] == {"Fn::Equals": [{"Ref": "ApiAccess"}, "IAM_AND_KEY"]}
        doors = (
            "KeyApi",
            "KeyApiPermission",
            "KeyApiFeedbackPermission",
            "ApiKey",
            "KeyUsagePlan",
            "KeyUsagePlanKey",
        )
        assert {template["Resources"][name].get("Condition") for name in doors} == {"HasKeyApi"}
        for name, output in template["Outputs"].items():
            assert ("Key" in name) == (output.get("Condition") == "HasKeyApi"), name

    def test_every_path_of_that_door_wants_a_key_and_predicts_or_tells_what_became_true(self):
        body = resources("AWS::Serverless::Api")["KeyApi"]["Properties"]["DefinitionBody"]
        (scheme,) = body["components"]["securitySchemes"].values()
        assert scheme == {"type": "apiKey", "name": "x-api-key", "in": "header"}
        for path, operations in body["paths"].items():
            for method, operation in operations.items():
                assert operation["security"] == [{"api_key": []}], (path, method)
                uri = operation["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
                if (method, path) == ("post", "/models/{model}/feedback"):
                    assert uri.endswith("/functions/${RecordFeedbackFunction.Arn}/invocations")
                    continue
                assert uri[1] == {"Alias": {"Ref": "PredictFunction.Alias"}}, (path, method)
                assert (method.upper(), path) in ROUTES

    def test_that_door_may_call_of_the_function_that_takes_feedback_one_route(self):
        permissions = resources("AWS::Lambda::Permission")
        assert set(permissions) == {"KeyApiPermission", "KeyApiFeedbackPermission"}
        source = permissions["KeyApiFeedbackPermission"]["Properties"]["SourceArn"]["Fn::Sub"]
        assert source.endswith(":${KeyApi}/v1/POST/models/*/feedback")

    def test_a_key_is_held_to_a_plan(self):
        (plan,) = resources("AWS::ApiGateway::UsagePlan").values()
        assert plan["Properties"]["Throttle"]["RateLimit"]
        assert plan["Properties"]["Quota"]["Period"] == "DAY"
        (member,) = resources("AWS::ApiGateway::UsagePlanKey").values()
        assert referenced(member["Properties"]["UsagePlanId"]) == "KeyUsagePlan"

    def test_other_origins_are_not_let_in(self):
        for logical_id, body in resources("AWS::Serverless::Api").items():
            assert "Cors" not in body["Properties"], logical_id
        assert "Access-Control" not in str(load_template())

    def test_alarms_watch_metrics_that_are_written(self):
        written = {
            (alarm["Properties"]["MetricName"], alarm["Properties"]["Dimensions"][0]["Value"])
            for alarm in resources("AWS::CloudWatch::Alarm").values()
            if alarm["Properties"].get("Namespace") == NAMESPACE
        }
        assert {("FailedRequests", "api"), ("AliasRefreshFailures", "predict")} <= written

    def test_no_path_opens_another_door(self):
        for logical_id, name, properties in event_sources({"Api"}):
            assert referenced(properties["RestApiId"]) in resources("AWS::Serverless::Api"), f"{logical_id}.{name}"
            assert "Auth" not in properties, f"{logical_id}.{name}"
        assert not any("FunctionUrlConfig" in properties for properties in functions().values())

    def test_the_api_is_throttled(self):
        for body in resources("AWS::Serverless::Api").values():
            [settings] = body["Properties"]["MethodSettings"]
            assert settings["ThrottlingRateLimit"]
            assert settings["ThrottlingBurstLimit"]

    def test_metrics_of_single_methods_are_not_paid_for(self):
        for body in resources("AWS::Serverless::Api").values():
            for settings in body["Properties"]["MethodSettings"]:
                assert settings["MetricsEnabled"] is False

    def test_only_what_costs_next_to_nothing_runs_on_schedule_unasked(self):
        defaults = {
            logical_id: load_template()["Parameters"][referenced(body["Properties"]["State"])]["Default"]
            for logical_id, body in resources("AWS::Scheduler::Schedule").items()
        }
        assert defaults == {"RetrainingScheduleResource": "DISABLED", "MonitoringScheduleResource": "ENABLED"}


def test_schedules_do_not_fire_because_the_stack_creates_them():
    # A rate without a start fires at its creation, and at every change.
    for body in resources("AWS::Scheduler::Schedule").values():
        parameter = load_template()["Parameters"][referenced(body["Properties"]["ScheduleExpression"])]
        assert parameter["Default"].startswith("cron(")


def test_the_architecture_counts_what_the_template_has():
    text = (TEMPLATE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    kinds = ("Serverless::Function", "Serverless::StateMachine", "S3::Bucket", "DynamoDB::Table")
    functions, machines, buckets, tables = (len(resources(f"AWS::{kind}")) for kind in kinds)
    assert f"{functions} functions, {machines} state machines, {buckets} buckets, {tables} tables" in text


def test_every_parameter_is_described_and_has_a_default():
    for name, parameter in load_template()["Parameters"].items():
        assert parameter.get("Description"), name
        assert "Default" in parameter, name


def test_concurrency_is_reserved_only_where_it_is_wanted():
    template = load_template()
    parameter = template["Parameters"]["PredictReservedConcurrency"]
    # A new account with a limit of ten refuses every reservation: the default has to deploy there.
    assert parameter["Default"] == ""
    for value, accepted in [("", True), ("1", True), ("250", True), ("0", False), ("-1", False), ("5x", False)]:
        assert bool(re.fullmatch(parameter["AllowedPattern"], value)) is accepted, value
    reserved = {name: body.get("ReservedConcurrentExecutions") for name, body in functions().items()}
    assert reserved.pop("PredictFunction")["Fn::If"] == [
        "HasReservedConcurrency",
        {"Ref": "PredictReservedConcurrency"},
        {"Ref": "AWS::NoValue"},
    ]
    assert set(reserved.values()) == {None}
    assert template["Conditions"]["HasReservedConcurrency"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "PredictReservedConcurrency"}, ""]}]
    }


def test_the_number_of_alarms_is_the_one_in_the_cost_table():
    # The first ten of an account are free.
    assert len(resources("AWS::CloudWatch::Alarm")) == 12
    assert "| alarms | 12 " in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "twelve CloudWatch alarms" in load_template()["Parameters"]["CreateAlarms"]["Description"]


def test_costs_are_computed_from_what_the_template_has():
    variables = {name: function["Environment"]["Variables"] for name, function in functions().items()}
    polled = [
        event
        for function in functions().values()
        for event in function.get("Events", {}).values()
        if event["Type"] == "SQS"
    ]
    counted = variables["ManageModelsFunction"]
    assert counted["ALARMS"] == {"Fn::If": ["HasAlarms", str(len(resources("AWS::CloudWatch::Alarm"))), "0"]}
    assert counted["DASHBOARDS"] == {"Fn::If": ["HasDashboard", str(len(resources("AWS::CloudWatch::Dashboard"))), "0"]}
    assert counted["QUEUES"] == str(len(polled))
    # A budget is compared with the same settings, wherever it is.
    for name in ("ManageModelsFunction", "MonitorModelFunction", "RequestTrainingFunction"):
        of_requests = {field.upper(): variables[name].get(field.upper()) for field in OF_BUDGETS}
        assert of_requests == {field.upper(): {"Ref": parameter} for field, parameter in OF_BUDGETS.items()}


#: Fields of the settings that a model's month depends on, and their parameters.
OF_BUDGETS = {
    "predict_memory_size": "PredictMemorySize",
    "training_memory_mb": "TrainingMemorySize",
    "capture_predictions": "CapturePredictions",
    "request_tracing": "RequestTracing",
}


def test_every_alarm_tells_someone():
    alarms = resources("AWS::CloudWatch::Alarm")
    assert alarms
    for logical_id, body in alarms.items():
        topics = [referenced(action) for action in body["Properties"]["AlarmActions"]]
        assert set(topics) <= set(resources("AWS::SNS::Topic")), logical_id
        assert topics, logical_id


def test_metrics_by_model_are_written_only_where_the_parameter_asks_for_them():
    assert load_template()["Parameters"]["ModelMetrics"]["Default"] == "false"
    written = [
        path.parent.name
        for path in (ROOT / "functions").glob("*/app.py")
        if re.search(r"write_outcome_metrics|model_metrics", path.read_text(encoding="utf-8"))
    ]
    assert sorted(written) == ["monitor_model", "predict"]
    for logical_id, function in functions().items():
        is_one = function_folder(function) in written
        assert function["Environment"]["Variables"].get("MODEL_METRICS") == (
            {"Ref": "ModelMetrics"} if is_one else None
        ), logical_id
    text = (ROOT / "functions" / "monitor_model" / "app.py").read_text(encoding="utf-8")
    assert re.search(r"if settings.model_metrics:\n +write_outcome_metrics\(", text)
