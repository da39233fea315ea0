#!/usr/bin/env bash
# Starts a signal over the line of sight, and prints what became of it: signal.sh HOST:PORT AGENT WORD
set -euo pipefail
LC_ALL=C
exec 3<>"/dev/tcp/${1%:*}/${1##*:}"

# The length in four bytes, the highest first, and the JSON.
say() {
    local n=${#1}
    printf "$(printf '\\x%02x' $((n >> 24 & 255)) $((n >> 16 & 255)) $((n >> 8 & 255)) $((n & 255)))%s" "$1" >&3
}

hear() {
    local bytes
    read -ra bytes < <(head -c 4 <&3 | od -An -tu1)
    head -c $((bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3])) <&3
    echo
}

say '{"type": "Hello", "name": "signal.sh", "version": 1}'
hear
say "{\"type\": \"Signal\", \"to\": \"$2\", \"content\": \"$3\"}"
hear
