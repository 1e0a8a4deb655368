"""What the retrieval engines are made of: batches, reading files, chunks, terms, stores and answers."""
