"""The MLflow registry: packaging, gate, promotion, provenance."""
