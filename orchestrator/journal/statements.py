"""The journal's SQL: each moment of docs/durability.md is one statement.

The order of parameters is that of `journal.py`. Only the database's clock
compares leases. The states that a statement moves between follow
`maruntime.domain.run.RUN_TRANSITIONS`.
"""

_MESSAGES = """
    insert into session_messages (session_id, run_id, step_no, role, content, tool_calls, tool_call_id, name)
    select {session}, {run}, {step}, m.value->>'role',
           nullif(m.value->'content', 'null'), m.value->'tool_calls', m.value->>'tool_call_id', m.value->>'name'
    from {source}, jsonb_array_elements({messages}::jsonb) with ordinality as m(value, place)
    order by m.place
"""

ACCEPT_SESSION = f"""
with opened as (
    insert into sessions (id, tenant_id, principal_id, template_version_id) values ($1, $2, $3, $4)
    returning id, tenant_id, principal_id, template_version_id
), accepted as (
    insert into runs (id, tenant_id, session_id, principal_id, turn_id, template_version_id, llm_endpoint, state,
                      last_seq, deadline, context, transcript_bytes)
    select $5, tenant_id, id, principal_id, $6, template_version_id, $7, 'QUEUED', 1, now() + $8, $9, $11
    from opened
    returning id, session_id, principal_id, deadline
), turn as (
    insert into turns (id, run_id, principal_id, first_seq, deadline)
    select $6, id, principal_id, 0, deadline from accepted
), said as ({_MESSAGES.format(session="session_id", run="id", step="null::int", source="accepted", messages="$10")}
), noted as (
    insert into run_events (run_id, seq, epoch, type, payload) select id, 1, 0, 'RunAccepted', $12 from accepted
)
select id, deadline from accepted
"""
"""A new session with its first run."""

ACCEPT_RUN = f"""
with continued as (
    select id, tenant_id, principal_id, template_version_id from sessions
    where id = $1 and tenant_id = $2 and principal_id = $3 and closed_at is null
    for share
), size as (
    select coalesce((select transcript_bytes from runs where session_id = $1 order by accepted_at desc limit 1), 0)
           as bytes
), accepted as (
    insert into runs (id, tenant_id, session_id, principal_id, turn_id, template_version_id, llm_endpoint, state,
                      last_seq, deadline, context, transcript_bytes)
    select $4, tenant_id, id, principal_id, $5, template_version_id, $6, 'QUEUED', 1, now() + $7, $8,
           size.bytes + $10
    from continued, size
    where size.bytes + $10 <= $12
    returning id, session_id, principal_id, deadline
), turn as (
    insert into turns (id, run_id, principal_id, first_seq, deadline)
    select $5, id, principal_id, 0, deadline from accepted
), said as ({_MESSAGES.format(session="session_id", run="id", step="null::int", source="accepted", messages="$9")}
), noted as (
    insert into run_events (run_id, seq, epoch, type, payload) select id, 1, 0, 'RunAccepted', $11 from accepted
)
select id, deadline from accepted
"""
"""The next run of a session; `one_active` refuses a second active one."""

ACCEPT_ANSWER = f"""
with answered as (
    update runs set state = 'QUEUED', waiting_for = null, waiting_until = null, turn_id = $4, attempts = 0,
                    last_seq = last_seq + 1, deadline = now() + $5, started_at = null,
                    transcript_bytes = transcript_bytes + $7,
                    context = context || $8::jsonb
    where session_id = $1 and tenant_id = $2 and principal_id = $3
      and state = 'WAITING' and waiting_for = 'clarification' and transcript_bytes + $7 <= $10
    returning id, session_id, principal_id, last_seq, epoch, deadline
), turn as (
    insert into turns (id, run_id, principal_id, first_seq, deadline)
    select $4, id, principal_id, last_seq - 1, deadline from answered
), said as ({_MESSAGES.format(session="session_id", run="id", step="null::int", source="answered", messages="$6")}
), noted as (
    insert into run_events (run_id, seq, epoch, type, payload)
    select id, last_seq, epoch, 'RunResumed', $9 from answered
)
select id, epoch, last_seq, deadline from answered
"""
"""The answer to a clarification: a new turn of the waiting run."""

IS_OPEN = """
select 1 from sessions where id = $1 and tenant_id = $2 and principal_id = $3 and closed_at is null
"""
IS_WAITING = "select 1 from runs where session_id = $1 and state = 'WAITING'"
"""Why a message was not accepted."""

CLAIM = """
with ready as (
    select id, template_version_id, llm_endpoint from runs
    where state = 'QUEUED' and llm_endpoint = any($3::text[])
      and (started_at is not null or deadline > clock_timestamp())
    order by depth desc, priority desc, accepted_at, id
    limit 1
    for update skip locked
), matched as (
    select id, coalesce($1::jsonb -> (llm_endpoint || '|' || template_version_id), $2::jsonb -> llm_endpoint) as slot
    from ready
)
update runs r
set state = 'RUNNING', epoch = r.epoch + 1, attempts = r.attempts + 1, owner = slot->>0, last_owner = slot->>0,
    attachment = slot->>1, lease_until = clock_timestamp() + $4, started_at = coalesce(r.started_at, clock_timestamp())
from matched
where r.id = matched.id
returning r.id, r.epoch, r.owner, r.attachment, r.session_id
"""
"""The next queued run gets an owner and a new epoch.

$1 maps `endpoint|version`, $2 maps an endpoint to `[instance, attachment]`.
"""

SNAPSHOT = """
select r.session_id, r.tenant_id, r.principal_id, r.template_version_id, r.commit_no, r.step_no, r.counters, r.context,
       greatest(r.lease_until - clock_timestamp(), interval '0') as lease_left,
       clock_timestamp() - r.accepted_at as elapsed,
       (select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                'role', m.role, 'tool_calls', m.tool_calls, 'tool_call_id', m.tool_call_id, 'name', m.name))
                || jsonb_build_object('content', m.content) order by m.id), '[]')
        from session_messages m where m.session_id = r.session_id) as transcript,
       (select coalesce(jsonb_agg(jsonb_build_object(
                'step_no', t.step_no, 'call_idx', t.call_idx, 'call_id', t.call_id, 'tool_name', t.tool_name,
                'tool_version_id', t.tool_version_id, 'effect_class', t.effect_class, 'state', t.state,
                'arguments', t.arguments) order by t.step_no, t.call_idx), '[]')
        from tool_executions t where t.run_id = r.id and t.state <> 'done') as open_calls
from runs r where r.id = $1 and r.epoch = $2 and r.state = 'RUNNING'
"""
"""What an instance needs to work on a claimed run."""

COMMIT = f"""
with fence as (
    update runs set
        commit_no = $3, step_no = greatest(step_no, $4), counters = $5, attempts = 0,
        last_seq = last_seq + jsonb_array_length($9::jsonb), transcript_bytes = transcript_bytes + $7,
        state = $10,
        owner = case when $10 = 'RUNNING' then owner end,
        attachment = case when $10 = 'RUNNING' then attachment end,
        lease_until = case when $10 = 'RUNNING' then clock_timestamp() + $11::interval end,
        waiting_for = $12, waiting_until = clock_timestamp() + $13::interval,
        ended_at = case when $10 in ('COMPLETED', 'FAILED') then now() end,
        failure = $14::jsonb
    where id = $1 and epoch = $2 and commit_no = $3 - 1 and state = 'RUNNING'
    returning id, session_id, turn_id, epoch, last_seq - jsonb_array_length($9::jsonb) as base_seq, last_seq
), said as ({_MESSAGES.format(session="session_id", run="id", step="$4", source="fence", messages="$6")}
), called as (
    insert into tool_executions (run_id, step_no, call_idx, call_id, tool_name, tool_version_id, effect_class,
        arguments, state, epoch, done_epoch, tries, result, error_code, artifact_id, started_at, done_at)
    select fence.id, c.step_no, c.call_idx, c.call_id, c.tool_name, c.tool_version_id, c.effect_class, c.arguments,
           c.state, $2, case when c.state = 'done' then $2 end, case when c.state = 'started' then 1 else 0 end,
           c.result, c.error_code, c.artifact_id,
           case when c.state <> 'planned' then clock_timestamp() end,
           case when c.state = 'done' then clock_timestamp() end
    from fence, jsonb_to_recordset($8::jsonb) as c(step_no int, call_idx int, call_id text, tool_name text,
        tool_version_id text, effect_class text, arguments jsonb, state text, result text, error_code text,
        artifact_id text)
    on conflict (run_id, step_no, call_idx) do update set
        state = excluded.state, done_epoch = excluded.done_epoch, result = excluded.result,
        error_code = excluded.error_code, artifact_id = excluded.artifact_id,
        tries = tool_executions.tries + excluded.tries,
        started_at = coalesce(tool_executions.started_at, excluded.started_at), done_at = excluded.done_at
    where tool_executions.state <> 'done'
), made as (
    insert into artifacts (id, session_id, run_id, name, media_type, content)
    select a.id, fence.session_id, fence.id, a.name, a.media_type, a.content
    from fence, unnest($15::text[], $16::text[], $17::text[], $18::bytea[]) as a(id, name, media_type, content)
), used as (
    update turns t set prompt_tokens = t.prompt_tokens + $19, completion_tokens = t.completion_tokens + $20,
                       cached_tokens = t.cached_tokens + $21
    from fence where t.id = fence.turn_id
    returning t.prompt_tokens, t.completion_tokens, t.cached_tokens
), noted as (
    insert into run_events (run_id, seq, epoch, type, payload)
    select fence.id, fence.base_seq + e.place, fence.epoch, e.value->>'type',
           case when (e.value->>'ends')::boolean then e.value->'payload' || jsonb_build_object('usage',
               (select jsonb_build_object('prompt_tokens', prompt_tokens, 'completion_tokens', completion_tokens,
                                          'cached_tokens', cached_tokens) from used))
           else e.value->'payload' end
    from fence, jsonb_array_elements($9::jsonb) with ordinality as e(value, place)
)
select fence.base_seq, fence.last_seq, used.prompt_tokens, used.completion_tokens, used.cached_tokens
from fence, used
"""
"""T1 to T4. No row: a duplicate, or fenced; `WHERE_IT_STANDS` tells which."""

WHERE_IT_STANDS = "select epoch, commit_no, last_seq from runs where id = $1"

RENEW = """
update runs r set lease_until = clock_timestamp() + $4
from unnest($1::text[], $2::bigint[], $3::text[]) as held(id, epoch, attachment)
where r.id = held.id and r.epoch = held.epoch and r.attachment = held.attachment and r.state = 'RUNNING'
returning r.id, r.epoch
"""
"""Heartbeats of many instances, stored at once."""

REATTACH = """
update runs set attachment = $4, lease_until = clock_timestamp() + $5
where id = $1 and epoch = $2 and owner = $3 and state = 'RUNNING'
returning commit_no
"""
"""The instance came back on another stream, even after its lease ran out, if nobody claimed the run."""

LOCK_RUN = "select 1 from runs where id = $1 for update"

RELEASE = """
with released as (
    update runs r set
        state = case when r.attempts - $6 >= $4 then 'DEAD' else 'QUEUED' end, attempts = r.attempts - $6,
        epoch = r.epoch + 1, owner = null, attachment = null, lease_until = null, last_seq = r.last_seq + 1,
        ended_at = case when r.attempts - $6 >= $4 then now() end,
        failure = case when r.attempts - $6 >= $4 then $5::jsonb end
    where r.id = $1 and r.epoch = $2 and r.attachment = $3 and r.state = 'RUNNING'
      and not exists (select 1 from tool_executions t where t.run_id = r.id and t.state = 'started')
    returning r.id, r.epoch, r.last_seq, r.state, r.failure
), noted as (
    insert into run_events (run_id, seq, epoch, type, payload)
    select id, last_seq, epoch, case state when 'DEAD' then 'RunDead' else 'RunRequeued' end,
           coalesce(failure, jsonb_build_object('reason', case $6 when 1 then 'untaken' else 'link_lost' end))
    from released
)
select id, epoch, last_seq, state, failure from released
"""
"""The stream ended and nobody came back, or the run was never taken ($6 = 1: it does not count as an attempt).

A run with a started call waits for its lease.
"""

SWEEP_LEASES = """
with lost as (
    select id, exists (select 1 from tool_executions t where t.run_id = runs.id and t.state = 'started') as holds_call
    from runs where state = 'RUNNING' and lease_until < clock_timestamp()
    order by lease_until limit 100
    for update skip locked
), swept as (
    update runs r set
        state = case when lost.holds_call then 'FAILED' when r.attempts >= $1 then 'DEAD' else 'QUEUED' end,
        epoch = r.epoch + 1, owner = null, attachment = null, lease_until = null, last_seq = r.last_seq + 1,
        ended_at = case when lost.holds_call or r.attempts >= $1 then now() end,
        failure = case when lost.holds_call then $2::jsonb when r.attempts >= $1 then $3::jsonb end
    from lost where r.id = lost.id
    returning r.id, r.epoch, r.last_seq, r.state, r.failure
), noted as (
    insert into run_events (run_id, seq, epoch, type, payload)
    select id, last_seq, epoch,
           case state when 'FAILED' then 'RunFailed' when 'DEAD' then 'RunDead' else 'RunRequeued' end,
           coalesce(failure, jsonb_build_object('reason', 'lease_lost')) from swept
)
select id, epoch, last_seq, state, failure from swept
"""
"""Leases that ran out: back to the queue, or ended with a reason."""

SWEEP_DEADLINES = """
with late as (
    select id from runs
    where (state = 'QUEUED' and started_at is null and deadline < clock_timestamp())
       or (state = 'WAITING' and waiting_until < clock_timestamp())
    limit 100
    for update skip locked
), expired as (
    update runs r set state = 'EXPIRED', epoch = r.epoch + 1, waiting_for = null, waiting_until = null,
                      ended_at = now(), last_seq = r.last_seq + 1, failure = $1::jsonb
    from late where r.id = late.id
    returning r.id, r.epoch, r.last_seq, r.state, r.failure
), noted as (
    insert into run_events (run_id, seq, epoch, type, payload)
    select id, last_seq, epoch, 'RunExpired', failure from expired
)
select id, epoch, last_seq, state, failure from expired
"""
"""Queued past the turn's deadline, or waited for nobody."""

CLOSE_SESSION = """
with closed as (
    update sessions set closed_at = coalesce(closed_at, now())
    where id = $1 and tenant_id = $2 and principal_id = $3
    returning id
), cancelled as (
    update runs r set state = 'CANCELLED', epoch = r.epoch + 1, owner = null, attachment = null, lease_until = null,
                      waiting_for = null, waiting_until = null, ended_at = now(), last_seq = r.last_seq + 1,
                      failure = $4::jsonb
    from closed where r.session_id = closed.id and r.state in ('QUEUED', 'RUNNING', 'WAITING')
    returning r.id, r.epoch, r.last_seq, r.state, r.failure
), noted as (
    insert into run_events (run_id, seq, epoch, type, payload)
    select id, last_seq, epoch, 'RunCancelled', failure from cancelled
)
select closed.id as session_id, cancelled.* from closed left join cancelled on true
"""
"""Close a session and cancel its active run; the old owner's commits fail from here on."""

CANCEL_RUN = """
with cancelled as (
    update runs r set state = 'CANCELLED', epoch = r.epoch + 1, owner = null, attachment = null, lease_until = null,
                      waiting_for = null, waiting_until = null, ended_at = now(), last_seq = r.last_seq + 1,
                      failure = $3::jsonb
    where r.session_id = $1 and r.tenant_id = $2 and r.state in ('QUEUED', 'RUNNING', 'WAITING')
    returning r.id, r.epoch, r.last_seq, r.state, r.failure
), noted as (
    insert into run_events (run_id, seq, epoch, type, payload)
    select id, last_seq, epoch, 'RunCancelled', failure from cancelled
), audited as (
    insert into audit_log (tenant_id, principal_id, key_id, request_id, action, target, after)
    select $2, $4, $5, $6, 'session.cancelled', 'session:' || $1, jsonb_build_object('run_id', id) from cancelled
)
select id, epoch, last_seq, state, failure from cancelled
"""
"""An administrator ends a session's active run; the session stays open."""

IS_THERE = "select 1 from sessions where id = $1 and tenant_id = $2"

EVENTS_AFTER = """
select epoch, seq, type, payload from run_events where run_id = $1 and seq > $2 order by seq limit 500
"""

DELIVERED = "update turns set delivered_at = now() where id = $1"
"""The last byte of the turn's response was written."""

LAST_SEQS = "select id, last_seq from runs where id = any($1::text[])"
"""How far runs have come: what a reader that heard nothing asks once a second."""
