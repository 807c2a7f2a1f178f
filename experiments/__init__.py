"""The papers' figures and tables and our own, on real models and real data.

A folder a source, a file an artefact; what all are made of is in `kit`.
"""
