"""Requests for vectors: kept to one space a name, cut up over backends, gathered while those are busy."""
