"""Recipe of the nano whisper: a very small speech recogniser for synthetic voices."""
