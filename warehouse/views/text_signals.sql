-- Text signals by day and series: how many sampled texts were hits, of how many that were scored.
-- dims: names of the dimensions of the series, joined by a comma
-- series: the series as JSON
-- side: input, output or document
-- signal: name of the text signal; one without a hit on a day has no row
-- hits: calls with a hit
-- scored: calls with a text on this side that were sampled and scored
-- share: hits per scored call
WITH counted AS (SELECT day, dims, series, unnest(signals) AS s FROM rollups WHERE len(signals) > 0),
sums AS (
    SELECT day, dims, series, s.action AS side, s.name AS signal, sum(s.calls)::BIGINT AS calls
    FROM counted GROUP BY ALL
)
SELECT h.day, h.dims, h.series, h.side, h.signal, h.calls AS hits, t.calls AS scored,
    h.calls::DOUBLE / t.calls AS share
FROM sums AS h JOIN sums AS t
    ON t.day = h.day AND t.dims = h.dims AND t.series = h.series AND t.side = h.side AND t.signal = 'scored'
WHERE h.signal <> 'scored'
