# Restores the dump RESTORE_FILE, or the newest one, from BACKUP_FOLDER into the database of DATABASE_URL, in one transaction: if
# that fails, the database is unchanged. Refuses a database that is not empty, unless RESTORE_OVERWRITE is "true".
set -eu

fail() {
  echo "$*" >&2
  exit 1
}
ask() { psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --command="$1" "$DATABASE_URL"; }

dump=$BACKUP_FOLDER/${RESTORE_FILE:-$(cd "$BACKUP_FOLDER" && ls | grep '^holdfast-[0-9]\{8\}T[0-9]\{6\}Z\.dump$' | sort | tail -n 1)}
[ -f "$dump" ] || fail "not found: $BACKUP_FOLDER/${RESTORE_FILE:-holdfast-*.dump}; the folder contains: $(cd "$BACKUP_FOLDER" && ls | tr '\n' ' ')"
pg_restore --file=/dev/null "$dump" || fail "$dump is damaged; nothing was changed"

end=$(($(date +%s) + RESTORE_WAIT_SECONDS))
until pg_isready --quiet --dbname="$DATABASE_URL"; do
  [ "$(date +%s)" -lt "$end" ] || fail "PostgreSQL does not answer"
  sleep 1
done
# Orders that the API accepts from here on would be lost. The operator may stay connected: it stores its sales again if they are missing.
while
  sessions=$(ask "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'holdfast'")
  [ "$sessions" != 0 ]
do
  [ "$(date +%s)" -lt "$end" ] || fail "the API or workers are still connected ($sessions sessions): stop them. Nothing was changed."
  sleep 1
done

relations=$(ask "
  SELECT count(*) FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')")
[ "$relations" = 0 ] || [ "$RESTORE_OVERWRITE" = true ] ||
  fail "the database is not empty ($relations tables, views and sequences); nothing was changed. To replace its contents, set backup.restore.overwrite=true"

begun=$(date +%s)
broken=$(mktemp -u)
{
  echo 'BEGIN;'
  echo "SET LOCAL lock_timeout = '60s';"
  [ "$relations" = 0 ] || cat "${0%/*}/clear.sql"
  # pg_dump 17 sets a parameter that older servers do not know.
  if { pg_restore --no-owner --no-privileges --file=- "$dump" || touch "$broken"; } | sed '1,60{/^SET transaction_timeout = 0;$/d;}' && [ ! -e "$broken" ]; then
    echo 'COMMIT;'
  fi
} | psql --no-psqlrc --quiet --output=/dev/null --set=ON_ERROR_STOP=1 "$DATABASE_URL"
[ ! -e "$broken" ] || fail "$dump could not be read; nothing was changed"
echo "restored: ${dump##*/} in $(($(date +%s) - begun)) s"
ask ANALYZE
ask "SELECT 'products: ' || count(*) FROM products UNION ALL SELECT 'orders: ' || count(*) FROM orders"
