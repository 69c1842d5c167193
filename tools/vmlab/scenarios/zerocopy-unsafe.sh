# about: shard path in zero-copy as it is not safe: frames that do not hold an MTU, generic XDP
# models: igb
# kernels: new
# limit: 400
# One queue keeps the order, one shard has one sampler.
CHANNELS=1 SAMPLERS=1
lay
say 'frames of 2048 bytes'
start --path shard --bind zerocopy --frame-size 2048
publish 0 0
# Refusing to is as good as doing it right.
if said=$(active); then traffic '2048: frames and clones' --mirror-a 0 --mirror-b 0
else result '2048: frames and clones' refused "$said"; fi
stop
told
afresh
say 'generic XDP'
start --path shard --bind zerocopy --xdp-mode generic --frame-size 4096
publish 0 0
if said=$(active); then traffic 'generic: frames and clones' --mirror-a 0 --mirror-b 0
else result 'generic: frames and clones' refused "$said"; fi
stop
told
