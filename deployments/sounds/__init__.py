"""From written text to the sounds that it stands for, and from sounds heard to a score."""
