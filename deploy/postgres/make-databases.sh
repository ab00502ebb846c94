#!/bin/sh
# Both databases and their owner, when the server is new. The owner is no superuser, for whom row-level security does
# not hold; it may make the readers' roles of `sync-pipeline grant`, but not before Postgres 16, where that could do more.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\set password `cat "$DATABASE_PASSWORD_FILE"`
SELECT CASE WHEN :SERVER_VERSION_NUM >= 160000 THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END AS readers \gset
CREATE ROLE sync_pipeline LOGIN :readers PASSWORD :'password';
CREATE DATABASE warehouse OWNER sync_pipeline;
CREATE DATABASE dagster OWNER sync_pipeline;
-- Readers of a tenant are let into the warehouse by `grant`, and into nothing else.
REVOKE ALL ON DATABASE warehouse, dagster FROM PUBLIC;
SQL
