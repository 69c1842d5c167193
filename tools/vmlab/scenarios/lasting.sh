# about: a wire in the kernel comes up with one bounce of each link at most, and with none over restarts, kills, upgrades and snapshots
# models: igb virtio vmxnet3 e1000e
# kernels: 6.1 6.12 new
# limit: 900
lay
afresh
before=$(carriers)
start --path auto
publish 0 0
said=$(active) || { result auto failed "$said"; ports; told; finish; }
often=$(bounced "$before")
if grep -qvE ':1$|^$' <<<"$often" || grep -q mon0 <<<"$often"; then result 'first start' failed "links gone: $often"
else result 'first start' ok "links gone: ${often:-none}; $(ports | grep -E ' (w0a|mon0) ' | tr -s ' \n' ' ')"; fi
told
restart() { stop; start --path auto; }
killed() { local i; for i in 1 2 3; do kill -9 $DAEMON; wait $DAEMON 2>/dev/null; start --path auto; sleep 2; done; }
# Another file, with the same in it.
upgrade() {
    cp /bin/spanwired /tmp/spanwired.new
    stop
    /tmp/spanwired.new --path auto >>/tmp/spanwired.log 2>&1 &
    DAEMON=$!
}
# Every other one changes rates.
snapshots() { local i; for ((i = 0; i < 50; i++)); do publish $((i % 2 * 10)) 0; done; }
# unseen CHECK SECONDS COMMAND
unseen() {
    local check=$1 seconds=$2 before often
    shift 2
    dmesg -c >>/tmp/dmesg.before
    before=$(carriers)
    during "$seconds" "$@"
    said=$(active) || SAID="$said; $SAID"
    often=$(bounced "$before" | tr '\n' ' ')
    SAID="lost $LOST; links gone: ${often:-none}; $SAID"
    if [[ $EXIT == 0 && ! $often && $(bounces) == 0 && ! $said ]]; then result "$check" ok "$SAID"; else result "$check" failed "$SAID"; fi
    told
}
unseen 'stopped and started' 9 restart
unseen 'killed three times' 18 killed
unseen 'upgraded' 9 upgrade
# For longer than they take here.
start=$SECONDS
publish 0 0
publish 10 0
unseen '50 snapshots' $((20 + 40 * (SECONDS - start + 1))) snapshots
publish 0 0
traffic 'afterwards' --mirror-a 0 --mirror-b 0 --shortest 64
ledger ledger
stop
told
