//! A [`Snapshot`] as a document.

use serde_json::Value;

use crate::control::model::{Interface, Snapshot};

/// Writes a snapshot document that [`parse`](super::parse) reads back to an equal snapshot.
///
/// One list entry per line, so that two exports compare well. The lists are always written. Of an interface, of what
/// a wire may have beside its name and ports, and of `generated_at`, what has its zero value is left out, as the
/// producer does; an empty `generated_at` would be an error to a Go reader.
#[must_use]
pub fn export(snapshot: &Snapshot) -> String {
    let mut out = format!(
        "{{\"version\":{},\"generation\":{},\"fib_generation\":{}",
        snapshot.version, snapshot.generation, snapshot.fib_generation
    );
    if !snapshot.generated_at.is_empty() {
        out += &format!(",\"generated_at\":{}", string(&snapshot.generated_at));
    }
    export_list(&mut out, "interfaces", &snapshot.interfaces, export_interface);
    export_list(&mut out, "mirror_configs", &snapshot.mirrors, |mirror| {
        format!(
            "{{\"ingress_ifindex\":{},\"output_ifindex\":{},\"rate\":{}}}",
            mirror.ingress_ifindex, mirror.output_ifindex, mirror.rate
        )
    });
    export_list(&mut out, "wires", &snapshot.wires, |wire| {
        let name = string(&wire.name);
        let more = if wire.link_loss_forwarding { ",\"link_loss_forwarding\":true" } else { "" };
        format!("{{\"name\":{name},\"a_ifindex\":{},\"b_ifindex\":{}{more}}}", wire.a_ifindex, wire.b_ifindex)
    });
    out += "}\n";
    out
}

fn export_list<T>(out: &mut String, key: &str, entries: &[T], entry: impl Fn(&T) -> String) {
    *out += &format!(",\n\"{key}\":[");
    for (i, e) in entries.iter().enumerate() {
        *out += if i == 0 { "\n" } else { ",\n" };
        *out += &entry(e);
    }
    out.push(']');
}

fn export_interface(interface: &Interface) -> String {
    let mut out = format!("{{\"name\":{}", string(&interface.name));
    if !interface.linux_name.is_empty() {
        out += &format!(",\"linux_name\":{}", string(&interface.linux_name));
    }
    let numbers = [
        ("ifindex", interface.ifindex),
        ("parent_ifindex", interface.parent_ifindex),
        ("vlan_id", interface.vlan_id.into()),
        ("native_vlan_id", interface.native_vlan_id.into()),
        ("mtu", interface.mtu),
    ];
    for (key, n) in numbers.into_iter().filter(|(_, n)| *n > 0) {
        out += &format!(",\"{key}\":{n}");
    }
    if let Some([a, b, c, d, e, f]) = interface.mac {
        out += &format!(",\"hardware_addr\":\"{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}\"");
    }
    out.push('}');
    out
}

fn string(text: &str) -> String {
    Value::from(text).to_string()
}
