#!/bin/sh
# Starts PostgreSQL; before its first start the database is made, with its owner and the scripts of a mounted folder.
set -eu
# initdb wants a name for its user, which one that a cluster has chosen does not have.
if ! getent passwd "$(id -u)" >/dev/null; then
  printf 'postgres:x:%s:%s::/tmp:/bin/sh\n' "$(id -u)" "$(id -g)" >/tmp/passwd
  wrapper=$(find /usr/lib -name libnss_wrapper.so | head -n 1)
  [ -z "$wrapper" ] || export LD_PRELOAD="$wrapper" NSS_WRAPPER_PASSWD=/tmp/passwd NSS_WRAPPER_GROUP=/etc/group
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # A start that was cut off leaves a folder that is not whole; only a whole one takes the name.
  rm -rf "$PGDATA.new"
  (umask 077; printf '%s' "$POSTGRES_PASSWORD" >/tmp/password)
  initdb -D "$PGDATA.new" -U "$POSTGRES_USER" --pwfile=/tmp/password -E UTF8 --locale=C.UTF-8 \
    --auth-local=trust --auth-host=scram-sha-256 >/dev/null
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$PGDATA.new/pg_hba.conf"
  pg_ctl -D "$PGDATA.new" -w -o "-c listen_addresses= -c unix_socket_directories=/tmp" start >/dev/null
  psql="psql -h /tmp -v ON_ERROR_STOP=1 -U $POSTGRES_USER"
  [ "$POSTGRES_DB" = postgres ] || $psql -d postgres -c "CREATE DATABASE \"$POSTGRES_DB\""
  for script in /docker-entrypoint-initdb.d/*.sql; do
    [ ! -f "$script" ] || $psql -d "$POSTGRES_DB" -f "$script"
  done
  pg_ctl -D "$PGDATA.new" -w stop >/dev/null
  mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp
