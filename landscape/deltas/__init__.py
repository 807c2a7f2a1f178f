"""Deltas: what fine-tuning changed, to calculate with and as files."""
