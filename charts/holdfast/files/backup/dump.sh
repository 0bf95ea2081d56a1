# Dumps the database of DATABASE_URL into BACKUP_FOLDER. A dump gets its name when it is complete. Arguments are passed to pg_dump.
set -eu
umask 027

name=holdfast-$(date -u +%Y%m%dT%H%M%SZ).dump
partial=$BACKUP_FOLDER/.$name.partial
trap 'rm -f "$partial"' EXIT
# Left over by pods that were killed.
find "$BACKUP_FOLDER" -maxdepth 1 -name '.holdfast-*.partial' -mmin +1440 -delete

# Network policies may take some time to apply to a new pod.
end=$(($(date +%s) + 60))
until pg_isready --quiet --dbname="$DATABASE_URL" || [ "$(date +%s)" -ge "$end" ]; do sleep 1; done

begun=$(date +%s)
pg_dump --format=custom --lock-wait-timeout=60s --file="$partial" "$@" --dbname="$DATABASE_URL"
# Check that the whole dump can be read.
pg_restore --file=/dev/null "$partial"
sync "$partial"
mv "$partial" "$BACKUP_FOLDER/$name"
echo "dumped: $name, $(wc -c <"$BACKUP_FOLDER/$name") bytes in $(($(date +%s) - begun)) s"

[ -n "${BACKUP_KEEP:-}" ] || exit 0
find "$BACKUP_FOLDER" -maxdepth 1 -name 'holdfast-????????T??????Z.dump' ! -name "$name" | sort -r | tail -n "+$BACKUP_KEEP" |
  while read -r old; do
    rm "$old"
    echo "removed: ${old##*/}"
  done
