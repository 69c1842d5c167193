//! The lab of the bench: its hosts' devices receive in NAPI, which GRO turns on, so that native XDP can redirect to them.
//! Without it, or a program of their own, the kernel drops what is redirected and nobody is told.

use spanwire_lab::topology::{Lab, LabSpec, Port};

use super::error::Result;

/// One wire and one monitor, all far ends in NAPI.
///
/// # Errors
/// [`WireError`](super::error::WireError).
pub(crate) fn lay() -> Result<Lab> {
    let lab = Lab::create(LabSpec::default())?;
    let wire = lab.wire(0)?;
    for port in [&wire.a, &wire.b, lab.monitor(0)?] {
        receive_in_napi(&lab, port)?;
    }
    Ok(lab)
}

/// Turns NAPI on at the far end of a port, for all systems alike.
///
/// # Errors
/// ethtool says why not.
pub(super) fn receive_in_napi(lab: &Lab, port: &Port) -> Result<()> {
    lab.ns(port.host).exec("ethtool", &["-K", &port.host_name, "gro", "on"])?;
    Ok(())
}
