"""The demo: traffic written by us, three incidents drawn from a seed, and a judge of what came of them."""
