# about: shard path in zero-copy with frames that hold an MTU: exact both ways, clones exact
# models: igb
# kernels: new
# limit: 240
# short: yes
# One queue keeps the order, one shard has one sampler.
CHANNELS=1 SAMPLERS=1
lay
start --path shard --bind zerocopy --frame-size 4096
publish 10 0
if said=$(active); then result attach ok "$(ports | grep -E ' (w0a|mon0) ' | tr -s ' \n' ' ')"
else result attach failed "$said"; fi
[[ $(ports | grep -E ' (w0a|w0b) ' | grep -c ' yes ') == 2 ]] || result zero-copy failed "a port of the wire is not in zero-copy"
traffic 'frames and clones' --mirror-a 10 --mirror-b 0
ledger ledger --delivered
stop
told
