#!/bin/sh
# Puts the session server into an Azure Container Apps environment, and the configs into its Redis.
# Again and again: what is there already is kept or brought up to date.
set -eu

usage()
{
	cat <<'END'
deploy.sh [--dry-run] RESOURCE_GROUP ENVIRONMENT IMAGE

  RESOURCE_GROUP, ENVIRONMENT   made when they are missing
  IMAGE                         of the session server, in a registry the environment may pull from

From the environment:
  AUTH_TOKEN   the server's token; `openssl rand -hex 32` makes one
  REDIS_URL    rediss://:KEY@NAME.redis.cache.windows.net:6380
  LOCATION     default eastus
  APP          default carrel-session
  PREFIX       of the keys in Redis; default carrel

--dry-run says what it would do and does nothing. Neither the token nor the Redis URL is printed.
It needs az (logged in) and carrel.
END
}

fail()
{
	printf 'deploy: %s\n' "$*" >&2
	exit 1
}

# Runs a command that has no secret in it, or says it.
run()
{
	printf '+ %s\n' "$*"
	if [ "$dry" = no ]; then
		"$@"
	fi
}

# Whether something is there; in a dry run nothing is.
there()
{
	[ "$dry" = no ] && "$@" >/dev/null 2>&1
}

# The manifest with ${NAME} filled in from the environment, secrets too. They stand in quotes there, so
# a value may not hold what would end them.
fill()
{
	python3 -c '
import os, re, sys
def value(match):
    found = os.environ[match.group(1)]
    if not re.fullmatch(r"[!#-\[\]-~]*", found):
        sys.exit("deploy: a character in %s that cannot stand in the manifest" % match.group(1))
    return found
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        if not line.startswith("#"):
            sys.stdout.write(re.sub(r"\$\{(\w+)\}", value, line))
' "$1"
}

# bootstrap KIND [--clear]: skills that agents made stay where they are.
bootstrap()
{
	printf '+ carrel store bootstrap --source %s --target (REDIS_URL) --prefix %s --type %s %s\n' \
		"$configs/$1" "$PREFIX:$1" "$1" "${2-}"
	if [ "$dry" = no ]; then
		carrel store bootstrap --source "$configs/$1" --target "$REDIS_URL" \
			--prefix "$PREFIX:$1" --type "$@" >/dev/null
	fi
}

dry=no
case ${1-} in
--dry-run)
	dry=yes
	shift
	;;
-h | --help)
	usage
	exit 0
	;;
esac
if [ $# != 3 ]; then
	usage >&2
	exit 2
fi
group=$1
environment=$2
IMAGE=$3
: "${LOCATION:=eastus}" "${APP:=carrel-session}" "${PREFIX:=carrel}"
[ -n "${AUTH_TOKEN-}" ] || fail "AUTH_TOKEN is not set: without a token the server does not start"
[ -n "${REDIS_URL-}" ] || fail "REDIS_URL is not set: replicas share skills and artifacts in Redis"
export IMAGE LOCATION APP PREFIX AUTH_TOKEN REDIS_URL
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
configs=$(dirname -- "$here")/configs
if [ "$dry" = no ]; then
	command -v az >/dev/null || fail "there is no az"
	command -v carrel >/dev/null || fail "there is no carrel"
fi

run az group create --name "$group" --location "$LOCATION" --output none
if ! there az containerapp env show --name "$environment" --resource-group "$group"; then
	run az containerapp env create --name "$environment" --resource-group "$group" \
		--location "$LOCATION" --output none
fi
ENVIRONMENT_ID=/the/id/of/the/environment
if [ "$dry" = no ]; then
	ENVIRONMENT_ID=$(az containerapp env show --name "$environment" --resource-group "$group" \
		--query id --output tsv)
fi
export ENVIRONMENT_ID

bootstrap tools --clear
bootstrap skills

umask 077
manifest=$(mktemp)
trap 'rm -f "$manifest"' EXIT
fill "$here/container-app.yaml" >"$manifest"
action=create
if there az containerapp show --name "$APP" --resource-group "$group"; then
	action=update
fi
run az containerapp "$action" --name "$APP" --resource-group "$group" --yaml "$manifest" --output none
if [ "$dry" = no ]; then
	az containerapp show --name "$APP" --resource-group "$group" \
		--query properties.configuration.ingress.fqdn --output tsv
fi
