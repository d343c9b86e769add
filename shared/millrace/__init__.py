"""Millrace: serverless MLOps for tabular models.

A model's life goes through :mod:`millrace.data`, ``training``, ``evaluation``, ``registry``, ``serving``, ``captures``
and ``monitoring``, in this order. Only :mod:`millrace.aws` calls AWS.
"""

__version__ = "0.1.0"
