"""Monitoring of models in production: drift, data quality, model quality, bias, serving; incidents and alerts."""
