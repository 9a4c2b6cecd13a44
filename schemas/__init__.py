"""What things look like at every wall: topics, tables, messages, errors. No I/O, no clock."""
