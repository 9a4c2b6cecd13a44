"""Events from files onto the topic, and what became of them: landed rows and dead letters."""
