"""The decision, pure: hard limits, predictions, cost, ranking, explanation."""
