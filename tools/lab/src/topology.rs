//! The lab: four namespaces and the veth pairs between them, with the ifindexes the test fixtures name.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{LabError, Result};
pub use crate::layout::{LabInfo, LabSpec, NamespaceNames, Port, Role, Wire};
use crate::layout::{observed_spec, plan};
use crate::links::links;
use crate::netns::{self, Namespace};
use crate::traffic::{Capture, Sender};
use crate::wire_io::WireIo;

/// The prefix of every lab's id, and what `spanlab sweep` looks for.
pub const LAB_PREFIX: &str = "swlab";

/// How long the devices may take to report that they are up. linkwatch runs at most once a second.
const LINK_TIMEOUT: Duration = Duration::from_secs(60);

/// A laid lab. Dropping the handle that created it takes it down.
#[derive(Debug)]
pub struct Lab {
    info: LabInfo,
    r#gen: Namespace,
    dut: Namespace,
    sink: Namespace,
    mon: Namespace,
}

impl Lab {
    /// Lays a lab and returns once every device is up.
    pub fn create(spec: LabSpec) -> Result<Self> {
        spec.check()?;
        let id = netns::unique_name(LAB_PREFIX, spec.owner);
        let create = |role: Role| Namespace::create_named(&format!("{id}-{}", role.suffix()));
        let (r#gen, dut) = (create(Role::Gen)?, create(Role::Dut)?);
        let (sink, mon) = (create(Role::Sink)?, create(Role::Mon)?);
        let info = plan(&id, &spec);
        let lab = Self { info, r#gen, dut, sink, mon };
        for port in lab.ports() {
            lab.lay(port)?;
        }
        for role in Role::ALL {
            lab.wait_links_up(role)?;
        }
        Ok(lab)
    }

    /// Opens a lab that another process laid. Dropping this handle leaves it.
    ///
    /// Its devices are known by their names; their ifindexes are what they are: whoever lays a lab of devices that were
    /// there before cannot choose them.
    pub fn attach(id: &str) -> Result<Self> {
        let no_lab = |reason| LabError::NoLab { id: id.to_owned(), reason };
        let open = |role: Role| {
            Namespace::attach(&format!("{id}-{}", role.suffix())).map_err(|error| no_lab(error.to_string()))
        };
        let (r#gen, dut) = (open(Role::Gen)?, open(Role::Dut)?);
        let (sink, mon) = (open(Role::Sink)?, open(Role::Mon)?);
        let spec = observed_spec(&links(&dut)?).ok_or_else(|| no_lab("its first wire is gone".to_owned()))?;
        let mut lab = Self { info: plan(id, &spec), r#gen, dut, sink, mon };
        let there = Role::ALL.into_iter().map(|role| Ok((role, links(lab.ns(role))?))).collect::<Result<Vec<_>>>()?;
        let ifindex = |of: Role, name: &str| {
            let mut devices = there.iter().filter(|(role, _)| *role == of).flat_map(|(_, links)| links);
            let found = devices.find(|link| link.ifname == name);
            found.map(|link| link.ifindex).ok_or_else(|| no_lab(format!("its device {name} is gone")))
        };
        for port in lab.info.ports_mut() {
            port.ifindex = ifindex(Role::Dut, &port.name)?;
            port.host_ifindex = ifindex(port.host, &port.host_name)?;
        }
        Ok(lab)
    }

    /// Leaves the lab standing after this handle and this process are gone.
    pub fn detach(mut self) -> LabInfo {
        for ns in [&mut self.r#gen, &mut self.dut, &mut self.sink, &mut self.mon] {
            ns.detach();
        }
        self.info.clone()
    }

    /// Deletes the namespaces of lab `id`, as many as are there; none at all is an error.
    pub fn remove(id: &str) -> Result<()> {
        let standing = netns::names();
        let ours: Vec<String> = Role::ALL
            .map(|role| format!("{id}-{}", role.suffix()))
            .into_iter()
            .filter(|name| standing.contains(name))
            .collect();
        if ours.is_empty() || !id.starts_with(LAB_PREFIX) {
            return Err(LabError::NoLab { id: id.to_owned(), reason: "no such lab".to_owned() });
        }
        ours.iter().try_for_each(|name| netns::delete(name))
    }

    /// Names and ifindexes.
    pub fn info(&self) -> &LabInfo {
        &self.info
    }

    /// The lab's id.
    pub fn id(&self) -> &str {
        &self.info.lab
    }

    /// The namespace of a role.
    pub fn ns(&self, role: Role) -> &Namespace {
        match role {
            Role::Gen => &self.r#gen,
            Role::Dut => &self.dut,
            Role::Sink => &self.sink,
            Role::Mon => &self.mon,
        }
    }

    /// Where the device under test runs.
    pub fn dut(&self) -> &Namespace {
        &self.dut
    }

    /// Wire `index`.
    pub fn wire(&self, index: usize) -> Result<&Wire> {
        self.info.wires.get(index).ok_or_else(|| LabError::Spec(format!("the lab has no wire {index}")))
    }

    /// Monitor port `index`.
    pub fn monitor(&self, index: usize) -> Result<&Port> {
        self.info.monitors.get(index).ok_or_else(|| LabError::Spec(format!("the lab has no monitor {index}")))
    }

    /// A sender on the host end of `port`'s cable: what it sends enters the device under test there.
    pub fn sender(&self, port: &Port) -> Result<Sender> {
        Ok(Sender::new(self.open_host(port)?))
    }

    /// Starts capturing, on the host end of `port`'s cable, what the device under test sends out of `port`.
    pub fn capture(&self, port: &Port) -> Result<Capture> {
        Capture::start(self.open_host(port)?)
    }

    /// Replaces the device under test by a learning-free kernel bridge over wire `index`: a known-good forwarder
    /// that proves the lab, and an in-kernel baseline. Returns once both ports forward.
    pub fn bridge(&self, index: usize) -> Result<()> {
        let wire = self.wire(index)?;
        let bridge = format!("br{index}");
        // Where bridge netfilter is built in, it parses and may refuse IP frames that only pass through.
        for table in ["iptables", "ip6tables", "arptables"] {
            self.dut.sysctl(&format!("net/bridge/bridge-nf-call-{table}"), "0")?;
        }
        // VLAN filtering is off by default, and naming it is an error on a kernel built without it.
        self.dut.ip(&["link", "add", &bridge, "type", "bridge", "stp_state", "0", "mcast_snooping", "0"])?;
        self.dut.ip(&["link", "set", &bridge, "arp", "off", "up"])?;
        for port in [&wire.a, &wire.b] {
            self.dut.ip(&["link", "set", &port.name, "master", &bridge])?;
            // Flooding between two ports is exact; learning would only add state that ages.
            self.dut.ip(&["link", "set", &port.name, "type", "bridge_slave", "learning", "off", "flood", "on"])?;
        }
        wait_until("the bridge ports to forward", LINK_TIMEOUT, || {
            let forwarding = links(&self.dut)?
                .iter()
                .filter(|link| link.master.as_ref() == Some(&bridge) && link.forwards())
                .count();
            Ok(forwarding == 2)
        })
    }

    /// The host end of `port`'s cable.
    pub fn open_host(&self, port: &Port) -> Result<WireIo> {
        self.ns(port.host).enter(|| WireIo::open(port.host_ifindex))?
    }

    fn ports(&self) -> impl Iterator<Item = &Port> {
        self.info.wires.iter().flat_map(|wire| [&wire.a, &wire.b]).chain(&self.info.monitors)
    }

    /// One cable: the pair, its offloads, both ends up.
    fn lay(&self, port: &Port) -> Result<()> {
        let host = self.ns(port.host);
        let queues = if port.host == Role::Mon { self.info.monitor_queues } else { self.info.queues }.to_string();
        let mtu = self.info.mtu.to_string();
        let end = ["mtu", &mtu, "numrxqueues", &queues, "numtxqueues", &queues];
        let (index, host_index) = (port.ifindex.to_string(), port.host_ifindex.to_string());
        let near = ["link", "add", "name", &port.name, "index", &index];
        let far = ["type", "veth", "peer", "name", &port.host_name, "index", &host_index, "netns", host.name()];
        self.dut.ip(&[&near[..], &end[..], &far[..], &end[..]].concat())?;
        // Hosts must not hand over unfilled checksums or merged segments. Not every driver lets every feature be
        // changed; ethtool then still sets the others and says so in its status, which is no error here.
        // rxvlan and txvlan stay at their defaults: that is what a dataplane meets in the field.
        let off = ["-K", &port.host_name, "tx", "off", "rx", "off", "gso", "off", "tso", "off", "gro", "off"];
        match host.exec("ethtool", &off) {
            Err(LabError::Command { .. }) | Ok(_) => {}
            Err(error) => return Err(error),
        }
        // Without ARP (and IPv6, see Namespace) nothing but the lab ever sends on these cables.
        host.ip(&["link", "set", &port.host_name, "arp", "off", "up"])?;
        self.dut.ip(&["link", "set", &port.name, "arp", "off", "up"])?;
        Ok(())
    }

    /// Until linkwatch has seen the carrier a device keeps the noop queueing discipline, which drops every frame.
    fn wait_links_up(&self, role: Role) -> Result<()> {
        let ns = self.ns(role);
        wait_until(&format!("the links of {} to come up", ns.name()), LINK_TIMEOUT, || {
            Ok(links(ns)?.iter().all(|link| link.ifname == "lo" || link.is_up()))
        })
    }
}

/// Polls `condition` every few milliseconds until it is true; [`LabError::Timeout`] names `what` when it never is.
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    loop {
        if condition()? {
            return Ok(());
        }
        if start.elapsed() >= timeout {
            return Err(LabError::Timeout { what: what.to_owned(), after: timeout });
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_true_and_times_out_when_not() {
        let mut calls = 0;
        let counted = wait_until("three calls", Duration::from_secs(60), || {
            calls += 1;
            Ok(calls == 3)
        });
        assert!(counted.is_ok());
        let never = wait_until("never", Duration::from_millis(1), || Ok(false));
        assert!(matches!(never, Err(LabError::Timeout { what, .. }) if what == "never"));
    }
}
