"""detect: reads rollups, emits alerts. The judgement is pure; only ``app.py`` uses Faust."""
