"""Golden sets: the failed calls they are built from, their versions, texts and labels."""
