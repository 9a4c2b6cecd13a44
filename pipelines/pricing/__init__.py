"""What a call costs: price books, the rows of a batch matched and priced with them, and corrections. Pure.

``book`` holds the prices, ``catalogue`` builds the packaged ones, ``price`` prices a batch, ``reprice`` corrects calls
that have landed. ``published`` reads and writes the books on Kafka, and is the only module with I/O.
"""

from pipelines.pricing.book import PriceBook, PriceBookError, PriceBooks
from pipelines.pricing.catalogue import default_book
from pipelines.pricing.price import price

__all__ = ["PriceBook", "PriceBookError", "PriceBooks", "default_book", "price"]
