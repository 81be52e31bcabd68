"""Tables for the documents, generated from the result files."""
