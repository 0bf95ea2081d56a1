# Copies the dump RESTORE_FILE, or the newest one, from BACKUP_TARGET to BACKUP_FOLDER with rclone.
set -eu

name=${RESTORE_FILE:-$(rclone lsf --files-only --include 'holdfast-????????T??????Z.dump' "$BACKUP_TARGET" | sort | tail -n 1)}
[ -n "$name" ] || { echo "$BACKUP_TARGET contains no dumps" >&2; exit 1; }
rclone copyto "$BACKUP_TARGET$name" "$BACKUP_FOLDER/$name"
echo "copied: $BACKUP_TARGET$name"
