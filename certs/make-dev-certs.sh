#!/usr/bin/env bash
# Makes a certificate authority for development and a server certificate signed by it, in the folder
# given (default: this one). For machines of one's own only: the authority's key lies beside it.
#
#   certs/make-dev-certs.sh [DIR] [NAME…]     names and addresses besides localhost, 127.0.0.1, ::1
set -euo pipefail
umask 077

if ! command -v openssl >/dev/null 2>&1; then
  echo "openssl is missing: sudo apt-get install openssl" >&2
  exit 3
fi

dir=${1:-$(dirname "$0")}
[ $# -gt 0 ] && shift
mkdir -p "$dir"
cd "$dir"

for file in ca.key ca.crt server.key server.crt; do
  if [ -e "$file" ]; then
    echo "$dir/$file is already there; remove it first if you want another" >&2
    exit 1
  fi
done

names=DNS:localhost,IP:127.0.0.1,IP:::1
for name in "$@"; do
  case $name in
    *:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) names+=,IP:$name ;;
    *) names+=,DNS:$name ;;
  esac
done

request=$(mktemp)
extensions=$(mktemp)
trap 'rm -f "$request" "$extensions"' EXIT

openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -sha256 -days 365 -subj '/CN=rowarden development CA' \
  -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign,cRLSign' \
  -out ca.crt

openssl ecparam -name prime256v1 -genkey -noout -out server.key
openssl req -new -key server.key -subj '/CN=localhost' -out "$request"
printf '%s\n' "subjectAltName=$names" 'basicConstraints=critical,CA:FALSE' \
  'keyUsage=critical,digitalSignature' 'extendedKeyUsage=serverAuth' >"$extensions"
openssl x509 -req -in "$request" -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days 90 \
  -extfile "$extensions" -out server.crt 2>/dev/null
rm -f ca.srl
chmod 644 ca.crt server.crt

openssl verify -CAfile ca.crt server.crt
