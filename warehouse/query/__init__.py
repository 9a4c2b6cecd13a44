"""How the lake is read: read-only connections, SQL of readers, the shipped views, and answers as text."""
