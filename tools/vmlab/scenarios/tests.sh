# about: the end-to-end part of the ordinary tests, as far as the kernel has a part in it, on veth as ever
# models: veth
# kernels: 6.1 6.12 new
# limit: 2400
# tests: e2e
# What is of processes, sockets of producers and time is the same under every kernel, and takes long in an emulated machine.
MODULES='every_rate_mirrors a_vlan_entry two_shards_serve a_monitor_with_one_queue jumbo:: super_frames:: lifecycle:: foreign:: takeover::
 promiscuity:: offloads:: losses:: units:: no_ethernet:: refused:: survival:: link_loss::'
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
for conf in all default; do echo 1 >/proc/sys/net/ipv6/conf/$conf/disable_ipv6; done
export TMPDIR=/tmp RUST_BACKTRACE=0
# Those that begin with MODULE, some at once, as they wait most of the time.
module() {
    local module=$1 code=0 start=$SECONDS test passed
    timeout -k 5 400 e2e --test-threads 4 "$module" >/tmp/tests 2>&1 || code=$?
    passed=$(grep -cE '^test .* \.\.\. ok$' /tmp/tests)
    if ((code == 0 && passed > 0)); then result "$module" ok "$passed passed, $((SECONDS - start)) s"; return; fi
    result "$module" failed "exit $code after $((SECONDS - start)) s, $passed passed, failed: $(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p' /tmp/tests | tr '\n' ' ')"
    # What each said, by its first lines.
    grep -E '^thread .* panicked at' -A 6 /tmp/tests | cut -c1-300 | sed 's/^/event| /' | head -n 60
}
for module in $MODULES; do module "$module"; done
