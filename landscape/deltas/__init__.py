"""Deltas: what fine-tuning changed, as numbers to calculate with and as files."""
