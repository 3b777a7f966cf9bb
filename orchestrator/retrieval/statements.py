"""The SQL of the tool search. The order of parameters is that of `index.py` and `corpus.py`."""

TAKE_REVISION = "update tool_search_state set revision = revision + 1 returning revision"
"""The one row that every writer locks: puts, removals and switches take turns."""

REVISION = "select revision from tool_search_state"

DELETE_DOCUMENTS = "delete from tool_search_documents where version_id = any($1::text[]) returning version_id"

INSERT_DOCUMENTS = "insert into tool_search_documents (version_id, revision) select unnest($1::text[]), $2"

INSERT_PASSAGES = """
insert into tool_search_passages (version_id, number, heading, body, embedded, lexemes)
select p.version_id, p.number, p.heading, p.body, p.embedded,
       setweight(to_tsvector(p.config::regconfig, p.heading), 'A')
       || setweight(to_tsvector(p.config::regconfig, p.body), 'B')
from unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[])
     as p(version_id, number, heading, body, embedded, config)
"""

INSERT_VECTOR = """
insert into tool_search_vectors (model, version_id, number, embedding)
select $1, p.version_id, p.number, ($5::real[])::vector
from tool_search_passages p
where p.version_id = $2 and p.number = $3 and p.embedded = $4
on conflict do nothing
"""
"""Nothing when the passage has gone or says something else by now."""

MODELS = "select model, dimension, state, done, total, updated_at from tool_search_models order by model"

ADD_MODEL = """
insert into tool_search_models (model, dimension, state)
select $1, $2, case when exists (select 1 from tool_search_models where state = 'serving')
                    then 'building' else 'serving' end
on conflict (model) do nothing
"""
"""The first model of an index serves at once: there is nothing older to keep."""

BUILD_MODEL = """
insert into tool_search_models (model, dimension, state) values ($1, $2, 'building')
on conflict (model) do update set updated_at = now(),
    state = case when tool_search_models.state = 'retired' then 'building' else tool_search_models.state end
returning state
"""

MISSING = """
select p.version_id, p.number, p.embedded
from tool_search_passages p
where not exists (select 1 from tool_search_vectors v
                  where v.model = $1 and v.version_id = p.version_id and v.number = p.number)
order by p.version_id, p.number
limit $2
"""

PROGRESS = """
update tool_search_models
set total = (select count(*) from tool_search_passages),
    done = (select count(*) from tool_search_vectors where model = $1), updated_at = now()
where model = $1
returning done, total
"""

RETIRE = "update tool_search_models set state = 'retired', updated_at = now() where state = 'serving' and model <> $1"

SERVE = "update tool_search_models set state = 'serving', updated_at = now() where model = $1"

DROP_RETIRED = """
delete from tool_search_vectors
where model in (select model from tool_search_models where state = 'retired' for update)
"""

DOCUMENTS = "select version_id, revision from tool_search_documents order by version_id"

PASSAGES = """
select p.version_id, p.number, p.heading, p.body, l.lexemes, l.in_heading, l.in_body
from tool_search_passages p
cross join lateral (
    select coalesce(array_agg(lexeme order by lexeme), '{}') as lexemes,
           coalesce(array_agg(cardinality(array_positions(weights, 'A')) order by lexeme), '{}') as in_heading,
           coalesce(array_agg(cardinality(array_positions(weights, 'B')) order by lexeme), '{}') as in_body
    from unnest(p.lexemes)
) l
where p.version_id = any($1::text[])
order by p.version_id, p.number
"""

VECTORS = """
select v.version_id, v.number, vector_send(v.embedding) as numbers
from tool_search_vectors v
where v.model = $1 and v.version_id = any($2::text[])
"""

QUERY = """
select s.revision, p.number, l.lexeme, 'A' = any(l.weights) as says
from tool_search_state s
left join unnest($1::text[], $2::text[], $3::text[]) with ordinality as p(said, whole, config, number) on true
left join lateral unnest(
    setweight(to_tsvector(p.config::regconfig, p.said), 'A') || to_tsvector(p.config::regconfig, p.whole)
) l on true
"""
"""One round trip of a search: which revision is current, and the stems of each part.

`says` is false for a stem that only weak words gave.
"""
