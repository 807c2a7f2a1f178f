"""What the papers print: every number of their tables as data, and what follows from it alone."""
