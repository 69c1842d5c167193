use super::super::sighting::Mac;
use super::*;

/// `11 eth1 a`: ifindex, name, last octet of the address in hexadecimal; `=alt` for an alternative name.
fn device(text: &str) -> Device {
    let mut words = text.split(' ');
    let (ifindex, name, mac) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    Device {
        ifindex: ifindex.parse().unwrap(),
        name: name.to_owned(),
        mac: Some([2, 0, 0, 0, 0, u8::from_str_radix(mac, 16).unwrap()]),
        altnames: words.map(|name| name.strip_prefix('=').unwrap().to_owned()).collect(),
        ..Device::default()
    }
}

/// A machine on which things happen to the devices.
#[derive(Default)]
struct Scene {
    given: Vec<(u32, &'static str)>,
    wanted: Vec<u32>,
    seen: bool,
    known: BTreeMap<u32, Known>,
    held: BTreeMap<u32, u32>,
}

impl Scene {
    fn of(wanted: &[u32], given: &[(u32, &'static str)]) -> Scene {
        Scene { given: given.to_vec(), wanted: wanted.to_vec(), ..Scene::default() }
    }

    /// Looks at these devices; the driver of all is `veth`. Gives the device of the first port, 0 for none, and what
    /// is told of it.
    fn look(&mut self, devices: &[&str]) -> (u32, String) {
        let places = self.places(devices);
        let place = &places[&self.wanted[0]];
        (place.device().unwrap_or(0), place.news().to_owned())
    }

    fn places(&mut self, devices: &[&str]) -> BTreeMap<u32, Place> {
        let all: Vec<Device> = devices.iter().map(|text| device(text)).collect();
        let held = |port: u32| self.held.get(&port).copied();
        let driver = |_| "veth".to_owned();
        let seen = self.seen;
        let given: Vec<_> = self.given.iter().map(|&(port, name)| DeviceName { port, name, seen }).collect();
        Devices::new(&all, &driver).locate(&self.wanted, &given, &mut self.known, held)
    }

    /// The device is unregistered, as the kernel tells.
    fn gone(&mut self, device: u32) {
        self.held.retain(|_, held| *held != device);
        bury(self.known.values_mut(), device);
    }
}

/// What the first port, 11, is after each of several looks, a spanwired started anew before each.
#[test]
fn a_port_is_the_device_of_its_name_or_the_one_found_first() {
    type Looks = &'static [(&'static [&'static str], u32)];
    let cases: &[(&str, &str, Looks)] = &[
        ("by name, under another ifindex", "eth1", &[(&["14 eth1 a"], 14)]),
        ("by name, and not by ifindex", "eth1", &[(&["11 eth9 b", "14 eth1 a"], 14)]),
        ("by an alternative name", "uplink", &[(&["11 eth9 b", "14 eth1 a =x =uplink"], 14)]),
        ("by a name before an alternative one", "uplink", &[(&["13 eth1 a =uplink", "14 uplink b"], 14)]),
        ("made again under another ifindex", "eth1", &[(&["11 eth1 a"], 11), (&[], 0), (&["15 eth1 b"], 15)]),
        ("its ifindex has passed on", "eth1", &[(&["11 eth1 a"], 11), (&["11 eth9 b"], 0), (&["11 eth9 b"], 0)]),
        ("named otherwise here", "ge-0-0-0", &[(&["11 w0a a"], 11), (&["11 w0a a"], 11)]),
        ("named otherwise, made again", "ge-0-0-0", &[(&["11 w0a a"], 11), (&[], 0), (&["11 w0a b"], 11)]),
        ("named otherwise, passed on", "ge-0-0-0", &[(&["11 w0a a"], 11), (&["11 eth9 b"], 0)]),
        ("named otherwise until it is there", "eth1", &[(&["11 w0a a"], 11), (&["11 w0a a", "14 eth1 b"], 14)]),
        ("never there", "eth1", &[(&[], 0), (&["11 eth1 a"], 11)]),
        ("renamed", "eth1", &[(&["11 eth1 a"], 11), (&["11 wan0 a"], 11), (&["11 lan0 a"], 11)]),
        ("renamed after it was followed", "eth1", &[(&["14 eth1 a"], 14), (&["14 wan0 a", "11 x b"], 14)]),
        ("renamed, and another has the name", "eth1", &[(&["11 eth1 a"], 11), (&["11 wan0 a", "12 eth1 b"], 12)]),
        ("no name, first seen", "", &[(&["11 eth1 a"], 11), (&["11 eth1 a"], 11)]),
        ("no name, made again", "", &[(&["11 eth1 a"], 11), (&[], 0), (&["11 eth1 b"], 11)]),
        ("no name, under another ifindex", "", &[(&["11 eth1 a"], 11), (&["14 eth1 a"], 0)]),
        ("no name, renamed", "", &[(&["11 eth1 a"], 11), (&["11 wan0 a"], 11)]),
        ("no name, another address", "", &[(&["11 eth1 a"], 11), (&["11 eth1 b"], 11), (&["11 wan0 b"], 11)]),
        ("no name, passed on", "", &[(&["11 eth1 a"], 11), (&["11 eth9 b"], 0), (&[], 0), (&["11 eth9 b"], 0)]),
        ("no name, passed on and back", "", &[(&["11 eth1 a"], 11), (&["11 eth9 b"], 0), (&["11 eth1 c"], 11)]),
    ];
    for &(what, name, looks) in cases {
        let given = [(11, name)];
        let mut scene = Scene::of(&[11], if name.is_empty() { &[] } else { &given });
        for (i, &(devices, want)) in looks.iter().enumerate() {
            let (found, news) = scene.look(devices);
            assert_eq!(found, want, "{what}, look {i}: {news}");
            // Kept over a restart.
            let kept = serde_json::to_string(&scene.known.values().collect::<Vec<_>>()).unwrap();
            let kept: Vec<Known> = serde_json::from_str(&kept).unwrap();
            scene.known = kept.into_iter().map(|known| (known.ifindex, known)).collect();
        }
    }
}

/// It was published while the device was there, which went before any dataplane ran.
#[test]
fn a_name_that_was_seen_at_the_publish_is_no_other_devices() {
    let mut scene = Scene { seen: true, ..Scene::of(&[11], &[(11, "eth1")]) };
    let gone = "eth1 is gone; ifindex 11 is stranger by now, which is left alone";
    assert_eq!(scene.look(&["11 stranger b"]), (0, gone.to_owned()));
    // Published again meanwhile.
    scene.seen = false;
    assert_eq!(scene.look(&["11 stranger b"]), (0, gone.to_owned()));
    assert_eq!(scene.look(&["11 stranger b", "14 eth1 a"]).0, 14);
    // Called otherwise, nothing is known of it.
    scene.given = vec![(11, "ge-0-0-0")];
    assert_eq!(scene.look(&["11 stranger b"]).0, 11);
}

#[test]
fn a_device_in_use_is_the_port_whatever_changes_on_it() {
    for given in [&[][..], &[(11, "eth1")]] {
        let mut scene = Scene::of(&[11], given);
        assert_eq!(scene.look(&["11 eth1 a"]).0, 11);
        scene.held.insert(11, 11);
        // Name and address in one step.
        assert_eq!(scene.look(&["11 wan0 b"]).0, 11);
        assert_eq!(scene.known[&11].device.as_ref().unwrap().name, "wan0");
        // Gone, and another one has its ifindex and its address.
        scene.gone(11);
        assert_eq!(scene.look(&["11 eth9 b"]).0, 0);
        assert_eq!(scene.look(&["11 wan0 c"]).0, 11, "made again");
    }
}

#[test]
fn no_device_is_two_ports() {
    // 12 never had a device of its name here: what has its ifindex now is 13 by its name.
    let mut scene = Scene::of(&[12, 13], &[(12, "eth2"), (13, "eth3")]);
    let (found, news) = scene.look(&["12 eth3 c"]);
    assert_eq!((found, news.as_str()), (0, "ifindex 12 is eth3 here, which is port 13"));
    // Nor where the other is not wanted.
    let mut scene = Scene::of(&[12], &[(12, "eth2"), (13, "eth3")]);
    assert_eq!(scene.look(&["12 eth3 c"]).0, 0);
    // Two names of one device.
    let mut scene = Scene::of(&[11, 12], &[(11, "uplink"), (12, "eth2")]);
    let (found, news) = scene.look(&["12 eth2 b =uplink"]);
    assert_eq!((found, news.as_str()), (0, "uplink is ifindex 12 here, which is port 12"));
    assert_eq!(scene.places(&["12 eth2 b =uplink"])[&12].device(), Some(12));
    // Followed to an ifindex that another port is given without a name, and renamed there.
    let mut scene = Scene::of(&[11, 14], &[(11, "eth1")]);
    let places = scene.places(&["14 eth1 a"]);
    assert_eq!((places[&11].device(), places[&14].device()), (Some(14), None));
    let places = scene.places(&["14 wan0 a"]);
    assert_eq!((places[&11].device(), places[&14].device()), (Some(14), None));
    // Names that change places.
    let mut scene = Scene::of(&[11, 12], &[(11, "eth1"), (12, "eth2")]);
    scene.places(&["11 eth1 a", "12 eth2 b"]);
    scene.held = BTreeMap::from([(11, 11), (12, 12)]);
    let places = scene.places(&["11 eth2 a", "12 eth1 b"]);
    assert_eq!((places[&11].device(), places[&12].device()), (Some(12), Some(11)));
}

#[test]
fn a_port_that_is_called_otherwise_begins_anew() {
    let mut scene = Scene::of(&[11], &[]);
    assert_eq!(scene.look(&["11 eth1 a"]).0, 11);
    assert_eq!(scene.look(&["11 eth9 b"]).0, 0);
    scene.given = vec![(11, "eth9")];
    assert_eq!(scene.look(&["11 eth9 b"]).0, 11);
    scene.given = vec![];
    assert_eq!(scene.look(&["11 eth1 c"]).0, 11);
}

#[test]
fn what_is_told_names_both_devices() {
    let mut scene = Scene::of(&[11], &[(11, "eth1")]);
    assert_eq!(scene.look(&["11 eth1 a"]).1, "");
    let told = "eth1 (ifindex 11, 02:00:00:00:00:0a) is gone; ifindex 11 is eth9 by now, which is left alone";
    assert_eq!(scene.look(&["11 eth9 b"]).1, told);
    assert_eq!(scene.look(&[]).1, "eth1 (ifindex 11, 02:00:00:00:00:0a) is gone");
    assert_eq!(scene.look(&["11 eth9 b", "14 eth1 c"]).1, "ifindex 14 by now; eth9 has ifindex 11 and is left alone");
    assert_eq!(scene.look(&["14 wan0 c"]).1, "ifindex 14 by now; called wan0 here, eth1 in the snapshot");
    let mut scene = Scene::of(&[11], &[(11, "ge-0-0-0")]);
    assert_eq!(scene.look(&["11 w0a a"]).1, "called w0a here, ge-0-0-0 in the snapshot");
    assert_eq!(Scene::of(&[11], &[]).look(&[]).1, "");
}

#[test]
fn a_driver_decides_where_name_or_address_is_another() {
    let all = [device("11 eth1 b")];
    let locate = |driver: &str| {
        let was =
            Sighting { ifindex: 11, name: "eth1".into(), mac: Mac::new([2, 0, 0, 0, 0, 1]), driver: "igb".into() };
        let known = Known { ifindex: 11, name: String::new(), named: false, device: Some(was) };
        let driver = |_| driver.to_owned();
        let mut known = BTreeMap::from([(11, known)]);
        Devices::new(&all, &driver).locate(&[11], &[], &mut known, |_| None)[&11].device()
    };
    assert_eq!((locate("igb"), locate("veth")), (Some(11), None));
}
