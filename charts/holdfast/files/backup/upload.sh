# Copies the dump in BACKUP_FOLDER to BACKUP_TARGET with rclone, which compares checksums, and removes older dumps there.
set -eu

name=$(cd "$BACKUP_FOLDER" && ls holdfast-*.dump | sort | tail -n 1)
rclone copyto "$BACKUP_FOLDER/$name" "$BACKUP_TARGET$name"
echo "copied: $BACKUP_TARGET$name"

rclone lsf --files-only --include 'holdfast-????????T??????Z.dump' "$BACKUP_TARGET" | grep -vFx "$name" | sort -r | tail -n "+$BACKUP_KEEP" |
  while read -r old; do
    rclone deletefile "$BACKUP_TARGET$old"
    echo "removed: $old"
  done
