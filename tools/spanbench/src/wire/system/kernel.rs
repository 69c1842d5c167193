//! Forwarders inside the kernel. They run where the tester sends.

use std::os::fd::{AsFd, BorrowedFd};

use libbpf_rs::{MapCore, MapFlags, TC_EGRESS, TC_INGRESS, TcHookBuilder};
use rustix::io::Errno;
use spanwire::kernel::link::{Link, Point};
use spanwire::kernel::xdp::{XdpLink, XdpMode};
use spanwire_lab::netns::Namespace;
use spanwire_lab::topology::{Lab, Port};

use super::process::Process;
use super::{Mode, Running};
use crate::wire::bpf::{DEVMAP, Loaded, TC};
use crate::wire::error::{Result, WireError};

/// Something attached, which `H` takes off again when dropped.
struct InKernel<H> {
    note: String,
    _hold: H,
}

impl<H> Running for InKernel<H> {
    fn note(&self) -> String {
        self.note.clone()
    }

    fn process(&mut self) -> Option<&mut Process> {
        None
    }
}

/// XDP redirect from the first port; to mirror, broadcast to the second and the monitor.
pub(super) fn devmap(lab: &Lab, mode: Mode, xdp_mode: XdpMode) -> Result<Box<dyn Running>> {
    let (wire, monitor) = (lab.wire(0)?, lab.monitor(0)?);
    let loaded = Loaded::load(DEVMAP, |_| Ok(()))?;
    let (program, ports) = (loaded.program(mode.as_str())?, loaded.map("ports")?);
    let targets = match mode {
        Mode::Forward => vec![wire.b.ifindex],
        Mode::Mirror => vec![wire.b.ifindex, monitor.ifindex],
    };
    let link = lab.dut().enter(|| -> Result<XdpLink> {
        for (key, ifindex) in (0u32..).zip(targets) {
            let set = ports.update(&key.to_ne_bytes(), &ifindex.to_ne_bytes(), MapFlags::ANY);
            set.map_err(WireError::bpf("filling the devmap"))?;
        }
        Ok(XdpLink::attach(program.as_fd(), wire.a.ifindex, xdp_mode)?)
    })??;
    let note = format!("{xdp_mode} XDP {}", if mode == Mode::Mirror { "broadcast" } else { "redirect" });
    Ok(Box::new(InKernel { note, _hold: link }))
}

/// What holds the program of the tc peer.
enum AtTc {
    /// As spanwire's selectors are held, so that the place is the same.
    Tcx(Link),
    /// Where the kernel has no links at tc.
    Clsact(Clsact),
}

impl Drop for AtTc {
    fn drop(&mut self) {
        match self {
            // A failure means that the port is gone, and the program with it.
            AtTc::Tcx(link) => drop(link.detach()),
            AtTc::Clsact(Clsact { namespace, port }) => {
                if let Ok(ns) = Namespace::attach(namespace) {
                    // Likewise.
                    let _ = ns.exec("tc", &["qdisc", "del", "dev", port, "clsact"]);
                }
            }
        }
    }
}

/// The clsact qdisc of a port, and what hangs on it.
struct Clsact {
    namespace: String,
    port: String,
}

/// At tc of the first port's ingress: redirect, after clone_redirect where it mirrors. At the second's: redirect back.
pub(super) fn tc(lab: &Lab, mode: Mode) -> Result<Box<dyn Running>> {
    let (wire, monitor) = (lab.wire(0)?, lab.monitor(0)?);
    let there = redirect(lab, &wire.a, [&wire.b, monitor], mode)?;
    let back = redirect(lab, &wire.b, [&wire.a, monitor], Mode::Forward)?;
    let at = if matches!(there, AtTc::Tcx(_)) { "tcx" } else { "cls_bpf" };
    let what = if mode == Mode::Mirror { "clone_redirect, redirect" } else { "redirect" };
    Ok(Box::new(InKernel { note: format!("{at} {what}"), _hold: (there, back) }))
}

/// Redirects what a port receives to the first of `to`, and mirrors it to the second.
fn redirect(lab: &Lab, port: &Port, to: [&Port; 2], mode: Mode) -> Result<AtTc> {
    let loaded = Loaded::load(TC, |open| {
        for mut map in open.maps_mut() {
            if map.name().to_string_lossy().ends_with(".rodata") {
                map.set_initial_value(&to.map(|port| port.ifindex.to_ne_bytes()).concat())?;
            }
        }
        Ok(())
    })?;
    let program = loaded.program(mode.as_str())?;
    lab.dut().enter(|| at_tc(lab, program.as_fd(), port))?
}

fn at_tc(lab: &Lab, program: BorrowedFd<'_>, port: &Port) -> Result<AtTc> {
    match Link::create(program, port.ifindex, Point::TcxIngress { revision: 0 }) {
        Ok(link) => return Ok(AtTc::Tcx(link)),
        // Before Linux 6.6.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
        Err(error) => return Err(WireError::io(format!("attaching the tc program to {}", port.name))(error)),
    }
    let ifindex = i32::try_from(port.ifindex).unwrap_or_default();
    let hold = AtTc::Clsact(Clsact { namespace: lab.dut().name().to_owned(), port: port.name.clone() });
    let attach = || {
        let mut builder = TcHookBuilder::new(program);
        let builder = builder.ifindex(ifindex).replace(true).handle(1).priority(1);
        builder.hook(TC_INGRESS | TC_EGRESS).create()?;
        builder.hook(TC_INGRESS).attach().map(drop)
    };
    attach().map_err(WireError::bpf("attaching the tc program"))?;
    Ok(hold)
}

/// The bridge between the ports.
struct Bridge {
    namespace: String,
}

const BRIDGE: &str = "br0";

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Ok(ns) = Namespace::attach(&self.namespace) {
            // A failure means that it is gone already.
            let _ = ns.ip(&["link", "del", BRIDGE]);
        }
    }
}

/// A bridge that floods: to the wire's other port, and to the monitor where it mirrors.
pub(super) fn bridge(lab: &Lab, mode: Mode) -> Result<Box<dyn Running>> {
    let hold = Bridge { namespace: lab.dut().name().to_owned() };
    lab.bridge(0)?;
    if mode == Mode::Mirror {
        let monitor = lab.monitor(0)?;
        lab.dut().ip(&["link", "set", &monitor.name, "master", BRIDGE])?;
        lab.dut().ip(&["link", "set", &monitor.name, "type", "bridge_slave", "learning", "off", "flood", "on"])?;
    }
    let note = if mode == Mode::Mirror { "flooding to two ports" } else { "flooding to one port" };
    Ok(Box::new(InKernel { note: note.to_owned(), _hold: hold }))
}
