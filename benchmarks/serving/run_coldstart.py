"""One cold start of ``predict``: import what Lambda imports, answer one request; registry and models are behind TLS.

Prints, as JSON, the processor time after the imports, that of the whole, and the answer.
"""

import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(sys.argv[1])
sys.path[:0] = [str(ROOT / "functions" / "predict"), str(ROOT / "shared")]
EVENT = {
    "resource": "/models/{model}/invocations",
    "path": "/models/churn/invocations",
    "httpMethod": "POST",
    "headers": {"Content-Type": "application/json"},
    "queryStringParameters": None,
    "pathParameters": {"model": "churn"},
    "requestContext": {"requestId": "0a6c2f6e-5f4f-4a43-9a53-8e3a2c9a0b11"},
    "isBase64Encoded": False,
}

import app

imported = time.process_time()
output = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the log
reply = app.lambda_handler({**EVENT, "body": Path(sys.argv[2]).read_text(encoding="utf-8")}, None)
spent = time.process_time()
json.dump({"imported": imported, "spent": spent, "status": reply["statusCode"], "body": reply["body"]}, output)
output.close()
