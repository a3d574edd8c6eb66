#!/bin/bash
# At the first start: the database of Headway with a user of its own, who may make others beside it (for the restore drill),
# and one who may read the log of changes.
set -euo pipefail
headway=$(cat /run/secrets/headway_password)
archive=$(cat /run/secrets/replication_password)
[ -n "$headway" ] && [ -n "$archive" ] || { echo "a password is empty: run make-secrets" >&2; exit 1; }
psql --set ON_ERROR_STOP=1 --username postgres --set headway="$headway" --set archive="$archive" <<'SQL'
CREATE ROLE headway LOGIN CREATEDB PASSWORD :'headway';
CREATE ROLE archive LOGIN REPLICATION PASSWORD :'archive';
CREATE DATABASE headway OWNER headway;
REVOKE ALL ON DATABASE headway FROM PUBLIC;
SQL
echo "host replication archive all scram-sha-256" >> "$PGDATA/pg_hba.conf"
