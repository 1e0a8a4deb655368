"""What the speech engine is made of: cutting sound, recognising a piece, refusing what was made up."""
