"""What the libraries do, written to be read; each function is proven equal to the one that people use."""
