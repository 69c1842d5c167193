//! What the kernel and devices are asked, and what is changed on devices for as long as they are ports: on real ones, each
//! test in its own network namespace. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::fd::AsFd;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use spanwire::devices::promiscuity;
use spanwire::kernel::features::{KernelFacts, PortFacts, XdpFeatures, xdp_features};
use spanwire::kernel::link::{Link, Point};
use spanwire::kernel::maps::Maps;
use spanwire::kernel::path::{Path, PathChoice, choose};
use spanwire::kernel::program::{Hook, Instance, Selector};
use spanwire::kernel::steer::{PortProgram, XdpModeChoice};
use spanwire::kernel::xdp::XdpMode;
use spanwire::xsk::netdev::Netdev;
use spanwire::xsk::promiscuous::Promiscuous;
use spanwire_lab::netns::Namespace;

const NO_DEVICE: u32 = 4_000_000;

/// A network namespace with the veth pair `va`-`vb` and the bridge `br`.
fn net() -> Namespace {
    assert!(rustix::process::geteuid().is_root(), "these tests make network namespaces: run them as root");
    let net = Namespace::create("swfeat").unwrap();
    net.ip(&["link", "add", "name", "va", "type", "veth", "peer", "name", "vb"]).unwrap();
    net.ip(&["link", "add", "name", "br", "type", "bridge"]).unwrap();
    net
}

fn device(name: &str) -> Netdev {
    Netdev::lookup(name).unwrap()
}

/// Leaves this thread these capabilities of those that matter.
fn keep(kept: CapabilitySet) {
    let mut sets = capabilities(None).unwrap();
    let lost = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN | CapabilitySet::PERFMON;
    sets.effective.remove(lost - kept);
    set_capabilities(None, sets).unwrap();
}

#[test]
fn a_driver_says_what_it_can() {
    let net = net();
    net.enter(|| {
        if xdp_features(device("va").ifindex()).unwrap().is_none() {
            eprintln!("before Linux 6.3 drivers do not say what they can: nothing to see");
            return;
        }
        let of = |name: &str| xdp_features(device(name).ifindex()).unwrap().expect("features");
        assert!(of("va").has(XdpFeatures::BASIC.and(XdpFeatures::REDIRECT)), "{:?}", of("va"));
        assert!(!of("va").has(XdpFeatures::NDO_XMIT), "nothing at the far end receives by NAPI");
        assert_eq!(of("br"), XdpFeatures::default());
        assert_eq!(xdp_features(NO_DEVICE).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        let program = PortProgram::attach(device("vb").ifindex(), XdpModeChoice::Native, 1, "veth").unwrap();
        assert_eq!(program.mode(), XdpMode::Native);
        assert!(of("va").has(XdpFeatures::NDO_XMIT.and(XdpFeatures::NDO_XMIT_SG)), "{:?}", of("va"));
        let facts = |name: &str| PortFacts::of(&device(name)).unwrap();
        assert_eq!([facts("va"), facts("vb"), facts("br")].map(|facts| facts.has_program), [false, true, false]);
        assert_eq!((facts("br").name.as_str(), facts("br").driver.as_str(), facts("br").mtu), ("br", "bridge", 1500));
    })
    .unwrap();
}

#[test]
fn the_path_of_a_wire_is_what_its_devices_can() {
    let net = net();
    net.enter(|| {
        let facts = |name: &str| PortFacts::of(&device(name)).unwrap();
        let kernel = KernelFacts::probe();
        assert_eq!(kernel.lacks, None);
        let of = |choice, a: &str, b: &str| choose(choice, &facts(a), &facts(b), &kernel);
        assert_eq!(of(PathChoice::Auto, "va", "br").unwrap().0, Path::Tc);
        let (path, reason) = of(PathChoice::Only(Path::Xdp), "va", "vb").unwrap();
        assert!(path == Path::Xdp && reason.contains("GRO"), "{reason}");
        match of(PathChoice::Only(Path::Xdp), "va", "br") {
            Err(error) => assert!(error.contains("br (bridge) has no XDP"), "{error}"),
            Ok(_) => assert_eq!(facts("br").xdp, None, "nobody knows"),
        }
    })
    .unwrap();
}

/// The probe and what is loaded in earnest agree, whatever rights a thread has.
#[test]
fn rights_that_are_missing_are_told() {
    let [bpf, net_admin, perfmon] = [CapabilitySet::BPF, CapabilitySet::NET_ADMIN, CapabilitySet::PERFMON];
    for (kept, needs) in [
        (bpf | net_admin | perfmon, None),
        (net_admin | perfmon, Some("needs CAP_BPF")),
        (bpf | perfmon, Some("needs CAP_NET_ADMIN")),
        (bpf | net_admin, Some("needs CAP_PERFMON")),
        (CapabilitySet::empty(), Some("needs CAP_BPF and CAP_NET_ADMIN and CAP_PERFMON")),
    ] {
        let worker = std::thread::spawn(move || {
            keep(kept);
            let facts = KernelFacts::probe();
            let loaded = Maps::create(1, 1 << 16).map_err(|error| error.to_string()).and_then(|maps| {
                let of = |hook| Instance { hook, port: 0, device: 0, peer: 1 };
                let load = |hook| Selector::load(of(hook), &maps).map(drop).map_err(|error| error.to_string());
                load(Hook::Xdp).and_then(|()| load(Hook::Tc))
            });
            (facts, loaded)
        });
        let (facts, loaded) = worker.join().unwrap();
        assert_eq!(loaded.is_ok(), needs.is_none(), "{kept:?}: {loaded:?}");
        match (needs, facts.lacks) {
            (None, None) => {}
            (Some(needs), Some(why)) => assert!(why.ends_with(needs), "{kept:?}: {why}"),
            (_, told) => panic!("{kept:?}: {told:?}"),
        }
    }
}

/// Asked at the kernel's place for links, too: they can be had exactly where the probe says so.
#[test]
fn tcx_is_there_where_links_can_be_made() {
    let net = net();
    net.enter(|| {
        let maps = Maps::create(1, 1 << 16).unwrap();
        let selector = Selector::load(Instance { hook: Hook::Tc, port: 0, device: 0, peer: 1 }, &maps).unwrap();
        let program = selector.program().unwrap();
        let made = Link::create(program.as_fd(), device("va").ifindex(), Point::TcxIngress { revision: 0 });
        assert_eq!(KernelFacts::probe().tcx, made.is_ok(), "{made:?}");
    })
    .unwrap();
}

#[test]
fn promiscuity_is_the_devices_own_and_outlives_whoever_set_it() {
    let net = net();
    let va = net.enter(|| device("va").ifindex()).unwrap();
    let flags = || String::from_utf8(net.ip(&["link", "show", "va"]).unwrap().stdout).unwrap();
    net.enter(|| {
        let member = Promiscuous::join(va).unwrap();
        assert!(!promiscuity::is_on(va).unwrap(), "a membership is not the flag");
        assert!(promiscuity::set(va, true).unwrap());
        drop(member);
    })
    .unwrap();
    assert!(flags().contains("PROMISC"), "{}", flags());
    net.enter(|| {
        assert!(promiscuity::is_on(va).unwrap());
        assert!(!promiscuity::set(va, true).unwrap(), "it was set");
        assert!(promiscuity::set(va, false).unwrap());
        assert!(!promiscuity::set(va, false).unwrap());
    })
    .unwrap();
    assert!(!flags().contains("PROMISC"), "{}", flags());
    net.ip(&["link", "set", "va", "promisc", "on", "up"]).unwrap();
    net.enter(|| {
        assert!(promiscuity::is_on(va).unwrap() && !promiscuity::set(va, true).unwrap());
        // No other flag is touched.
        assert!(promiscuity::set(va, false).unwrap());
        for bad in [0, NO_DEVICE, u32::MAX] {
            assert_eq!(promiscuity::set(bad, true).unwrap_err().raw_os_error(), Some(libc::ENODEV), "{bad}");
        }
        keep(CapabilitySet::empty());
        assert_eq!(promiscuity::set(va, true).unwrap_err().raw_os_error(), Some(libc::EPERM));
    })
    .unwrap();
    assert!(flags().contains(",UP") && !flags().contains("PROMISC"), "{}", flags());
}
