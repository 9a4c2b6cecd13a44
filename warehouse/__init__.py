"""The lake: exactly-once storage, and questions to it."""
