"""One name, many implementations, chosen by where the arrays live."""
