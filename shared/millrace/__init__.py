"""Millrace: serverless MLOps for tabular models.

The package reads in the order of a model's life: :mod:`millrace.data` turns an upload into a dataset,
:mod:`millrace.training` fits candidates on it, :mod:`millrace.evaluation` measures them and decides,
:mod:`millrace.registry` keeps what was decided, :mod:`millrace.serving` answers predictions. Only
:mod:`millrace.aws` talks to AWS.
"""

__version__ = "0.1.0"
