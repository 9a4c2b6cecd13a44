"""The home: the one folder that holds everything, and what is done with its files."""
