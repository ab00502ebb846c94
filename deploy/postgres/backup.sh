#!/bin/sh
# Backups of both databases, each restored as a test before it counts.
#
#   backup.sh schedule   make a backup every day at BACKUP_TIME, and at once if the latest one is older than that
#   backup.sh once       make one now; exit 1 if it fails
#   backup.sh health     exit 1 if the last backup failed or is overdue
#
# A backup is a folder in BACKUPS with dagster.dump, warehouse.dump and roles.sql, the roles of readers. It gets its final
# name, the time in UTC, only after both dumps were restored into scratch databases and had the same figures as the
# originals at that moment. The BACKUP_KEEP latest are kept. A backup whose restore failed stays as failed-TIME until one
# succeeds.
#
# PGHOST and PGUSER (a superuser) name the server, SUPERUSER_PASSWORD_FILE its password. The major version of the
# client programs must be the server's.
set -eu
umask 077

BACKUPS=${BACKUPS:-/backups}
BACKUP_TIME=${BACKUP_TIME:-03:30}
BACKUP_KEEP=${BACKUP_KEEP:-14}
RETRY_S=3600
OVERDUE_S=7200
here=$(cd "$(dirname "$0")" && pwd)
# In this order: a day that Dagster does not know of is at worst synced again, a day that it shows and that the
# warehouse does not have is missed by nobody.
DATABASES="dagster warehouse"

log() { # LEVEL MESSAGE: one line of JSON, as the other services write
  message=$(printf '%s' "$2" | tr '[:cntrl:]' ' ' | sed 's/\\/\\\\/g; s/"/\\"/g')
  printf '{"time": "%s", "level": "%s", "logger": "backup", "message": "%s"}\n' \
    "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" "$message" >&2
}

fail() { # MESSAGE
  log error "$1"
  printf '%s\n' "$1" >"$BACKUPS/.failure" || true
  exit 1
}

refuse() { # MESSAGE
  log error "$1"
  exit 2
}

# The names of the complete backups, oldest first.
complete() { ls "$BACKUPS" | grep -E '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}Z$' | sort; }

# The moment at which the latest complete backup began, in seconds since 1970; 0 if there is none.
latest() {
  name=$(complete | tail -n 1)
  [ -n "$name" ] || { echo 0; return; }
  date -u -d "$(echo "$name" | sed 's/T/ /; s/-\([0-9][0-9]\)-\([0-9][0-9]\)Z$/:\1:\2/')" +%s
}

# The latest moment at which a backup was to begin.
scheduled() {
  today=$(date -d "$(date +%Y-%m-%d) $BACKUP_TIME" +%s)
  if [ "$today" -le "$(date +%s)" ]; then echo "$today"; else echo $((today - 86400)); fi
}

figures() { # DATABASE FILE
  psql -XAtqw -v ON_ERROR_STOP=1 -d "$1" -f "$here/figures.sql" -o "$2"
}

# The dump and the figures are of the same moment, while runs go on.
dump() { # DATABASE
  export database=$1
  psql -XAtqw -v ON_ERROR_STOP=1 -d "$1" -v here="$here" -v figures="$work/$1.figures" >/dev/null <<'SQL'
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot() AS snapshot \gset
\setenv snapshot :snapshot
\! pg_dump --no-password --format=custom --snapshot="$snapshot" --file="$work/$database.dump" "$database" && touch "$work/$database.done"
\set file :here /figures.sql
\o :figures
\i :file
COMMIT;
SQL
  [ -e "$work/$1.done" ] || { echo "pg_dump failed"; return 1; }
  [ -s "$work/$1.figures" ] || { echo "$1 has no tables"; return 1; }
  rm "$work/$1.done"
}

# Roles are the server's and in no dump. The superuser and the owner are there before a restore.
roles() { # FILE
  pg_dumpall --no-password --roles-only >"$1.all"
  grep -vE "^(CREATE|ALTER) ROLE ($PGUSER|sync_pipeline)[ ;]" "$1.all" >"$1"
  rm "$1.all"
}

restore_test() { # DATABASE
  scratch=$1_restore_test
  drop "$scratch"
  psql -Xqw -v ON_ERROR_STOP=1 -d postgres -c "CREATE DATABASE $scratch TEMPLATE template0"
  # Readers of a tenant may connect to the warehouse, and to no copy of it.
  psql -Xqw -v ON_ERROR_STOP=1 -d postgres -c "REVOKE ALL ON DATABASE $scratch FROM PUBLIC"
  PGOPTIONS="-c synchronous_commit=off" pg_restore --no-password --exit-on-error --dbname="$scratch" "$work/$1.dump"
  figures "$scratch" "$work/$1.restored"
  if ! cmp -s "$work/$1.figures" "$work/$1.restored"; then
    echo "tables of the restored $1 differ from those of the original:"
    diff "$work/$1.figures" "$work/$1.restored" | grep '^[<>]' | head -n 10
    return 1
  fi
  drop "$scratch"
}

drop() { # DATABASE
  psql -Xqw -v ON_ERROR_STOP=1 -d postgres -c "SET client_min_messages = error" \
    -c "DROP DATABASE IF EXISTS $1 WITH (FORCE)"
}

once() {
  { [ -d "$BACKUPS" ] && [ -w "$BACKUPS" ]; } || refuse "$BACKUPS is not a folder that can be written to"
  exec 9>"$BACKUPS/.lock"
  flock -n 9 || refuse "another backup is in progress"
  PGPASSWORD=$(cat "$SUPERUSER_PASSWORD_FILE") || fail "the superuser's password cannot be read"
  export PGPASSWORD
  # What a backup that was killed has left behind.
  rm -rf "$BACKUPS"/.partial-*
  stamp=$(date -u +%Y-%m-%dT%H-%M-%SZ)
  export work="$BACKUPS/.partial-$stamp"
  mkdir "$work" || fail "no folder can be made in $BACKUPS"
  for name in $DATABASES; do
    said=$(sh -e "$0" step dump "$name" 2>&1) || { rm -rf "$work"; fail "no dump of $name: $said"; }
  done
  said=$(sh -e "$0" step roles "$work/roles.sql" 2>&1) || { rm -rf "$work"; fail "no dump of roles: $said"; }
  for name in $DATABASES; do
    said=$(sh -e "$0" step restore_test "$name" 2>&1) || {
      drop "${name}_restore_test" || true
      rm -rf "$BACKUPS"/failed-*
      mv "$work" "$BACKUPS/failed-$stamp"
      fail "the restore test of $name failed, its dump is in failed-$stamp: $said"
    }
  done
  size=$(du -sk "$work" | cut -f 1)
  tables=$(cat "$work"/*.figures | wc -l)
  rm "$work"/*.restored
  sync "$work"/*.dump
  mv "$work" "$BACKUPS/$stamp"
  rm -rf "$BACKUPS"/failed-* "$BACKUPS/.failure"
  complete | head -n "-$BACKUP_KEEP" | while read -r name; do rm -rf "${BACKUPS:?}/$name"; done
  log info "backup $stamp: $size kB, restored and compared in $tables tables"
}

schedule() {
  # `sleep` and the backup are children that are waited for, so that the container ends at once when it is told to.
  trap 'kill "$child" 2>/dev/null; exit 0' TERM INT
  log info "backups every day at $BACKUP_TIME ($(date +%Z)), the latest $BACKUP_KEEP are kept"
  while :; do
    pause=30
    if [ "$(latest)" -lt "$(scheduled)" ]; then
      "$0" once &
      child=$!
      wait "$child" || pause=$RETRY_S
    fi
    sleep "$pause" &
    child=$!
    wait "$child"
  done
}

health() {
  if [ -e "$BACKUPS/.failure" ]; then
    cat "$BACKUPS/.failure"
    exit 1
  fi
  due=$(scheduled)
  if [ "$(latest)" -lt "$due" ] && [ $(($(date +%s) - due)) -gt "$OVERDUE_S" ]; then
    echo "the backup of $(date -d "@$due" '+%Y-%m-%d %H:%M') is missing"
    exit 1
  fi
}

case $BACKUP_TIME in
  [01][0-9]:[0-5][0-9] | 2[0-3]:[0-5][0-9]) ;;
  *) refuse "BACKUP_TIME must be a time of day such as 03:30" ;;
esac
case $BACKUP_KEEP in
  '' | 0* | *[!0-9]*) refuse "BACKUP_KEEP must be the number of backups to keep, at least 1" ;;
esac
case ${1:-} in
  schedule | once | health) "$1" ;;
  # A step of `once`, in a shell of its own: sh ignores -e inside the condition that looks at its result.
  step) "$2" "$3" ;;
  *) refuse "usage: backup.sh schedule | once | health" ;;
esac
