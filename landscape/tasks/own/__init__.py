"""Data of your own as a task: rows, recipes, splits."""
