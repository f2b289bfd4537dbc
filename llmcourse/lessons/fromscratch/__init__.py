"""What the libraries do, written to be read. Tests compare each function with the library's own."""
