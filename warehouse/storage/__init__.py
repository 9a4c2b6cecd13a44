"""How the lake is written: connections, locks, transactions, and files that survive a power cut."""
