# about: restarts, kills and snapshots with frames crossing in the kernel: none lost, and no link comes up again
# models: igb virtio
# kernels: 6.1 new
# limit: 600
lay
afresh
start --path auto
publish 0 0
said=$(active) || { result auto failed "$said"; finish; }
result auto ok "link up $(bounces) times; $(ports | grep -E ' (w0a|mon0) ' | tr -s ' \n' ' ')"
restart() { stop; start --path auto; }
killed() { local i; for i in 1 2 3; do kill -9 $DAEMON; wait $DAEMON 2>/dev/null; start --path auto; sleep 2; done; }
# Every other one changes rates.
snapshots() { local i; for ((i = 0; i < 50; i++)); do publish $((i % 2 * 10)) 0; done; }
# unseen CHECK SECONDS COMMAND
unseen() {
    local check=$1 seconds=$2 ups
    shift 2
    dmesg -c >>/tmp/dmesg.before
    during "$seconds" "$@"
    said=$(active) || SAID="$said; $SAID"
    ups=$(bounces)
    SAID="lost $LOST; link up $ups times; $SAID"
    if [[ $EXIT == 0 && $ups == 0 && ! $said ]]; then result "$check" ok "$SAID"; else result "$check" failed "$SAID"; fi
    told
}
unseen 'restart' 9 restart
unseen 'killed three times' 18 killed
unseen '50 snapshots' 30 snapshots
publish 0 0
traffic 'afterwards' --mirror-a 0 --mirror-b 0 --shortest 64
ledger ledger
stop
told
