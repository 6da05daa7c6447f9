"""What experts know: corpus to passages to embeddings to index versions to search."""
