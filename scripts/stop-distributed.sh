#!/bin/sh
# Stops the nodes that scripts/run-distributed.sh started, and waits until they are gone. RUN as there.
set -eu
run=${RUN:-.pelago/two-nodes}

for name in workers strategic; do
    file=$run/$name.pid
    [ -f "$file" ] || continue
    pid=$(cat "$file")
    # A file may be older than the process that has the number now.
    if command -v ps >/dev/null && ! ps -ww -p "$pid" -o args= | grep -qF -- "--data-dir $run/$name "; then
        rm "$file"
        echo "$name did not run"
        continue
    fi
    kill "$pid" 2>/dev/null || true
    tries=0
    while kill -0 "$pid" 2>/dev/null; do
        tries=$((tries + 1))
        if [ $tries -ge 300 ]; then
            echo "$name (process $pid) does not stop" >&2
            exit 1
        fi
        sleep 0.1
    done
    rm "$file"
    echo "$name has stopped"
done
