"""The data between two parts of the system: topics, tables, messages, errors. No I/O, no clock."""
