"""One ONNX graph of several models: their average by weights, and the proof that it is."""

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, compose, helper, numpy_helper

from millrace.errors import ModelExportError
from millrace.features import FeatureMatrix
from millrace.schema import Task
from millrace.serving.model import PROBABILITIES_OUTPUT, VALUE_OUTPUT, OnnxModel
from millrace.training.export import (
    LABEL_OUTPUT,
    MAX_PARITY_ROWS,
    PROBABILITY_TOLERANCE,
    TARGET_OPSET,
    VALUE_TOLERANCE,
    perturbed,
)


def combine_models(bodies: Sequence[bytes], weights: Sequence[float], task: Task) -> bytes:
    """Return the graph of the weighted average of models; the same models and weights give the same bytes.

    The models share the inputs. A member's own calibration stays a part of it; its raw probabilities are no output.
    """
    output = VALUE_OUTPUT if task == "regression" else PROBABILITIES_OUTPUT
    graphs, domains = [], {"": TARGET_OPSET[""]}
    for position, body in enumerate(bodies):
        model = ModelProto.FromString(body)
        graphs.append(compose.add_prefix_graph(model.graph, f"m{position}_", rename_inputs=False))
        for imported in model.opset_import:
            least = max(domains.get(imported.domain, 0), TARGET_OPSET[imported.domain])
            domains[imported.domain] = max(least, imported.version)
    members = [f"m{position}_{output}" for position in range(len(bodies))]
    graph = GraphProto(name="millrace")
    inputs: Mapping[str, object] = {one.name: one for member in graphs for one in member.input}
    graph.input.extend(inputs[name] for name in sorted(inputs))
    for member in graphs:
        graph.node.extend(member.node)
        graph.initializer.extend(member.initializer)
    kinds = [
        one.type.tensor_type.elem_type
        for member, name in zip(graphs, members, strict=True)
        for one in member.output
        if one.name == name
    ]
    # A regression's values are float64 where float32 would not tell them apart.
    kind = TensorProto.DOUBLE if TensorProto.DOUBLE in kinds else TensorProto.FLOAT
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for position, (name, weight) in enumerate(zip(members, weights, strict=True)):
        graph.initializer.append(numpy_helper.from_array(np.array([weight], dtype=dtype), f"weight_{position}"))
        graph.node.extend(
            [
                helper.make_node("Cast", [name], [f"cast_{position}"], name=f"ensemble_cast_{position}", to=kind),
                helper.make_node(
                    "Mul",
                    [f"cast_{position}", f"weight_{position}"],
                    [f"part_{position}"],
                    name=f"ensemble_multiply_{position}",
                ),
            ]
        )
    parts = [f"part_{position}" for position in range(len(members))]
    graph.node.append(helper.make_node("Sum", parts, [output], name="ensemble_sum"))
    if task == "regression":
        graph.output.append(helper.make_tensor_value_info(VALUE_OUTPUT, kind, [None, 1]))
    else:
        graph.node.append(
            helper.make_node("ArgMax", [output], [LABEL_OUTPUT], name="ensemble_label", axis=1, keepdims=0)
        )
        (classes,) = {
            one.type.tensor_type.shape.dim[1].dim_value
            for member, name in zip(graphs, members, strict=True)
            for one in member.output
            if one.name == name
        }
        graph.output.append(helper.make_tensor_value_info(LABEL_OUTPUT, TensorProto.INT64, [None]))
        graph.output.append(helper.make_tensor_value_info(PROBABILITIES_OUTPUT, kind, [None, classes]))
    opsets = [helper.make_opsetid(domain, version) for domain, version in sorted(domains.items())]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="millrace")
    model.ir_version = max(ModelProto.FromString(body).ir_version for body in bodies)
    return bytes(model.SerializeToString(deterministic=True))


def check_average(
    members: Sequence[OnnxModel], weights: Sequence[float], average: OnnxModel, features: FeatureMatrix
) -> None:
    """Compare a graph with the average of its members, on rows and perturbed copies; ``ModelExportError``.

    Each member has been compared with its estimator before.
    """
    rows = perturbed(features.take(np.arange(min(len(features), MAX_PARITY_ROWS))))
    parts = [member.run(rows).astype(np.float64) for member in members]
    expected = np.tensordot(np.asarray(weights, dtype=np.float64), np.stack(parts), axes=1)
    difference = np.abs(average.run(rows).astype(np.float64) - expected)
    if average.schema.task == "regression":
        size = np.maximum(np.max(np.abs(parts), axis=0), np.std(expected))
        difference, tolerance = difference / np.where(size > 0, size, 1.0), VALUE_TOLERANCE
    else:
        tolerance = PROBABILITY_TOLERANCE
    largest = float(difference.max(initial=0.0))
    if not largest <= tolerance:
        raise ModelExportError(f"the ensemble's ONNX model differs from the average of its members by {largest:.2g}")
