"""What the products of an operator tell of its eigenvalues; each algorithm takes any operator."""
