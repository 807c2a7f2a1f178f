"""What artefacts are made of: settings, cells, rows, measurements, verdicts, tables, figures."""
