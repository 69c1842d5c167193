# about: the XDP program of another on a port: auto takes tc under it and xdp when it has gone, and the wire crosses all the while
# models: virtio
# kernels: new
# limit: 600
lay
afresh
another() { ip link set dev w0a xdpdrv obj /foreign.bpf.o program foreign_xdp; }
gone() { ip link set dev w0a xdpdrv off; }
# way CHECK PATH WORDS: until the wire crosses so, and the reason has these words.
way() {
    local check=$1 path=$2 words=$3 end=$((SECONDS + 30)) shown=''
    while ((SECONDS < end)); do
        shown=$(spanctl --json show | sed -nE 's/^ *"(path|path_reason)": "(.*)",?$/\2/p' | tr '\n' ' ')
        [[ $shown != "$path "*"$words"* ]] || break
        sleep 0.1
    done
    if ((SECONDS < end)); then result "$check" ok "$shown"; else result "$check" failed "$shown"; fi
}
said=$(another 2>&1) || { result 'another program' failed "$said"; finish; }
start --path auto
publish 10 0
said=$(active) || { result auto failed "$said"; ports; told; finish; }
way 'under another' tc 'w0a has the XDP program of another'
traffic 'under another: frames and clones' --mirror-a 10 --mirror-b 0 --shortest 64
ledger 'under another: ledger'
gone
way 'it has gone' xdp 'redirect frames'
publish 0 0
traffic 'it has gone: frames and clones' --mirror-a 0 --mirror-b 0 --shortest 64
ledger 'it has gone: ledger'
told
# What is asked of the wire is not asked of who has its place.
if said=$(another 2>&1); then result 'no other beside ours' failed "$said"; else result 'no other beside ours' ok "$said"; fi
way 'ours stays' xdp 'redirect frames'
stop
told
