# about: ports that cannot work are left as they were found, however often they are tried: no program, no bounce of their links
# models: igb virtio vmxnet3 e1000e
# kernels: 6.1 6.12 new
# limit: 600
# One queue, which can be held.
CHANNELS=1
lay
# left CHECK SECONDS WORDS: what is refused for a reason with these words touches nothing for so long.
left() {
    local check=$1 seconds=$2 words=$3 end before tries
    before=$(carriers)
    end=$((SECONDS + seconds))
    while ((SECONDS < end)); do
        [[ ! $(touched w0a; touched w0b) ]] || { result "$check" failed "on the ports: $(touched w0a), $(touched w0b)"; return; }
        sleep 0.2
    done
    said=$(active 1)
    tries=$(bounced "$before" | tr '\n' ' ')
    if [[ $tries || $said != *"$words"* ]]; then result "$check" failed "links gone: ${tries:-none}; $said"
    else result "$check" refused "$said"; fi
}
say 'zero-copy that the driver does not have'
start --path shard --bind zerocopy --frame-size 4096
publish 0 0
if said=$(active 10); then result 'zero-copy' ok "$(ports | grep -E ' (w0a|mon0) ' | tr -s ' \n' ' ')"
else left 'zero-copy' 15 'zero-copy'; fi
stop
told
afresh
say 'queues that another program has'
# Another dataplane, whose wire of veths is mirrored to both ports of the wire.
mkdir -p /run/other
for i in x y; do
    ip link add ${i}0 type veth peer name ${i}1
    ip link set ${i}0 up
    ip link set ${i}1 up
done
index() { cat /sys/class/net/$1/ifindex; }
cat >/tmp/other.json <<END
{"version":3,"generation":1,"fib_generation":1,"generated_at":"2026-01-01T00:00:00Z","interfaces":[],
 "mirror_configs":[{"ingress_ifindex":$(index x0),"output_ifindex":$A,"rate":0},{"ingress_ifindex":$(index y0),"output_ifindex":$B,"rate":0}],
 "wires":[{"name":"other","a_ifindex":$(index x0),"b_ifindex":$(index y0)}]}
END
spanwired --dir /run/other >>/tmp/other.log 2>&1 &
other=$!
said=$(spanctl --dir /run/other import /tmp/other.json 2>&1) || result 'another program' failed "$said"
for i in {1..100}; do
    (($(grep -c 'attached, transmit only' /tmp/other.log) < 2)) || break
    sleep 0.1
done
GENERATION=0
start --path shard
publish 0 0
# So long that a port that failed has been tried again many times.
left 'queues of another' 20 'another socket holds this queue'
tail -n 4 /tmp/other.log | sed 's/^/other| /'
kill $other
wait $other
if said=$(active); then traffic 'queues that are free again' --no-monitor --shortest 64
else result 'queues that are free again' failed "$said"; fi
stop
told
