#!/bin/sh
# Makes the secrets of docker-compose.yml, one file each, in deploy/secrets/; keeps those that are there.
# To replace one: delete its file, run this again, and `docker compose up -d`. The password of PostgreSQL and the keys of
# the bucket are stored by those servers too: see "Secrets" in docs/operate/deploy.md.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
# the folder keeps others of this machine out; the files are read by the containers' user ids
chmod 700 secrets
cd secrets

make() {
    [ -s "$1" ] && return
    cat >"$1.new"
    chmod 444 "$1.new"
    mv -f "$1.new" "$1"
    echo "made deploy/secrets/$1"
}

random() {
    od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'
}

random 24 | make postgres_password
random 10 | make s3_access_key
random 24 | make s3_secret_key
random 24 | make web_token
random 16 | make grafana_password
# under which users become pseudonyms; give the apps the same (TAILRACE_USER_KEY_FILE), or none
random 32 | make user_key
printf 'postgres:host=postgres port=5432 dbname=lake user=tailrace password=%s' "$(cat postgres_password)" | make lake_catalog
# where alerts are sent: URLs and tables as in docs/reference/alert-channels.md; the list is JSON
printf '[]' | make alert_channels
