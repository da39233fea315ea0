#!/bin/sh
# Starts the two nodes of examples/two-nodes in the background, and returns once they are ready.
# scripts/stop-distributed.sh stops them.
#
#   PELAGO     the program; target/release/pelago unless set
#   RUN        the folder for data, logs and process ids; .pelago/two-nodes unless set
#   HTTP_PORT, HTTP_PORT_2, MESH_PORT, MESH_PORT_2    other ports than those in the files
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
program=${PELAGO:-$here/target/release/pelago}
run=${RUN:-.pelago/two-nodes}
http=${HTTP_PORT:-8080} http_2=${HTTP_PORT_2:-8081} mesh=${MESH_PORT:-9001} mesh_2=${MESH_PORT_2:-9002}

if [ ! -x "$program" ]; then
    echo "there is no program $program: run 'cargo build --release', or set PELAGO" >&2
    exit 2
fi
mkdir -p "$run"

# start NAME HTTP-PORT MESH-PORT [MORE FLAGS]
start() {
    name=$1 port=$2 listen=$3
    shift 3
    if [ -f "$run/$name.pid" ] && kill -0 "$(cat "$run/$name.pid")" 2>/dev/null; then
        echo "$name runs already: scripts/stop-distributed.sh stops it" >&2
        exit 1
    fi
    # A port that is set for programs of all sorts is no setting of a node's.
    env -u PELAGO "$program" serve --config "$here/examples/two-nodes/$name.toml" --data-dir "$run/$name" \
        --port "$port" --mesh-addr "127.0.0.1:$listen" "$@" >"$run/$name.log" 2>&1 &
    echo $! >"$run/$name.pid"
}

# ready NAME HTTP-PORT
ready() {
    tries=0
    # Another mesh may have the port: it is this node that answers, if it is there.
    until "$program" --url "http://127.0.0.1:$2" -o json status 2>/dev/null |
        grep '"quorum":true' | grep -q "\"node\":\"hal9-$1\"" && kill -0 "$(cat "$run/$1.pid")" 2>/dev/null; do
        tries=$((tries + 1))
        if [ $tries -ge 150 ] || ! kill -0 "$(cat "$run/$1.pid")" 2>/dev/null; then
            echo "$1 did not start; its log:" >&2
            tail -n 20 "$run/$1.log" >&2
            exit 1
        fi
        sleep 0.2
    done
    echo "$1 answers at http://127.0.0.1:$2"
}

start strategic "$http" "$mesh"
ready strategic "$http"
start workers "$http_2" "$mesh_2" --join "127.0.0.1:$mesh"
ready workers "$http_2"
