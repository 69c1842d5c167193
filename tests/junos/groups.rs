//! Groups and ranges of interfaces in their places, as a device shows them.

use spanwire::control::builder::build;
use spanwire::control::junos::{expand, parse};

use super::{against, ports, tree};

/// A text, and what is left of it with groups and ranges in their places.
#[test]
fn groups_are_applied_as_a_device_does() {
    for (what, text, want) in [
        ("what is written wins", "groups { g { a { rate 5; b; } } } apply-groups g; a { b { c; } d; }", "a { b { c; } d; rate 5; }"),
        (
            "the first of a list wins, and what is taken over comes last",
            "groups { g { x { one; } forwarding-options { analyzer m { input { rate 1; } } } } h { x { two; } forwarding-options { analyzer m { input { rate 2; } } } } }
             apply-groups [ h g ]; forwarding-options { analyzer m { input { ingress; } } }",
            "forwarding-options { analyzer m { input { ingress; rate 2; } } } x { two; one; }",
        ),
        (
            "further down wins over further up",
            "groups { g { forwarding-options { analyzer m { input { rate 1; } } } } h { forwarding-options { analyzer m { input { rate 2; } } } } }
             apply-groups g; forwarding-options { analyzer m { apply-groups h; } }",
            "forwarding-options { analyzer m { input { rate 2; } } }",
        ),
        (
            "only what is below the level where it is applied",
            "groups { g { a { b { c; } d; } e; } } a { b { apply-groups g; } }",
            "a { b { c; } }",
        ),
        (
            "a wildcard stands for names that are written",
            "groups { g { a { <x*> { on; } <*2> { even; } y { off; } } } } apply-groups g; a { x1; x2 { own; } z; }",
            "a { x1 { on; } x2 { own; on; even; } z; y { off; } }",
        ),
        ("and for none that a group makes", "groups { g { a { x1 { own; } <x*> { on; } } } } apply-groups g; a;", "a { x1 { own; } }"),
        (
            "a group is kept away",
            "groups { g { a { <*> { b { c; } } } } h { a { <*> { d; } } } } apply-groups [ g h ]; a { x { apply-groups-except g; } y { b { apply-groups-except [ g ]; } } }",
            "a { x { d; } y { b; d; } }",
        ),
        (
            "groups apply groups",
            "groups { g { a { apply-groups h; one; } } h { a { two; } b; } i { apply-groups [ g h ]; } } apply-groups i;",
            "a { one; two; } b;",
        ),
        (
            "deactivated statements, groups and applications",
            "groups { g { a { one; inactive: two; } b; } inactive: h { c; } } apply-groups g; a { inactive: three; inactive: one; } inactive: apply-groups h;",
            "a { inactive: three; one; } b;",
        ),
        (
            "one action, one value, one list",
            "groups { g { firewall { filter f { term t { from { tcp-flags syn; protocol udp; } then { discard; count c; } } } } interfaces { <*> { unit 0 { vlan-id 5; } } } } }
             apply-groups g; firewall { filter f { term t { from { tcp-flags ack; protocol tcp; } then { accept; } } } } interfaces { e0 { unit 0 { vlan-id 6; } } e1 { unit 0; } }",
            "firewall { filter f { term t { from { tcp-flags ack; protocol [ tcp udp ]; } then { accept; count c; } } } } interfaces { e0 { unit 0 { vlan-id 6; } } e1 { unit 0 { vlan-id 5; } } }",
        ),
        (
            "ranges",
            "interfaces { interface-range r { member \"e[0-1]\"; unit 0 { vlan-id 7; family any; } } interface-range s { member e1; mtu 9000; unit 0 { vlan-id 8; } } e1 { unit 0 { family inet; } } }
             security { forwarding-options { secure-wire w { interface r.0; } } } x { interface r; }",
            "interfaces { e1 { unit 0 { family { inet; any; } vlan-id 7; } mtu 9000; } e0 { unit 0 { vlan-id 7; family any; } } }
             security { forwarding-options { secure-wire w { interface [ e0.0 e1.0 ]; } } } x { interface r; }",
        ),
    ] {
        let found = expand(&tree(text));
        assert_eq!((found.faults.as_slice(), found.diagnostics.as_slice()), (&[][..], &[][..]), "{what}");
        assert_eq!(found.config, tree(want), "{what}\n{}", found.config.to_braces());
        let again = expand(&found.config);
        assert_eq!(again.config, found.config, "{what}: what is expanded stays as it is");
    }
}

#[test]
fn groups_that_cannot_be_applied_are_refused_by_line() {
    let chain = |n: usize| {
        let link = |at: usize| format!("set groups g{at} apply-groups g{}\n", at + 1);
        format!("{}set groups g{n} a\nset apply-groups g0", (0..n).map(link).collect::<String>())
    };
    let fan = |n: usize| {
        let names: String = (0..n).map(|i| format!("n{i}; ")).collect();
        format!("groups {{ g {{ a {{ <*> {{ {names} }} }} }} }} apply-groups g; a {{ {names} }}")
    };
    for (text, want) in [
        ("apply-groups \"${node}\";".to_owned(), "line 1 column 14: apply-groups \"${node}\": there is no such group"),
        (
            "groups { g { when { time; } a; } }\napply-groups g;".to_owned(),
            "line 2 column 14: apply-groups \"g\": its \"when\"",
        ),
        (
            "groups { g { apply-groups g; } } apply-groups g;".to_owned(),
            "line 1 column 27: apply-groups \"g\": it is applied in itself",
        ),
        (chain(40), "line 32 column 29: apply-groups \"g32\": it is applied in 32 groups"),
        (fan(1000), "groups: they give more than 500000 statements"),
    ] {
        let found = expand(&parse(text.as_bytes()).expect("a configuration"));
        let faults: Vec<&str> = found.faults.iter().map(|fault| fault.as_str()).collect();
        assert!(matches!(*faults, [only] if only.contains(want)), "{want}: {faults:?}");
        assert!(!build(&tree(&text), ports()).admit_or_omit(None).accepted(), "{want}: not for want of a table alone");
    }
    let unused = "groups { g { apply-groups lost; } } description apply-groups;";
    assert_eq!(against(&build(&tree(unused), ports())), "");
}
