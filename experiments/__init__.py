"""The papers' figures and tables, one file each, on real models and real data."""
