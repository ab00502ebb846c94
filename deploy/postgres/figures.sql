-- One line per table: its name, its number of rows, and the latest day in each column of type date. The lines of a
-- database and of its restored copy are equal if nothing is missing.
SELECT format(
    'SELECT %L, count(*)%s FROM %I.%I',
    n.nspname || '.' || c.relname,
    (
        SELECT coalesce(string_agg(format(', %L, max(%I)', a.attname, a.attname), '' ORDER BY a.attnum), '')
        FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'date'::regtype
    ),
    n.nspname,
    c.relname
)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
\gexec
