-- What only the database can tell: each change of ownership, settlement and outcome, with what held at that moment
-- under the row's lock. Times are how long the host has been up: the database's clock may jump. Triggers run as their
-- owner: statements that clients ask for run as a role that may not enter this schema.
CREATE SCHEMA chaos;

CREATE FUNCTION chaos.up() RETURNS float8 LANGUAGE sql VOLATILE AS $$
  SELECT split_part(pg_read_file('/proc/uptime', 0, 64), ' ', 1)::float8 $$;

CREATE TABLE chaos.owners (
  n bigserial, lane_id uuid, epoch bigint, old_owner uuid, new_owner uuid, old_lives boolean, event_head bigint);
-- Whoever takes lanes ends the lease of their owner with the same statement: whether it held is looked at before.
CREATE TABLE chaos.ended (replica_id uuid);
CREATE TABLE chaos.settlings (submission_id uuid, again boolean);
CREATE TABLE chaos.rewrites (call_id text, what text);
CREATE TABLE chaos.calls (call_id text PRIMARY KEY, made float8, ended float8);

-- How far the platform's clock is ahead of how long the host has been up, in seconds: replicas that vouch for the time
-- write what they have counted. One whose write comes late tells too little, and the clock never goes back, so that the
-- most that was told is so. The database's own clock tells nothing between a jump and the next look at it.
CREATE TABLE chaos.clock (ahead float8 NOT NULL);
INSERT INTO chaos.clock SELECT extract(epoch FROM seen)::float8 - chaos.up() FROM public.clock;
CREATE FUNCTION chaos.vouched() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  UPDATE chaos.clock SET ahead = greatest(ahead, extract(epoch FROM NEW.seen)::float8 - chaos.up());
  RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER UPDATE ON clock FOR EACH ROW EXECUTE FUNCTION chaos.vouched();

-- Leases are written and compared on the platform's clock, on which replicas agree to within a second; an owner stops
-- three seconds before its lease ends, so two seconds between clocks break nothing.
CREATE FUNCTION chaos.holds(uuid) RETURNS boolean LANGUAGE sql VOLATILE AS $$
  SELECT EXISTS (SELECT 1 FROM public.replicas, chaos.clock WHERE replica_id = $1
    AND expires > to_timestamp(ahead + chaos.up()) + interval '2 seconds') $$;

-- A lease that is ended by who has the lock of its replica is that of a process which is dead.
CREATE FUNCTION chaos.replica() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  IF chaos.holds(OLD.replica_id) AND NOT EXISTS (SELECT 1 FROM public.replicas r WHERE r.replica_id <> OLD.replica_id
      AND r.host = OLD.host AND r.lock = OLD.lock AND chaos.holds(r.replica_id)) THEN
    INSERT INTO chaos.ended VALUES (OLD.replica_id);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER chaos_ended BEFORE UPDATE ON replicas FOR EACH ROW
  WHEN (NEW.expires = 'epoch' AND OLD.expires <> 'epoch') EXECUTE FUNCTION chaos.replica();

CREATE FUNCTION chaos.lane() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO chaos.owners (lane_id, epoch, new_owner, old_lives, event_head)
      VALUES (NEW.lane_id, NEW.epoch, NEW.owner, false, 0);
  ELSE
    INSERT INTO chaos.owners (lane_id, epoch, old_owner, new_owner, old_lives, event_head)
      VALUES (NEW.lane_id, NEW.epoch, OLD.owner, NEW.owner,
        chaos.holds(OLD.owner) OR EXISTS (SELECT 1 FROM chaos.ended WHERE replica_id = OLD.owner),
        OLD.event_head);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_new AFTER INSERT ON lanes FOR EACH ROW EXECUTE FUNCTION chaos.lane();
CREATE TRIGGER chaos_old AFTER UPDATE ON lanes FOR EACH ROW
  WHEN (OLD.owner IS DISTINCT FROM NEW.owner OR OLD.epoch <> NEW.epoch) EXECUTE FUNCTION chaos.lane();

CREATE FUNCTION chaos.settled() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  INSERT INTO chaos.settlings VALUES (NEW.submission_id, OLD.status = 2);
  RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER UPDATE ON submissions FOR EACH ROW
  WHEN (NEW.status = 2 AND (OLD.status <> 2 OR OLD.outcome <> NEW.outcome
    OR OLD.settled_at IS DISTINCT FROM NEW.settled_at) OR OLD.status = 2 AND NEW.status <> 2)
  EXECUTE FUNCTION chaos.settled();

CREATE FUNCTION chaos.called() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO chaos.calls VALUES (NEW.call_id, chaos.up());
    RETURN NULL;
  END IF;
  IF OLD.state >= 2 THEN
    INSERT INTO chaos.rewrites VALUES (NEW.call_id, 'state ' || OLD.state || ' became ' || NEW.state);
  ELSIF NEW.state >= 2 THEN
    UPDATE chaos.calls SET ended = chaos.up() WHERE call_id = NEW.call_id;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_new AFTER INSERT ON tool_calls FOR EACH ROW EXECUTE FUNCTION chaos.called();
CREATE TRIGGER chaos_old AFTER UPDATE ON tool_calls FOR EACH ROW WHEN (NEW.state <> OLD.state)
  EXECUTE FUNCTION chaos.called();

CREATE TABLE chaos.approvals (n bigserial, approval_id uuid, state smallint, at float8);
CREATE FUNCTION chaos.decided() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  INSERT INTO chaos.approvals (approval_id, state, at) VALUES (NEW.approval_id, NEW.state, chaos.up());
  RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER UPDATE ON approvals FOR EACH ROW
  WHEN (OLD.state <> NEW.state OR OLD.decided_at IS DISTINCT FROM NEW.decided_at) EXECUTE FUNCTION chaos.decided();

-- Writes to these tables fail while their names are in chaos.refused, as on a disk that is full.
CREATE TABLE chaos.refused (name text PRIMARY KEY);
CREATE FUNCTION chaos.refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  IF EXISTS (SELECT 1 FROM chaos.refused WHERE name = TG_TABLE_NAME) THEN
    RAISE EXCEPTION 'chaos refuses to write to %', TG_TABLE_NAME USING ERRCODE = 'disk_full';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER chaos BEFORE INSERT OR UPDATE OR DELETE ON executors
  FOR EACH STATEMENT EXECUTE FUNCTION chaos.refuse();
CREATE TRIGGER chaos BEFORE INSERT OR UPDATE OR DELETE ON replicas
  FOR EACH STATEMENT EXECUTE FUNCTION chaos.refuse();
CREATE TRIGGER chaos BEFORE INSERT OR UPDATE OR DELETE ON wakes
  FOR EACH STATEMENT EXECUTE FUNCTION chaos.refuse();

-- What was made undecodable, with what it was, and the submissions that may have met it. place is 'input', 'usage' of
-- a submission, or 'entry', whose seq is seq.
CREATE TABLE chaos.spoilt (place text, id uuid, seq bigint, lane_id uuid, was bytea);
CREATE TABLE chaos.victims (submission_id uuid);

-- What one look spoils: a row of a submission that has not settled, or of a conversation that is at work.
CREATE FUNCTION chaos.spoil(what text, OUT said text, OUT owner text) LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE s record; e record; bad CONSTANT bytea := 'chaos'; BEGIN
  SELECT * INTO s FROM public.submissions WHERE status < 2 AND (what <> 'input' OR input IS NOT NULL)
    AND (what <> 'entry' OR status = 1 AND entry_head > 0) ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN; END IF;
  CASE what
  WHEN 'input' THEN
    INSERT INTO chaos.spoilt (place, id, lane_id, was) VALUES (what, s.submission_id, s.lane_id, s.input);
    UPDATE public.submissions SET input = bad WHERE submission_id = s.submission_id;
  WHEN 'usage' THEN
    INSERT INTO chaos.spoilt (place, id, lane_id, was)
      VALUES (what, s.submission_id, s.lane_id, convert_to(s.usage::text, 'UTF8'));
    UPDATE public.submissions SET usage = '"chaos"' WHERE submission_id = s.submission_id;
  ELSE
    SELECT * INTO e FROM public.entries WHERE session_id = s.session_id ORDER BY seq DESC LIMIT 1;
    INSERT INTO chaos.spoilt (place, id, seq, lane_id, was) VALUES (what, e.session_id, e.seq, s.lane_id, e.body);
    UPDATE public.entries SET body = bad WHERE session_id = e.session_id AND seq = e.seq;
  END CASE;
  INSERT INTO chaos.victims SELECT root_id FROM public.submissions WHERE lane_id = s.lane_id AND status < 2;
  said := what || ' of ' || s.submission_id;
  SELECT addr INTO owner FROM public.replicas r JOIN public.lanes l ON l.owner = r.replica_id
    WHERE l.lane_id = s.lane_id;
END $$;

-- Entries are as they were, and with everything what is of a submission alone, where nobody has written anything else
-- meanwhile.
CREATE FUNCTION chaos.mend(everything boolean) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  INSERT INTO chaos.victims SELECT DISTINCT b.root_id FROM chaos.spoilt x JOIN public.submissions b USING (lane_id)
    WHERE b.seq >= (SELECT min(seq) FROM public.submissions f JOIN chaos.victims v USING (submission_id)
      WHERE f.lane_id = b.lane_id) OR b.parent_call IS NOT NULL AND b.status < 2;
  UPDATE public.submissions s SET input = x.was FROM chaos.spoilt x
    WHERE everything AND x.place = 'input' AND x.id = s.submission_id AND s.input = 'chaos'::bytea;
  UPDATE public.submissions s SET usage = convert_from(x.was, 'UTF8')::jsonb FROM chaos.spoilt x
    WHERE everything AND x.place = 'usage' AND x.id = s.submission_id AND s.usage = '"chaos"';
  UPDATE public.entries e SET body = x.was FROM chaos.spoilt x
    WHERE x.place = 'entry' AND x.id = e.session_id AND x.seq = e.seq AND e.body = 'chaos'::bytea;
  DELETE FROM chaos.spoilt WHERE place = 'entry' OR everything;
END $$;
