#!/bin/sh
# Gives this node the role that keepalived's VRRP instance has: MASTER mirrors, everything else stands by.
#
#   vrrp_notify_fifo_script "/usr/local/libexec/spanwire/notify.sh"
#
# keepalived starts it once, with the name of the FIFO as its last argument, and writes a line for each change:
#
#   INSTANCE "NAME" MASTER|BACKUP|FAULT|STOP PRIORITY
#
# One process takes them in the order in which they came; scripts started for one change each could overtake one
# another. Where the lines end, keepalived has ended or died, and the other node takes over: stand by.
#
# SPANWIRE_DIR is the directory of spanwired where it is not /run/spanwire.

set -u
for fifo; do :; done

role() {
    # Without a dataplane the role is kept for the next one. A shard that is late is no reason to forget a change.
    spanctl role "$1" || echo "spanwire notify: spanctl role $1: exit status $?" >&2
}

trap 'role standby; exit 0' TERM INT HUP

while read -r kind name state _; do
    [ "$kind" = INSTANCE ] || continue
    echo "spanwire notify: VRRP instance $name is $state"
    case $state in
        MASTER) role active ;;
        *) role standby ;;
    esac
done <"$fifo"
role standby
