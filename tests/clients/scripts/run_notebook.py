"""Runs the code of a notebook, as far as it has none of IPython's own, and prints what the last cells found."""

import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
notebook = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
names = {}
for number, cell in enumerate(notebook["cells"]):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)  # noqa: S102 - this project's notebook
print(
    json.dumps(
        {
            "logged": len(names["logged"]),
            "by_hand": names["by_hand"].tolist(),
            "estimator": names["estimator"].predict_proba(names["rows"][:3]).tolist(),
            "champion": names["champion"].metadata.metadata["millrace"]["version"],
            "predictions": names["predictions"].to_dict("records"),
            "reply": names["reply"],
        }
    )
)
