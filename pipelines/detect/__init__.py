"""detect: rollups in, alerts out. Judgement is pure; only ``app.py`` uses Faust."""
