# Functions that `upgrade` and `rollback` share. They are called in this folder, where compose.yaml is.

say() {
  printf '%s: %s\n' "$program" "$*"
}

warn() {
  say "$*" >&2
}

fail() {
  warn "$*"
  exit 1
}

compose() {
  docker compose "$@" </dev/null
}

# Run a program of Postgres as its superuser; unlike `compose`, it can read standard input.
as_superuser() {
  # shellcheck disable=SC2016
  docker compose exec -T postgres sh -c 'PGPASSWORD=$(cat /run/secrets/superuser_password) "$@" -U postgres' sh "$@"
}

sync_pipeline() {
  compose run --rm -T cli "$@"
}

# Whether a file holds a complete dump: its list of contents is at its end.
is_dump() {
  [ -s "$1" ] && as_superuser pg_restore --list <"$1" >/dev/null
}

# All services but Postgres, those of profiles included.
services() {
  compose --profile '*' config --services | grep -vx postgres
}

# Those of them that run: the ones of a profile are to run again afterwards.
running_services() {
  declared=$(services)
  compose ps --services | while read -r service; do
    if printf '%s\n' "$declared" | grep -qxF "$service"; then
      printf '%s\n' "$service"
    fi
  done
}

# The container of a service, also one that has stopped.
container_of() {
  compose ps --all --quiet "$1" | head -n 1
}

health_of() {
  container=$(container_of "$1")
  [ -z "$container" ] || docker inspect --format '{{if .State.Health}}{{.State.Health.Status}}{{end}}' "$container"
}

# Wait until these services are healthy, each for at most HEALTH_TIMEOUT seconds.
wait_until_healthy() {
  for service in "$@"; do
    waited=0
    until [ "$(health_of "$service")" = healthy ]; do
      if [ "$waited" -ge "${HEALTH_TIMEOUT:-600}" ]; then
        warn "$service is not healthy after $waited s; its last lines:"
        compose logs --tail 20 "$service" >&2 || true
        return 1
      fi
      sleep 2
      waited=$((waited + 2))
    done
  done
}
