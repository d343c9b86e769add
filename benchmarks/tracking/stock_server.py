"""MLflow's own server on a database, called in this process: one command a line on standard input, times on output.

    stock_server.py sqlite:///FILE
    stock_server.py postgresql+psycopg2://USER@HOST/DATABASE

It runs in the environment that ``stock.txt`` describes; ``latency.py`` starts it.
"""

import json
import os
import sys
import time

URI = sys.argv[1]
os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "_MLFLOW_SERVER_FILE_STORE": URI,
    "_MLFLOW_SERVER_REGISTRY_STORE": URI,
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "s3://models/mlflow",
}

import sqlalchemy
from mlflow.server import app

CLIENT = app.test_client()
API = "/api/2.0/mlflow/"


def insert(rows):
    """Write rows of tables as they are: ten thousand runs by requests would take longer than what is measured."""
    engine = sqlalchemy.create_engine(URI)
    metadata = sqlalchemy.MetaData()
    metadata.reflect(engine)
    with engine.begin() as connection:
        for table, values in rows.items():
            for begin in range(0, len(values), 5_000):
                connection.execute(metadata.tables[table].insert(), values[begin : begin + 5_000])
        if engine.dialect.name == "postgresql":
            # As its own worker does a minute later.
            connection.execute(sqlalchemy.text("ANALYZE"))
    engine.dispose()


def ask(method, path, given):
    """Send a request; returns the response, the processor's seconds, and those of the clock."""
    form = {"query_string": given} if method == "GET" else {"json": given}
    begin, began = time.process_time(), time.perf_counter()
    response = CLIENT.open(API + path, method=method, **form)
    body = response.get_data()
    seconds, clock = time.process_time() - begin, time.perf_counter() - began
    assert response.status_code < 400, body[:500]  # noqa: PLR2004 - HTTP's
    return json.loads(body), seconds, clock


ask("POST", "experiments/search", {"max_results": 1})  # makes the tables
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    command = json.loads(line)
    if command[0] == "insert":
        insert(command[1])
        print(json.dumps("done"), flush=True)
    else:
        body, seconds, clock = ask(*command)
        brief = {"seconds": seconds, "clock": clock, "bytes": len(json.dumps(body))}
        if command[1] in ("runs/create", "experiments/create"):
            brief["body"] = body
        print(json.dumps(brief), flush=True)
