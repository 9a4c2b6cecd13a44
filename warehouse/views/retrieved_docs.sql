-- Every chunk that was retrieved for a call: one row a chunk.
-- call_id: id of the call
-- doc_id: document
-- rank: 1 is first
-- score: the retriever's score
-- chunk: chunk of the document
-- doc_text: its text, redacted like the content
-- cited: whether the answer cites it
-- relevant: whether it was judged relevant
-- user_facing: false where the call is a shadow or canary call
SELECT id AS call_id, ts, day, app, feature, trace_id, retrieval_query, retrieval_source,
    d.id AS doc_id, d.rank AS rank, d.score AS score, d.chunk AS chunk, d.text AS doc_text,
    d.cited AS cited, d.relevant AS relevant, user_facing
FROM (SELECT * EXCLUDE (retrieval_docs), unnest(retrieval_docs) AS d FROM calls)
