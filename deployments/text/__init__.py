"""What every engine for text needs besides its runtime: the checkpoint's files, prompts, sampling and streaming."""
