#!/bin/bash
# At the first start: the database of Headway with a user of its own, who may make others beside it (for the restore drill),
# and one who may read the log of changes.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --username postgres \
    --set headway="$(cat /run/secrets/headway_password)" --set replication="$(cat /run/secrets/replication_password)" <<'SQL'
CREATE ROLE headway LOGIN CREATEDB PASSWORD :'headway';
CREATE ROLE archive LOGIN REPLICATION PASSWORD :'replication';
CREATE DATABASE headway OWNER headway;
REVOKE ALL ON DATABASE headway FROM PUBLIC;
SQL
echo "host replication archive all scram-sha-256" >> "$PGDATA/pg_hba.conf"
