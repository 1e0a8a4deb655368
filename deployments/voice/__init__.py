"""Voices: eSpeak NG in a process of its own, and what is said before a voice hears it."""
