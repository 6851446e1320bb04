"""Media: find files, read their bytes once, identify them, decode them."""
